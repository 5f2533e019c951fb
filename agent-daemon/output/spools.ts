/**
 * All spools of the agent: `<root>/<session>/g<generation>/<process>/`. Opens and makes them, brings them to the disk
 * at most a second after they were written, and removes the oldest of ended sessions by age and by total size. It must
 * never remove what a live session wrote: that is the policy of its own log.
 */
import { join } from 'node:path';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Timers } from '../../schema/ports.ts';
import { type Disk, isMissing } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';
import { Passing, findKept, markEnded, wasKept, withEach } from '../retention.ts';
import type { ProcessExit, ProcessRecord } from './process-record.ts';
import { ProcessSpool, type SpoolContext } from './process-spool.ts';
import type { Budget, Syncable } from './log-context.ts';
import { isUnreadable, readAgain } from './read-again.ts';

export interface SpoolRef {
  sessionId: string;
  generation: number;
  processId: string;
}

export interface SpoolsOptions {
  root: string;
  totalBytes: number;
  disk: Disk;
  clock: Clock;
  timers: Timers;
  loops: Loops;
  log: Log;
  failpoints: Failpoints<AgentFailpoint>;
}

/** What a host's power loss may cost of output. */
const syncEveryMs = 500;
const sweepEveryMs = 600_000;
const keepEndedMs = 7 * 24 * 3_600_000;
/** Looking for what may go costs a walk over all sessions. */
const evictEveryMs = 2_000;
const endedName = 'ended';
/** Beside it, when all of a generation is in object storage. */
const handedOverName = 'handed-over';
const ownNames = new Set([endedName, handedOverName]);

interface Ended {
  path: string;
  endedAtMs: number;
}

export class Spools {
  readonly #options: SpoolsOptions;
  readonly #disk: Disk;
  readonly #context: SpoolContext;
  readonly #open = new Map<string, Promise<ProcessSpool>>();
  readonly #opening = new Map<string, Promise<ProcessSpool | undefined>>();
  readonly #dirty = new Set<Syncable>();
  #usedBytes = 0;
  #syncing: Promise<void> = Promise.resolve();
  #syncPlanned = false;
  #evictNotBeforeMs = 0;
  #stopped = false;
  #onEnded: () => void = () => undefined;
  readonly #passing: Passing;
  #sweeping: Loop | undefined;

  constructor(options: SpoolsOptions) {
    this.#options = options;
    this.#disk = options.disk;
    this.#passing = new Passing(() => options.clock.bootMs());
    const { disk, clock, timers, log, failpoints } = options;
    const budget = this.#budget();
    this.#context = { disk, clock, timers, log, failpoints, budget, dirty: (dirty) => this.#markDirty(dirty) };
  }

