/**
 * The door to object storage: R2's bucket LOGS in production, the same by Miniflare in a directory of the home on one
 * machine. Keys are paths; what is small and must be known without reading an object goes into its notes.
 */

export interface BlobEntry {
  key: string;
  notes: Readonly<Record<string, string>>;
}

export interface BlobPage {
  entries: BlobEntry[];
  /** Prefixes up to the delimiter, when one was given. */
  folders: string[];
  /** Where the list goes on. */
  next: string | undefined;
}

export interface Blobs {
  /** Stores it under a key that has nothing yet; false, and nothing changed, when it has. */
  create(key: string, bytes: Uint8Array, notes: Record<string, string>): Promise<boolean>;
  /** The notes of an object; undefined when there is none. */
  notesOf(key: string): Promise<Readonly<Record<string, string>> | undefined>;
  read(key: string): Promise<ReadableStream<Uint8Array> | undefined>;
  /** Objects whose keys begin so, in order of their keys. */
  list(prefix: string, options?: { cursor?: string | undefined; delimiter?: string }): Promise<BlobPage>;
  /** At most 1,000 keys. */
  delete(keys: readonly string[]): Promise<void>;
}

/** Undefined where no bucket is bound: nothing is handed over then. */
export function blobsOf(env: Env): Blobs | undefined {
  const bucket = (env as { LOGS?: R2Bucket }).LOGS;
  return bucket && blobsIn(bucket);
}

function blobsIn(bucket: R2Bucket): Blobs {
  return {
    async create(key, bytes, customMetadata) {
      const onlyIf = new Headers({ 'if-none-match': '*' });
      return (await bucket.put(key, bytes, { onlyIf, customMetadata })) !== null;
    },
    async notesOf(key) {
      const found = await bucket.head(key);
      return found === null ? undefined : (found.customMetadata ?? {});
    },
    async read(key) {
      return (await bucket.get(key))?.body as ReadableStream<Uint8Array> | undefined;
    },
    async list(prefix, { cursor, delimiter } = {}) {
      const page = await bucket.list({
        prefix,
        include: ['customMetadata'],
        ...(cursor === undefined ? {} : { cursor }),
        ...(delimiter === undefined ? {} : { delimiter }),
      });
      return {
        entries: page.objects.map(({ key, customMetadata }) => ({ key, notes: customMetadata ?? {} })),
        folders: page.delimitedPrefixes,
        next: page.truncated ? page.cursor : undefined,
      };
    },
    async delete(keys) {
      if (keys.length > 0) await bucket.delete([...keys]);
    },
  };
}
