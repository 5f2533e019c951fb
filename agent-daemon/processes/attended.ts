/**
 * A process that is there for one connection (of SSH, to a port) and ends with it. The init spawns it like every other; its
 * output comes by a spool, small and let go of as it is read, so that whoever does not read makes it wait. Nobody can
 * attach to it again. When its connection goes first, it hears of that as from a terminal that hangs up.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Log } from '../../schema/ports.ts';
import type { ProcessSpawn } from '../../schema/protocol/streams.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import { recordOf } from '../sessions/main-process.ts';
import type { Session } from '../sessions/session.ts';
import { toSpawn } from './spawn-spec.ts';
import type { StreamsOf } from './streams.ts';
import { attendedSpawn, type Supervisor } from './supervisor.ts';

export interface AttendedOf extends Pick<StreamsOf, 'spools' | 'nowMs'> {
  log: Log;
  freshProcessId(): string;
}

/** A client may leave its terminal stopped over night: its output waits as long as a spool can. */
const output = { onFull: 'block', blockMs: 86_400_000, spoolBytes: 4 * 1024 * 1024 } as const;

export class AttendedProcess {
  readonly #session: Session;
  readonly #of: AttendedOf;
  readonly #spawn: ProcessSpawn;
  readonly #processId: string;
  readonly #gone = new AbortController();
  #supervisor: Supervisor | undefined;
  #spool: ProcessSpool | undefined;
  #inputOffset = 0;
  /** What came for it before it was there. */
  #size: { rows: number; columns: number } | undefined;
  readonly #signals = new Set<number>();

  constructor(session: Session, of: AttendedOf, spawn: ProcessSpawn) {
    this.#session = session;
    this.#of = of;
    this.#spawn = spawn;
    this.#processId = of.freshProcessId();
  }

  /** True when nobody is there for it any more. */
  get isAbandoned(): boolean {
    return this.#gone.signal.aborted;
  }

  /** @throws Refusal when it can not be started now */
  async start(): Promise<void> {
    const { supervisor } = this.#session;
    if (supervisor === undefined) throw new Refusal('session_ended', 'The session has ended.');
    const { onFull, blockMs } = output;
    const spec = { ...(await toSpawn(this.#session, this.#processId, this.#spawn)), output: { onFull, blockMs } };
    const record = { ...recordOf(spec, output, this.#of.nowMs()), spawn: attendedSpawn };
    this.#supervisor = supervisor;
    this.#spool = await supervisor.spawn(spec, record);
    if (this.isAbandoned) return supervisor.abandon(this.#processId);
    if (this.#size !== undefined) this.resize(this.#size.rows, this.#size.columns);
    for (const number of this.#signals) this.signal(number);
  }

  /**
   * Gives away what it says, piece by piece, and answers how it ended; undefined when it was abandoned, or never started.
   * Nothing of it is kept behind its end. @throws Refusal when bytes were lost
   */
  async follow(take: (stream: StreamName, bytes: Buffer) => Promise<void>): Promise<ProcessExit | undefined> {
    const spool = this.#spool;
    if (spool === undefined) return undefined;
    try {
      await this.#read(spool, take);
      return this.isAbandoned ? undefined : spool.record.exit;
    } finally {
      await this.#forget();
    }
  }

  /** Resolves when its pipe has them: one piece at a time. False when nobody reads there any more. */
  async write(bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#supervisor?.writeInput(this.#processId, this.#inputOffset, bytes);
      this.#inputOffset += bytes.byteLength;
      return true;
    } catch {
      return false;
    }
  }

  /** No more input, behind what was written. */
  endInput(): void {
    if (!this.isAbandoned) this.#supervisor?.link.closeStdin(this.#processId).catch(() => undefined);
  }

  /** Nobody is there for it any more. */
  abandon(): void {
    if (this.isAbandoned) return;
    this.#gone.abort();
    this.#supervisor?.abandon(this.#processId);
  }

  resize(rows: number, columns: number): void {
    if (this.#spool === undefined) this.#size = { rows, columns };
    else this.#supervisor?.link.resize(this.#processId, rows, columns).catch(() => undefined);
  }

  /** By number. */
  signal(number: number): void {
    if (this.#spool === undefined) this.#signals.add(number);
    else this.#supervisor?.link.signal(this.#processId, number).catch(() => undefined);
  }

  async #read(spool: ProcessSpool, take: (stream: StreamName, bytes: Buffer) => Promise<void>): Promise<void> {
    const reader = new MergedReader(spool, { stdout: 0, stderr: 0 }, { live: true });
    try {
      while (!this.isAbandoned) {
        const item = await reader.next();
        if (item?.kind === 'gap') throw new Refusal('session_output_gone', 'Some of the output was lost.');
        // The reader uses its buffer again for the next item.
        if (item !== undefined) await take(item.stream, Buffer.from(item.bytes));
        else if (reader.isAtEnd) return;
        else await reader.whenMore(this.#gone.signal);
      }
    } finally {
      await reader.close();
    }
  }

  async #forget(): Promise<void> {
    const { sessionId, generation } = this.#session;
    // What lives is forgotten when it has ended.
    if (this.#supervisor?.isLive(this.#processId) === true) return this.abandon();
    await this.#of.spools
      .forget({ sessionId, generation, processId: this.#processId })
      .catch((error: unknown) => this.#of.log.warn('output of a connection is left behind', { error: String(error) }));
  }
}