  /** Measures what is there, and begins to sweep. */
  async start(): Promise<void> {
    await this.#disk.mkdir(this.#options.root, { recursive: true, mode: 0o700 });
    this.#usedBytes += await this.#sizeOf(this.#options.root);
    this.#sweeping = this.#options.loops.every('sweep of output', sweepEveryMs, () => this.#sweep());
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Makes the spool of a new process, or returns the one that is there. */
  async create(ref: SpoolRef, record: ProcessRecord): Promise<ProcessSpool> {
    return (await this.openLive(ref)) ?? this.make(ref, record);
  }

  /** Makes the spool of a process of which `openLive` found nothing. */
  async make(ref: SpoolRef, record: ProcessRecord): Promise<ProcessSpool> {
    const dir = this.#dir(ref);
    await this.#opening.get(dir);
    return this.#open.get(dir) ?? this.#hold(dir, ProcessSpool.create(dir, this.#context, record));
  }

  /** The spool of a process of a live generation, to write to. */
  async openLive(ref: SpoolRef): Promise<ProcessSpool | undefined> {
    const dir = this.#dir(ref);
    const known = this.#open.get(dir) ?? this.#opening.get(dir);
    if (known !== undefined) return known;
    const opening = ProcessSpool.open(dir, this.#context)
      .then((spool) => (spool === undefined ? undefined : this.#hold(dir, Promise.resolve(spool))))
      .finally(() => this.#opening.delete(dir));
    this.#opening.set(dir, opening);
    return opening;
  }

  /**
   * The spool of a process to read from, live or ended; call `done` when it is not needed any more. Until a process has
   * ended there is one spool for its writer and all readers, whoever comes first: after a restart a reader may be there
   * before the init has dialled in, and what is opened twice is neither told of what is written nor safe to recover.
   */
  async read(ref: SpoolRef): Promise<{ spool: ProcessSpool; done(): Promise<void> } | undefined> {
    const isOver = !this.#open.has(this.#dir(ref)) && (await this.#isOver(ref));
    const spool = await (isOver ? ProcessSpool.open(this.#dir(ref), this.#context) : this.openLive(ref));
    if (spool === undefined) return undefined;
    return { spool, done: () => (isOver ? spool.close() : Promise.resolve()) };
  }

  /** Lets go of a process that has ended: what is kept of it is on the disk. */
  async close(ref: SpoolRef): Promise<void> {
    const dir = this.#dir(ref);
    const held = await this.#open.get(dir);
    // What the disk refused now it refuses for good: nobody comes back for it.
    await held?.close().catch((error: unknown) => this.#notOnDisk(dir, error));
    this.#open.delete(dir);
  }

  /** Ids of the processes of a generation of which something is kept. */
  async processes(sessionId: string, generation: number): Promise<string[]> {
    const names = await list(this.#disk, join(this.#options.root, sessionId, `g${generation}`));
    return names.filter((name) => !ownNames.has(name));
  }

  /** Generations of which something is kept that is not in object storage yet. `isOver`: nothing will be written any more. */
  async generations(): Promise<{ sessionId: string; generation: number; isOver: boolean }[]> {
    const kept = (await this.#all()).filter(({ names }) => !names.includes(handedOverName));
    return kept.map(({ sessionId, generation, names }) => ({
      sessionId,
      generation,
      isOver: names.includes(endedName),
    }));
  }

  /** All of an ended generation is in object storage: nobody looks at it for that any more. */
  async markHandedOver(sessionId: string, generation: number): Promise<void> {
    await this.#disk.writeFile(join(this.#options.root, sessionId, `g${generation}`, handedOverName), '');
  }

  /** Calls `task` whenever a generation has ended. */
  whenEnded(task: () => void): void {
    this.#onEnded = task;
  }

  /** Where everything of a process lies. */
  dirOf(ref: SpoolRef): string {
    return this.#dir(ref);
  }

  /** Newest generation of a session of which output is kept. */
  async newestGeneration(sessionId: string): Promise<number | undefined> {
    const names = await list(this.#disk, join(this.#options.root, sessionId));
    const generations = names.flatMap((name) => (/^g\d+$/.test(name) ? [Number(name.slice(1))] : []));
    return generations.length === 0 ? undefined : Math.max(...generations);
  }

  /** No process of the generation is alive: those of which no end was told, as when the host lost its power, ended now. */
  async endAll(sessionId: string, generation: number, exit: ProcessExit): Promise<void> {
    for (const processId of await this.processes(sessionId, generation)) {
      const ref = { sessionId, generation, processId };
      const isHeld = this.#open.has(this.#dir(ref));
      if (!isHeld && (await this.#isOver(ref))) continue;
      const spool = await this.openLive(ref);
      await spool?.settled();
      await spool?.exited(exit);
      await this.close(ref);
    }
  }

  /** From now on the retention of ended sessions counts. */
  async generationEnded(sessionId: string, generation: number): Promise<void> {
    const dir = join(this.#options.root, sessionId, `g${generation}`);
    for (const processId of await this.processes(sessionId, generation)) {
      await this.close({ sessionId, generation, processId });
    }
    if ((await list(this.#disk, dir)).length > 0)
      await markEnded(this.#disk, join(dir, endedName), this.#options.clock.nowMs());
    this.#onEnded();
  }

  /** Everything of a session that has ended goes now. */
  async removeSession(sessionId: string): Promise<void> {
    await this.#remove(join(this.#options.root, sessionId));
  }

  /** Forgets one ended process of a live session. */
  async forget(ref: SpoolRef): Promise<void> {
    await this.close(ref);
    await this.#remove(this.#dir(ref));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#sweeping?.stop();
    const spools = await Promise.all(this.#open.values());
    await Promise.all(spools.map((spool) => spool.close()));
    await this.#syncing;
  }

  #dir({ sessionId, generation, processId }: SpoolRef): string {
    return join(this.#options.root, sessionId, `g${generation}`, processId);
  }

  #hold(dir: string, spool: Promise<ProcessSpool>): Promise<ProcessSpool> {
    this.#open.set(dir, spool);
    spool.catch(() => this.#open.delete(dir));
    return spool;
  }

  /** True when nothing will be written any more. */
  async #isOver(ref: SpoolRef): Promise<boolean> {
    const dir = this.#dir(ref);
    if ((await findKept(this.#disk, join(dir, '..', endedName))) !== undefined) return true;
    return (await ProcessSpool.peek(this.#disk, dir))?.exit !== undefined;
  }

  #budget(): Budget {
    const isOver = () => this.#usedBytes > this.#options.totalBytes;
    const add = (bytes: number) => {
      this.#usedBytes += bytes;
      if (isOver()) void this.#evict();
    };
    return {
      get over() {
        return isOver();
      },
      add,
    };
  }

  #markDirty(log: Syncable): void {
    this.#dirty.add(log);
    if (this.#syncPlanned || this.#stopped) return;
    this.#syncPlanned = true;
    this.#options.timers.after(syncEveryMs, () => {
      this.#syncing = this.#syncing.then(() => this.#sync());
    });
  }

  async #sync(): Promise<void> {
    this.#syncPlanned = false;
    const logs = [...this.#dirty];
    this.#dirty.clear();
    await Promise.all(
      logs.map(async (log) => {
        try {
          await log.sync();
        } catch (error) {
          this.#notOnDisk(log.dir, error);
        }
      }),
    );
  }

  #notOnDisk(dir: string, error: unknown): void {
    this.#options.log.error('output is not on the disk yet', { dir, error: String(error) });
  }

  async #sweep(): Promise<void> {
    const passedMs = this.#passing.lap();
    await withEach(await this.#ended(), async ({ path }) => {
      if (await wasKept(this.#disk, join(path, endedName), passedMs, keepEndedMs)) await this.#remove(path);
    });
  }

  /** Over the total: ended sessions go, the oldest first. Live ones are left to the policy of their logs. */
  async #evict(): Promise<void> {
    if (this.#options.clock.bootMs() < this.#evictNotBeforeMs) return;
    this.#evictNotBeforeMs = Number.POSITIVE_INFINITY;
    try {
      await withEach(await this.#ended(), async ({ path }) => {
        if (this.#usedBytes > this.#options.totalBytes) await this.#remove(path);
      });
    } catch (error) {
      this.#options.log.error('old output could not be removed', { error: String(error) });
    } finally {
      this.#evictNotBeforeMs = this.#options.clock.bootMs() + evictEveryMs;
    }
  }

  /** Generations that have ended, the oldest end first. */
  async #ended(): Promise<Ended[]> {
    const found: Ended[] = [];
    for (const { path, names } of await this.#all()) {
      const kept = names.includes(endedName) ? await findKept(this.#disk, join(path, endedName)) : undefined;
      if (kept !== undefined) found.push({ path, endedAtMs: kept.endedAtMs });
    }
    return found.toSorted((a, b) => a.endedAtMs - b.endedAtMs);
  }

  /** All generations, with the names in their directories. What can not be read now is passed over, and said. */
  async #all(): Promise<{ sessionId: string; generation: number; path: string; names: string[] }[]> {
    const found = [];
    const { root, log } = this.#options;
    const namesIn = (path: string) =>
      list(this.#disk, path).catch((error: unknown) => {
        log.warn('a directory of output can not be read', { path, error: String(error) });
        return undefined;
      });
    for (const sessionId of await list(this.#disk, root))
      for (const name of (await namesIn(join(root, sessionId))) ?? []) {
        const generation = Number(/^g(\d+)$/.exec(name)?.[1] ?? Number.NaN);
        const path = join(root, sessionId, name);
        const names = Number.isNaN(generation) ? undefined : await namesIn(path);
        if (names !== undefined) found.push({ sessionId, generation, path, names });
      }
    return found;
  }

  /** Bytes of the output files below a directory, as the logs count them: records of processes do not count, nor what can not be read. */
  async #sizeOf(path: string): Promise<number> {
    let bytes = 0;
    const names = await readAgain(this.#options, () => list(this.#disk, path)).catch((error: unknown) => {
      if (!isUnreadable(error)) throw error;
      return [];
    });
    for (const name of names) {
      const below = join(path, name);
      if (/^std(out|err)-/.test(name)) bytes += (await this.#disk.stat(below).catch(() => undefined))?.size ?? 0;
      else bytes += await this.#sizeOf(below);
    }
    return bytes;
  }

  async #remove(path: string): Promise<void> {
    const bytes = await this.#sizeOf(path);
    await this.#disk.rm(path, { recursive: true, force: true });
    this.#usedBytes -= bytes;
    // An empty directory above goes as well: the session's, when its last generation went. Others may do so at the same time,
    // or make something in it.
    const above = join(path, '..');
    if (above !== this.#options.root) await this.#disk.rmdir(above).catch(unlessInUse);
  }
}

/** @throws what a removal of an empty directory fails of, but that it is not empty, or gone */
function unlessInUse(error: unknown): void {
  if (!isMissing(error) && (error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') throw error;
}

/** Names in a directory; none when it does not exist. */
async function list(disk: Disk, path: string): Promise<string[]> {
  try {
    return await disk.readdir(path);
  } catch (error) {
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === 'ENOTDIR') return [];
    throw error;
  }
}
