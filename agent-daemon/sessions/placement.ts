/**
 * What the agent keeps on disk of one session at one generation, and where: a small file that is replaced atomically
 * with fsync. Together with the container's name and labels it is all that a restarted agent needs. Holds no secret; the
 * init's session key has a file of its own. Fields are only added: an older agent's file is read by a newer one.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { idPattern } from '../../schema/ids.ts';
import { ExitReason } from '../../schema/protocol/events.ts';
import { KernelSpec } from '../../schema/protocol/intents.ts';
import { type Disk, readIfThere, replaceDurably, syncDirectory, writeFully } from '../disk.ts';
import type { SessionKey } from '../init/session-key.ts';

const count = z.int().nonnegative();

/** How a session ended, as it goes into the `ended` event. */
export const End = z.object({
  reason: ExitReason,
  exitCode: z.int().min(0).max(255).optional(),
  signal: z.string().max(16).optional(),
  outputBytes: z.object({ stdout: count, stderr: count, missing: count }).optional(),
  atMs: count,
});
export type End = z.infer<typeof End>;

/** That it was asked to end, by whom and how. */
export const StopOrder = z.object({
  cause: z.enum(['stop', 'timeout']),
  force: z.boolean(),
  graceMs: count,
  atMs: count,
});
export type StopOrder = z.infer<typeof StopOrder>;

export const PlacementFile = z.object({
  sessionId: z.string(),
  generation: count,
  spec: KernelSpec,
  /** Content id of the image that it runs. */
  imageId: z.string().optional(),
  /** Variables of that image, which each of its processes gets: they are started without asking the engine. */
  imageEnv: z.array(z.string()).optional(),
  network: z.string().optional(),
  containerId: z.string().optional(),
  /** The container was started in advance, under this id: places on the host that it saw then keep that name. */
  warmId: z.string().regex(idPattern('warm')).optional(),
  /** With a kernel of Jupyter in it, which waits under this name. */
  kernelInAdvance: z.string().max(64).optional(),
  /** How the init is reached, when not by its socket. */
  transport: z.literal('stdio').optional(),
  /** CLOCK_BOOTTIME and Unix time of the main process's start. */
  startedBootMs: count.optional(),
  startedAtMs: count.optional(),
  stop: StopOrder.optional(),
  end: End.optional(),
  /** It could not be started. */
  failed: z.object({ code: z.string(), detail: z.string(), retryable: z.boolean() }).optional(),
  /** Kinds of events that are in the journal: none is recorded twice but by a crash between the two files. */
  recorded: z.array(z.string()),
  /** Container and network are gone; home and output stay for their time. */
  removedAtMs: count.optional(),
});
export type PlacementFile = z.infer<typeof PlacementFile>;

export interface PlacementRef {
  sessionId: string;
  generation: number;
  warmId?: string | undefined;
}

/** What places of a container on the host are called: directory of the init's socket, file of its key. */
export function hostNameOf({ sessionId, generation, warmId }: PlacementRef): string {
  return warmId ?? `${sessionId}.g${generation}`;
}

const keyBytes = 32;
/** Of the files of what a session has beside its main process. */
const suffixes = ['.kernels', '.terminals'] as const;
const namePattern = /^(ses_[0-9a-z_]+)\.g(\d+)\.json$/;

/** The directory of these files. */
export class PlacementStore {
  readonly #dir: string;
  readonly #disk: Disk;
  readonly #left = new Set<string>();

  constructor(dir: string, disk: Disk) {
    this.#dir = dir;
    this.#disk = disk;
  }

  /**
   * Every placement on disk; a file that says nothing of use is reported to `onDamaged` and left alone. Rejects where the disk
   * fails: what was only not read is no lost session.
   */
  async load(onDamaged: (path: string, error: unknown) => void): Promise<PlacementFile[]> {
    await this.#disk.mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const found: PlacementFile[] = [];
    for (const name of await this.#disk.readdir(this.#dir)) {
      if (suffixes.some((suffix) => name.endsWith(suffix))) this.#left.add(join(this.#dir, name));
      if (!namePattern.test(name)) continue;
      const path = join(this.#dir, name);
      const text = (await this.#disk.readFile(path)).toString();
      try {
        found.push(PlacementFile.parse(JSON.parse(text)));
      } catch (error) {
        onDamaged(path, error);
      }
    }
    return found;
  }

  /** Resolves when the file is on the disk. */
  async save(placement: PlacementFile): Promise<void> {
    await replaceDurably(this.#disk, `${this.#base(placement)}.json`, JSON.stringify(placement));
  }

  /** The session key of the placement's init; undefined when none was saved, or not wholly. */
  async findKey(ref: PlacementRef): Promise<SessionKey | undefined> {
    const bytes = await readIfThere(this.#disk, this.#keyPath(ref));
    if (bytes?.byteLength !== 1 + keyBytes) return undefined;
    return { bytes: bytes.subarray(1), confirmed: bytes[0] === 1 };
  }

  /** Resolves when the key is on the disk: one byte that says whether it is confirmed, and the key, written in place. */
  async saveKey(ref: PlacementRef, key: SessionKey): Promise<void> {
    const file = await this.#disk.open(this.#keyPath(ref), 'create', 0o600);
    try {
      await writeFully(file, Buffer.from([key.confirmed ? 1 : 0, ...key.bytes]), 0);
      await file.datasync();
    } finally {
      await file.close();
    }
    if (!key.confirmed) await syncDirectory(this.#disk, this.#dir);
  }

  async removeKey(ref: PlacementRef): Promise<void> {
    await this.#disk.rm(this.#keyPath(ref), { force: true });
  }

  /** Of containers that were started in advance and have a key here. */
  async warmIds(): Promise<string[]> {
    const names = await this.#disk.readdir(this.#dir);
    return names.flatMap((name) => /^(wrm_[0-9a-z]+)\.key$/.exec(name)?.[1] ?? []);
  }

  /** Where the kernels of the session are kept, and whether an earlier agent process left some. */
  kernelsOf(ref: PlacementRef): { path: string; wereLeft: boolean } {
    return this.#fileOf(ref, '.kernels');
  }

  /** As `kernelsOf`. */
  terminalsOf(ref: PlacementRef): { path: string; wereLeft: boolean } {
    return this.#fileOf(ref, '.terminals');
  }

  #fileOf(ref: PlacementRef, suffix: (typeof suffixes)[number]): { path: string; wereLeft: boolean } {
    const path = `${this.#base(ref)}${suffix}`;
    return { path, wereLeft: this.#left.has(path) };
  }

  async remove(ref: PlacementRef): Promise<void> {
    await this.#disk.rm(`${this.#base(ref)}.json`, { force: true });
  }

  #keyPath(ref: PlacementRef): string {
    return join(this.#dir, `${hostNameOf(ref)}.key`);
  }

  #base({ sessionId, generation }: PlacementRef): string {
    return join(this.#dir, `${sessionId}.g${generation}`);
  }
}
