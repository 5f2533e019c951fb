/** What is asked of object storage. */
export interface BlobEntry {
  key: string;
  /** Empty where they were not asked for. */
  notes: Readonly<Record<string, string>>;
}

export interface BlobPage {
  entries: BlobEntry[];
  /** Prefixes up to the delimiter, when one was given. */
  folders: string[];
  /** Where the list goes on. */
  next: string | undefined;
}

export interface ListOptions {
  cursor?: string | undefined;
  delimiter?: string;
  /** False: their keys alone. */
  notes?: boolean;
}

/** Functions without a `this`: they may be handed on one by one. */
export interface Blobs {
  /** Stores it under a key that has nothing yet; false, and nothing changed, when it has. */
  readonly create: (key: string, bytes: Uint8Array, notes: Readonly<Record<string, string>>) => Promise<boolean>;
  /** The notes of an object; undefined when there is none. */
  readonly notesOf: (key: string) => Promise<Readonly<Record<string, string>> | undefined>;
  /** An object as a whole; undefined when there is none, or a larger one than `mostBytes`. */
  readonly read: (key: string, mostBytes: number) => Promise<Uint8Array | undefined>;
  /** At most 1,000 objects whose keys begin so, in order of their keys. */
  readonly list: (prefix: string, options?: ListOptions) => Promise<BlobPage>;
  /** At most 1,000 keys; those that are not there are passed over. */
  readonly remove: (keys: readonly string[]) => Promise<void>;
}

/** Object storage does not answer, or not as it should. Its message is for the log. */
export class BlobsUnavailable extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'BlobsUnavailable';
  }
}

/** The same, failing by BlobsUnavailable alone. */
export function guarded({ create, notesOf, read, list, remove }: Blobs): Blobs {
  return {
    create: guard(create),
    notesOf: guard(notesOf),
    read: guard(read),
    list: guard(list),
    remove: guard(remove),
  };
}

function guard<Wish extends unknown[], Answer>(
  ask: (...wish: Wish) => Promise<Answer>,
): (...wish: Wish) => Promise<Answer> {
  return async (...wish) => {
    try {
      return await ask(...wish);
    } catch (error) {
      if (error instanceof BlobsUnavailable) throw error;
      throw new BlobsUnavailable(String(error));
    }
  };
}
