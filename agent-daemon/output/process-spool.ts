/** Everything kept of one process: its record and the logs of its two streams, in one directory. */
import { join } from 'node:path';
import type { Failpoints } from '../../schema/ports.ts';
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import { type Disk, isMissing, orClose } from '../disk.ts';
import { type ProcessExit, type ProcessRecord, ProcessRecordFile } from './process-record.ts';
import type { Gap } from './record.ts';
import type { StreamName } from './segment.ts';
import type { StreamLogContext } from './log-context.ts';
import { StreamLog } from './stream-log.ts';

/** Who feeds the logs, and must hear what is safe. */
export interface SpoolSource {
  stored(stream: StreamName, offset: number): void;
  /** A log that was full continues at `offset`. */
  continueAt(stream: StreamName, offset: number): void;
}

export type SpoolContext = Pick<StreamLogContext, 'disk' | 'clock' | 'timers' | 'log' | 'budget' | 'dirty'> & {
  failpoints: Failpoints<AgentFailpoint>;
};

const recordName = 'process';
const silent: SpoolSource = { stored: () => undefined, continueAt: () => undefined };

export class ProcessSpool {
  readonly dir: string;
  readonly #context: SpoolContext;
  readonly #file: ProcessRecordFile;
  #record: ProcessRecord;
  /** The end of the process is on the disk, and not only in memory, which is what other changes of the record are made of. */
  #isExitKept: boolean;
  #source = silent;
  #stdout!: StreamLog;
  #stderr!: StreamLog;

  private constructor(dir: string, context: SpoolContext, file: ProcessRecordFile, record: ProcessRecord) {
    this.dir = dir;
    this.#context = context;
    this.#file = file;
    this.#record = record;
    this.#isExitKept = record.exit !== undefined;
  }

  /** Makes the spool of a new process; its record is there before anything else. */
  static async create(dir: string, context: SpoolContext, record: ProcessRecord): Promise<ProcessSpool> {
    const made = await context.disk.mkdir(dir, { recursive: true, mode: 0o700 });
    const file = await ProcessRecordFile.create(context.disk, join(dir, recordName), record);
    const spool = new ProcessSpool(dir, context, file, record);
    return orClose(file, () => spool.#openLogs({ fresh: made !== undefined }));
  }

  /** The spool in `dir` as whatever death left it; undefined when there is none. */
  static async open(dir: string, context: SpoolContext): Promise<ProcessSpool | undefined> {
    const file = await findFile(context.disk, dir);
    if (file?.record === undefined) {
      await file?.close();
      return undefined;
    }
    const spool = new ProcessSpool(dir, context, file, file.record);
    return orClose(file, () => spool.#openLogs({ fresh: false }));
  }

  /** The record of a process that nobody holds, without its logs; undefined when there is none. */
  static async peek(disk: Disk, dir: string): Promise<ProcessRecord | undefined> {
    const file = await findFile(disk, dir);
    await file?.close();
    return file?.record;
  }

  get record(): ProcessRecord {
    return this.#record;
  }

  log(stream: StreamName): StreamLog {
    return stream === 'stdout' ? this.#stdout : this.#stderr;
  }

  /** From now on `source` hears what is stored; undefined: nobody does. */
  feedFrom(source: SpoolSource | undefined): void {
    this.#source = source ?? silent;
  }

  /** Resolves when all that was given to the logs is stored. */
  async settled(): Promise<void> {
    await Promise.all([this.#stdout.settled(), this.#stderr.settled()]);
  }

  /** Records the end of the process, durably: all its output is in the logs. */
  async exited(exit: ProcessExit): Promise<void> {
    if (!this.#isExitKept) {
      await this.#context.failpoints.before('spool.exit');
      await this.#write({ ...this.#record, exit: this.#record.exit ?? exit });
      await this.#file.sync();
      this.#isExitKept = true;
      await this.#context.failpoints.after('spool.exit');
      if (this.#context.failpoints.unknown('spool.exit')) throw new Error('spool.exit: the answer was lost');
    }
    this.#stdout.finish();
    this.#stderr.finish();
  }

  /** Bytes per stream, and how many of them are not kept. */
  get totals(): { stdout: number; stderr: number; missing: number } {
    const missing = this.#stdout.missing + this.#stderr.missing;
    return { stdout: this.#stdout.end, stderr: this.#stderr.end, missing };
  }

  get sizeBytes(): number {
    return this.#stdout.sizeBytes + this.#stderr.sizeBytes;
  }

  async close(): Promise<void> {
    const closed = await Promise.allSettled([this.#stdout.close(), this.#stderr.close()]);
    await this.#file.close();
    for (const each of closed) if (each.status === 'rejected') throw each.reason;
  }

  /** `fresh`: the directory is new, so there is nothing to recover. */
  async #openLogs({ fresh }: { fresh: boolean }): Promise<this> {
    const context = this.#logContext();
    const { output, holes, exit } = this.#record;
    [this.#stdout, this.#stderr] = await Promise.all([
      StreamLog.open(this.dir, 'stdout', output, context, { fresh, hole: holes.stdout }),
      StreamLog.open(this.dir, 'stderr', output, context, { fresh, hole: holes.stderr }),
    ]);
    if (exit !== undefined) {
      this.#stdout.finish();
      this.#stderr.finish();
    }
    return this;
  }

  #logContext(): StreamLogContext {
    const { failpoints } = this.#context;
    return {
      ...this.#context,
      aroundWrite: async (write) => {
        await failpoints.before('spool.append');
        await write();
        await failpoints.after('spool.append');
        if (failpoints.unknown('spool.append')) throw new Error('spool.append: the answer was lost');
      },
      keepHole: (stream, hole) => this.#keepHole(stream, hole),
      onStored: (stream, offset) => this.#source.stored(stream, offset),
      onRoom: (stream, offset) => this.#source.continueAt(stream, offset),
    };
  }

  async #keepHole(stream: StreamName, hole: Gap | undefined): Promise<void> {
    const before = this.#record.holes[stream];
    const reason = hole?.reason === 'disk-full' ? ('disk-full' as const) : ('damaged' as const);
    try {
      await this.#write(withHole(this.#record, stream, hole && { from: hole.from, to: hole.to, reason }));
    } catch (error) {
      // Nothing was given up, and what is written next must not say so.
      this.#record = withHole(this.#record, stream, before);
      throw error;
    }
  }

  #write(record: ProcessRecord): Promise<void> {
    this.#record = record;
    return this.#file.write(record);
  }
}

function withHole(record: ProcessRecord, stream: StreamName, hole: ProcessRecord['holes']['stdout']): ProcessRecord {
  const { [stream]: _, ...others } = record.holes;
  return { ...record, holes: hole === undefined ? others : { ...others, [stream]: hole } };
}

/** The record's file in `dir`, if there is one. */
async function findFile(disk: Disk, dir: string): Promise<ProcessRecordFile | undefined> {
  const path = join(dir, recordName);
  try {
    await disk.stat(path);
  } catch (error) {
    // One that could not be looked at is not one that is not there: another would be made over it.
    if (isMissing(error) || (error as NodeJS.ErrnoException).code === 'ENOTDIR') return undefined;
    throw error;
  }
  return ProcessRecordFile.open(disk, path);
}
