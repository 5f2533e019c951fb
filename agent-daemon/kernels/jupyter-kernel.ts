/**
 * One kernel of Jupyter: a process of causeway-init's bridge with the kernel behind it. It reads the log to know how the
 * kernel is, gives it what clients say, starts it anew when it ends by itself, and goes on with all that after the death of
 * the agent. It holds no output: whoever wants it reads the log.
 */
import { constants } from 'node:os';
import type { Kernel as KernelView } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import { bridgeChannel, BridgeNote } from '../../schema/protocol/channels.ts';
import type { Disk } from '../disk.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import { Bell } from './bell.ts';
import { InputJournal, type RecordBytes } from './input-journal.ts';
import type { KernelOwner } from './kernel.ts';
import { LastWords } from './last-words.ts';
import { type LogRecord, parseObject, RecordReader, typeOf } from './records.ts';
import type { SavedJupyterKernel } from './saved.ts';

/** How long a kernel may take to end by itself when it is asked to: its bridge kills it after 5 s. */
const shutdownMs = 7_000;
const restartMs = 2_000;
const minuteMs = 60_000;
const retryMs = 1_000;

/** How one start of a kernel ended. */
export interface StartEnd {
  exit: ProcessExit;
  restarts: boolean;
}

/** A writer that belongs to one stream. */
export interface HeldWriter {
  /** Aborts when another stream of it came. */
  signal: AbortSignal;
  /** Takes a record: resolves when it is kept, with the end of it. It is given to the kernel once, whatever dies. @throws Refusal */
  say: (record: RecordBytes) => Promise<number>;
  done: () => void;
}

export class JupyterKernel {
  readonly #owner: KernelOwner;
  readonly #journal: InputJournal;
  /** Rings at everything that a client may wait for. */
  readonly bell = new Bell();
  #saved: SavedJupyterKernel;
  #state: KernelView['state'] = 'starting';
  #death: KernelView['death'];
  #reader = new RecordReader(0);
  #words = new LastWords();
  /** Of this start, while it is read. */
  #spool: ProcessSpool | undefined;
  /** The start that is being given its input. */
  #givingTo: number | undefined;
  #following = new AbortController();
  #dead = Promise.withResolvers<void>();
  /** Somebody ends it: what its end leads to is theirs to say. */
  #isEnding = false;
  /** The start of which there is a process, or was. */
  #spawned = 0;
  #restartsNext = false;
  /** Restarts and its end, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #end: StartEnd | undefined;
  readonly #writers = new Map<string, { taken: AbortController; appending: Promise<void> }>();

  constructor(owner: KernelOwner, saved: SavedJupyterKernel) {
    this.#owner = owner;
    this.#saved = saved;
    this.#journal = new InputJournal(owner.inputPath(saved.kernelId), owner.disk);
  }

  get saved(): SavedJupyterKernel {
    return this.#saved;
  }

  get processId(): string {
    return this.#owner.processId(this.#saved.kernelId, this.#saved.starts);
  }

  get state(): KernelView['state'] {
    return this.#death === undefined ? this.#state : 'dead';
  }

  get view(): KernelView {
    const { kernelId: id, spec, starts, startedAtMs, restarts } = this.#saved;
    return {
      id,
      spec,
      state: this.state,
      starts,
      startedAtMs,
      queued: 0,
      ...(restarts === undefined ? {} : { restarts }),
      ...(this.#death === undefined ? {} : { death: this.#death }),
    };
  }

  /** Where in the log of this start the next record begins, as far as it was read; undefined behind a gap, until one was found. */
  get boundary(): number | undefined {
    return this.#reader.boundary;
  }

