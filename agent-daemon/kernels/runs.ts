/**
 * The runs of one kernel, of whichever kind: given to it one at a time and in order, each to its end by itself, by its time,
 * or with the kernel. How a kernel is asked for a run, and how it tells of one, is the kernel's.
 */
import type { Kernel as KernelView } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Timers } from '../../schema/ports.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import type { Bell } from '../bell.ts';
import { nothingAsked, type Offsets, type SavedRecord, type SavedRun } from './saved.ts';

/** How long a run that is over its time may take to heed its interrupt. */
const heedMs = 3_000;
/** Runs that wait, at most. */
const maxQueued = 64;

/** A line that a run asks for; `at`: where the request for it ends on standard output. */
export interface Ask {
  at: number;
  prompt: string;
  password: boolean;
}

/** What a reader of a run needs of its kernel. */
export interface RunKernel {
  /** Rings at everything that a reader of a run may wait for. */
  readonly bell: Bell;
  /** How far the output of a run is known to go, on each stream. Nothing behind belongs to it. */
  reach(run: SavedRun): Offsets;
  /** What a run asks for and nobody has answered. */
  asks(run: SavedRun): Ask | undefined;
  /** Answers a request for input. One that was answered is left alone. @throws Refusal `kernel_input_unasked` */
  answer(run: SavedRun, at: number, text: string): Promise<void>;
  /** Interrupts the run under way; `run`: only if it is that one. */
  interrupt(run?: SavedRun): Promise<void>;
  /** Of a kernel of Jupyter: what the msg_id of each request of a run begins with. */
  requestsOf?(run: SavedRun): string;
}

/** The kernel. */
export interface RunsOwner {
  clock: Clock;
  timers: Timers;
  bell: Bell;
  save(record: SavedRecord): Promise<void>;
  /** It can be asked for a run. */
  isReady(): boolean;
  death(): KernelView['death'];
  /** Asks it for a run; says `began` when it has begun with it. */
  give(run: SavedRun): void;
  signal(name: 'interrupt' | 'kill'): Promise<void>;
  failed(error: unknown): void;
}

/** The run that was given to the kernel. */
interface Current {
  run: SavedRun;
  ask: Ask | undefined;
  /** Its time is over, and it was interrupted. */
  isLate: boolean;
  cancelTimer: () => void;
}

export class Runs {
  readonly #owner: RunsOwner;
  readonly #queue: SavedRun[] = [];
  #current: Current | undefined;

  constructor(owner: RunsOwner) {
    this.#owner = owner;
  }

  /** Those that wait behind the one under way. */
  get queued(): number {
    return this.#queue.length;
  }

  /** The one that was given to the kernel and has not ended. */
  get current(): SavedRun | undefined {
    return this.#current?.run;
  }

  /** The one under way is over its time. */
  get isLate(): boolean {
    return this.#current?.isLate === true;
  }

  /** Goes on with those of an earlier agent: the one that was given to the kernel, and those that wait. */
  adopt(current: SavedRun | undefined, waiting: readonly SavedRun[]): void {
    this.#queue.push(...waiting);
    if (current !== undefined) this.#take(current);
    if (current?.begun !== undefined) this.#startTimer(current, current.begun.atMs);
  }

  /** Takes a run, behind those that wait; resolves when it is kept. @throws Refusal at once: `kernel_dead`, `kernel_busy` */
  take(run: SavedRun): Promise<void> {
    const death = this.#owner.death();
    if (death !== undefined)
      throw new Refusal('kernel_dead', `It ended (${death.reason}). Restart it, or leave the kernel out.`);
    if (this.#queue.length >= maxQueued)
      throw new Refusal('kernel_busy', `${maxQueued} runs wait for it already.`, { retryAfterSeconds: 5 });
    this.#queue.push(run);
    return this.#owner.save({ run }).then(() => this.next());
  }

  /** Gives the next one to the kernel, if that is ready for it. */
  next(): void {
    if (!this.#owner.isReady() || this.#owner.death() !== undefined || this.#current !== undefined) return;
    const run = this.#queue.shift();
    if (run === undefined) return;
    this.#take(run);
    this.#owner.give(run);
    this.#owner.bell.ring();
  }

  /** The kernel has begun with the run: its time runs. */
  began(run: SavedRun, begun: NonNullable<SavedRun['begun']>): void {
    run.begun = begun;
    this.#startTimer(run, begun.atMs);
    this.#owner.bell.ring();
  }

  /** The run under way asks for a line. */
  asked(ask: Ask): void {
    if (this.#current !== undefined) this.#current.ask = ask;
  }

  asks(run: SavedRun): Ask | undefined {
    const current = this.#current;
    return current?.run === run && current.ask !== undefined && current.ask.at > run.inputAt ? current.ask : undefined;
  }

  /** `run`: only if it is that one. One that has not begun is not interrupted: what the kernel does now is another's. */
  async interrupt(run?: SavedRun): Promise<void> {
    const current = this.#current?.run;
    if (current?.begun === undefined || (run !== undefined && current !== run)) return;
    await this.#owner.signal('interrupt');
  }

  /** The run is over, and what was asked for is not needed any more. */
  end(run: SavedRun, outcome: ExecuteOutcome, ends?: Offsets): void {
    run.ended = { outcome, ...(ends === undefined ? {} : { ends }) };
    run.request = nothingAsked;
    if (this.#current?.run === run) {
      this.#current.cancelTimer();
      this.#current = undefined;
    }
    const { runId, ended, answered } = run;
    this.#owner.save({ run: { runId, ended, answered } }).catch((error: unknown) => this.#owner.failed(error));
    this.next();
    this.#owner.bell.ring();
  }

  /** The kernel is dead, and with it the run under way, whose output goes to `ends`, and those that waited. */
  died(how: ExecuteOutcome, ends: Offsets): void {
    const current = this.#current;
    if (current !== undefined) {
      const { run, isLate } = current;
      this.end(run, isLate ? { ...how, reason: 'timeout' } : how, run.begun === undefined ? undefined : ends);
    }
    for (const run of this.#queue.splice(0)) this.end(run, how);
  }

  /** Lets go of the run under way. */
  close(): void {
    this.#current?.cancelTimer();
  }

  #take(run: SavedRun): void {
    this.#current = { run, ask: undefined, isLate: false, cancelTimer: () => undefined };
  }

  #startTimer(run: SavedRun, atMs: number): void {
    const current = this.#current;
    if (current?.run !== run || run.timeoutMs === undefined) return;
    const { clock, timers } = this.#owner;
    const leftMs = Math.max(0, run.timeoutMs - (clock.nowMs() - atMs));
    current.cancelTimer = timers.after(leftMs, () => this.#isOverTime(run));
  }

  #isOverTime(run: SavedRun): void {
    const current = this.#current;
    if (current?.run !== run) return;
    const name = current.isLate ? 'kill' : 'interrupt';
    current.isLate = true;
    this.#owner.signal(name).catch(() => undefined);
    current.cancelTimer = this.#owner.timers.after(heedMs, () => this.#isOverTime(run));
  }
}