  /** How a start ended; undefined while it has not, or what follows is not decided. */
  endOf(starts: number, exit: ProcessExit): StartEnd | undefined {
    if (starts < this.#saved.starts) return { exit, restarts: true };
    return this.#end;
  }

  /** Starts the process of this start. @throws Refusal when the session can not start it now */
  async start(): Promise<void> {
    const { starts } = this.#saved;
    try {
      await this.#journal.open(starts);
      await this.#owner.spawn(this.#saved);
      this.#follow();
    } catch (error) {
      // It is not there, and nobody else would say so.
      this.#death = { reason: 'not-started', lastOutput: '' };
      throw error;
    } finally {
      this.#spawned = starts;
      this.bell.ring();
    }
    this.#give();
  }

  /** Goes on with a kernel of an earlier agent. */
  async adopt(): Promise<void> {
    const { sessionId, generation } = this.#owner;
    const kept = await this.#owner.spools.read({ sessionId, generation, processId: this.processId });
    const exit = kept?.spool.record.exit;
    const from = kept?.spool.log('stdout').keptFrom(0) ?? 0;
    await kept?.done();
    // The agent died before it knew that the process was there; asking for it again is harmless.
    if (kept === undefined) return this.start();
    await this.#journal.open(this.#saved.starts);
    this.#spawned = this.#saved.starts;
    this.#reader = new RecordReader(from, { isLost: from > 0 });
    // It said that it is there in what was dropped since.
    if (from > 0) this.#state = 'idle';
    this.#follow(from);
    if (exit === undefined) this.#give();
  }

  /** Resolves when there is a log of this start, or there will be none. @throws Refusal `session_output_gone` */
  async whenStart(starts: number, signal: AbortSignal): Promise<void> {
    for (let turn = this.bell.turn; starts > this.#spawned && !signal.aborted; turn = this.bell.turn) {
      const comes =
        starts === this.#saved.starts || (starts === this.#saved.starts + 1 && this.#end?.restarts === true);
      if (!comes || this.#saved.closed) throw new Refusal('session_output_gone', 'It was not started so often.');
      await this.bell.past(turn, signal);
    }
  }

  /** Resolves when it answers, is dead, or `signal` aborts. */
  async whenStarted(signal: AbortSignal): Promise<void> {
    for (let turn = this.bell.turn; this.state === 'starting' && !signal.aborted; turn = this.bell.turn)
      await this.bell.past(turn, signal);
  }

  /** Interrupts what it runs, in the way of its kernelspec. */
  async interrupt(): Promise<void> {
    if (this.#death === undefined) await this.#signal('SIGINT', 'process');
  }

  /** Ends it: politely for a while, if there is one. Resolves when its end is known. */
  async kill(politelyMs = shutdownMs): Promise<void> {
    if (this.#death !== undefined) return;
    this.#isEnding = true;
    // What nobody reads must not keep its end from being heard.
    const letGo = this.#spool?.log('stdout').follow({ position: Number.POSITIVE_INFINITY });
    this.#spool?.log('stdout').followerMoved();
    const cancel = this.#owner.timers.after(politelyMs, () => {
      this.#signal('SIGKILL', 'session').catch((error: unknown) => this.#failed(error));
    });
    try {
      // It may have ended by itself meanwhile.
      await this.#signal('SIGTERM', 'process').catch((error: unknown) => this.#failed(error));
      await this.#dead.promise;
    } finally {
      cancel();
      letGo?.();
    }
    // What it started and left behind.
    await this.#signal('SIGKILL', 'session').catch(() => undefined);
  }

  /** Starts anew with nothing of its state; only if it was started so often. @throws Refusal */
  restart(ifStarts?: number): Promise<void> {
    return this.#inTurn(async () => {
      if (ifStarts !== undefined && ifStarts !== this.#saved.starts) return;
      this.#restartsNext = true;
      try {
        await this.kill(restartMs);
        await this.#startAnew([]);
      } finally {
        this.#restartsNext = false;
      }
    });
  }

  /** Ends it, for good. */
  shutdown(): Promise<void> {
    return this.#inTurn(async () => {
      await this.kill();
      await this.shut();
    });
  }

  /** It is not listed any more, and takes nothing. */
  async shut(): Promise<void> {
    const { kernelId } = this.#saved;
    this.#saved = { ...this.#saved, closed: true };
    await this.#owner.save({ kernel: { kernelId, closed: true } });
    await this.#journal.remove();
    this.bell.ring();
  }

  /** Lets go: the kernel goes on by itself. */
  async close(): Promise<void> {
    this.#following.abort();
    await this.#journal.close();
  }

  // ---- writers ----

  /** Where a record of a writer may be put together. */
  stagingPath(writer: string): string {
    return `${this.#owner.inputPath(this.#saved.kernelId)}.${writer}`;
  }

  get disk(): Disk {
    return this.#owner.disk;
  }

  /** From where a writer goes on. */
  inputOffset(writer: string): number {
    return this.#journal.endOf(writer);
  }

  /** Makes `writer` that of the caller alone: from then on its place does not move by others. */
  async hold(writer: string): Promise<HeldWriter> {
    const before = this.#writers.get(writer);
    const taken = new AbortController();
    const mine = { taken, appending: before?.appending ?? Promise.resolve() };
    this.#writers.set(writer, mine);
    before?.taken.abort();
    // What the former keeps just now is kept before anybody is told where this writer is.
    await mine.appending.catch(() => undefined);
    return {
      signal: taken.signal,
      say: async (record) => {
        if (taken.signal.aborted) throw new Refusal('kernel_writer_replaced');
        mine.appending = this.#journal.append(writer, record);
        await mine.appending;
        this.#give();
        return this.inputOffset(writer);
      },
      done: () => {
        if (this.#writers.get(writer) === mine) this.#writers.delete(writer);
      },
    };
  }

  /** Resolves when there is room for more input, or `signal` aborts. */
  async whenRoom(signal: AbortSignal): Promise<void> {
    for (let turn = this.bell.turn; !this.#journal.hasRoom; turn = this.bell.turn) {
      if (signal.aborted) return;
      await this.bell.past(turn, signal);
    }
  }

  /** Gives this start what waits for it, if nobody does. */
  #give(): void {
    const { starts } = this.#saved;
    if (this.#givingTo === starts || this.#death !== undefined || this.#following.signal.aborted) return;
    this.#givingTo = starts;
    const { processId } = this;
    const write = async (offset: number, bytes: Uint8Array) => {
      // One of before may hang for ever: its process is gone.
      if (this.#saved.starts !== starts) throw new Error('another start');
      await this.#owner.supervisor().writeInput(processId, offset, bytes);
      this.bell.ring();
    };
    const end = (delayMs: number) => {
      if (this.#givingTo !== starts) return;
      this.#givingTo = undefined;
      this.bell.ring();
      if (this.#journal.waitingBytes === 0) return;
      if (delayMs === 0) this.#give();
      else this.#owner.timers.after(delayMs, () => this.#give());
    };
    this.#journal.give(write).then(
      () => end(0),
      (error: unknown) => {
        this.#failed(error);
        end(retryMs);
      },
    );
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  // ---- what it says ----

  #follow(from = 0): void {
    const { signal } = this.#following;
    this.#read(from, signal)
      .then((exit) => {
        if (exit !== undefined && !signal.aborted) return this.#died(exit);
        return undefined;
      })
      .catch((error: unknown) => this.#failed(error));
  }

  /** Reads the log while it is written; resolves with the end of the process. A full log does not wait for it. */
  async #read(from: number, signal: AbortSignal): Promise<ProcessExit | undefined> {
    const { sessionId, generation, spools } = this.#owner;
    const kept = await spools.read({ sessionId, generation, processId: this.processId });
    if (kept === undefined) return undefined;
    this.#spool = kept.spool;
    const stderr = kept.spool.log('stderr').keptFrom(0);
    const reader = new MergedReader(kept.spool, { stdout: from, stderr }, { live: false });
    try {
      while (!signal.aborted) {
        const item = await reader.next();
        if (item === undefined) {
          if (reader.isAtEnd) return kept.spool.record.exit;
          this.bell.ring();
          await reader.whenMore(signal);
        } else if (item.stream === 'stderr') {
          if (item.kind === 'bytes') this.#words.wrote(item.bytes);
        } else if (item.kind === 'gap') this.#reader.skip(item.gap.to);
        else for (const record of this.#reader.push(item.bytes)) this.#hear(record);
      }
      return undefined;
    } finally {
      await reader.close();
      await kept.done();
    }
  }

  #hear(record: LogRecord): void {
    if (record.channel === bridgeChannel) {
      const note = BridgeNote.safeParse(parseObject(record.content)).data;
      if (note?.kind === 'ready') this.#become('idle');
      return;
    }
    if (record.channel !== 'iopub') return;
    const type = typeOf(record.header);
    if (type === 'stream') this.#words.published(record.content);
    if (type !== 'status' || this.#state === 'starting') return;
    const said = parseObject(record.content)?.['execution_state'];
    if (said === 'idle' || said === 'busy') this.#become(said);
  }

  #become(state: 'idle' | 'busy'): void {
    if (this.#state === state) return;
    this.#state = state;
    this.bell.ring();
  }

  // ---- its end ----

  async #died(exit: ProcessExit): Promise<void> {
    const { exitCode, signal, reason } = exit;
    const { starts } = this.#saved;
    this.#death = {
      reason,
      ...(exitCode === undefined ? {} : { exitCode }),
      ...(signal === undefined ? {} : { signal }),
      lastOutput: this.#words.text,
    };
    const again = this.#isEnding ? undefined : this.#nextRestarts(exit);
    this.#end = { exit, restarts: this.#restartsNext || again !== undefined };
    this.#dead.resolve();
    this.bell.ring();
    if (again === undefined) return;
    const { sessionId } = this.#owner;
    this.#owner.log.warn('a kernel ended by itself and is started anew', { sessionId, ...this.#death });
    await this.#inTurn(async () => {
      // Somebody was faster.
      if (this.#saved.closed || this.#saved.starts !== starts) return;
      await this.#signal('SIGKILL', 'session').catch(() => undefined);
      await this.#startAnew(again);
    });
  }

  /** When it was started anew by itself within the last minute, this time among them; undefined: it is not. */
  #nextRestarts({ exitCode, reason }: ProcessExit): number[] | undefined {
    const { restarts, restartedAtMs = [], closed } = this.#saved;
    const isUnusable = exitCode === 126 || exitCode === 127;
    const isItsOwn = reason === 'exited' || reason === 'oom';
    if (closed || restarts === undefined || isUnusable || !isItsOwn) return undefined;
    const nowMs = this.#owner.clock.nowMs();
    const recent = restartedAtMs.filter((atMs) => atMs > nowMs - minuteMs && atMs <= nowMs);
    return recent.length < restarts.perMinute ? [...recent, nowMs] : undefined;
  }

  async #startAnew(restartedAtMs: number[]): Promise<void> {
    const starts = this.#saved.starts + 1;
    const startedAtMs = this.#owner.clock.nowMs();
    const { kernelId } = this.#saved;
    const changes = { starts, startedAtMs, restartedAtMs };
    this.#saved = { ...this.#saved, ...changes };
    // Before the journal: it follows what is kept here.
    await this.#owner.save({ kernel: { kernelId, ...changes } });
    await this.#journal.restart(starts);
    this.#following.abort();
    this.#following = new AbortController();
    this.#state = 'starting';
    this.#death = undefined;
    this.#end = undefined;
    this.#isEnding = false;
    this.#reader = new RecordReader(0);
    this.#words = new LastWords();
    this.#dead = Promise.withResolvers<void>();
    this.bell.ring();
    await this.start();
  }

  async #signal(name: 'SIGINT' | 'SIGTERM' | 'SIGKILL', scope: 'process' | 'session'): Promise<void> {
    await this.#owner.supervisor().link.signal(this.processId, constants.signals[name], scope);
  }

  /** Mostly: the process is gone meanwhile, which its log tells. */
  #failed(error: unknown): void {
    if (this.#following.signal.aborted || this.#death !== undefined || error instanceof Refusal) return;
    const { sessionId } = this.#owner;
    const { kernelId } = this.#saved;
    this.#owner.log.warn('a kernel could not be served', { sessionId, kernelId, error: String(error) });
  }
}
