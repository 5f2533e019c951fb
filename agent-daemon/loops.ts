/**
 * Work of the agent that comes again for ever. No loop dies silently: what its task throws is logged, counted and told in
 * the status, and the loop goes on; a task that does not end is told as well. Times are on the boot clock.
 */
import type { Clock, Log, Timers } from '../schema/ports.ts';

export interface LoopState {
  name: string;
  /** Runs that failed since the agent's start. */
  failures: number;
  /** Why the last run failed; absent when it did not. */
  error?: string;
  /** The run under way takes far longer than it should. */
  stuck?: true;
}

export interface Loop {
  /** Runs the task now, or again right after the run under way. */
  soon(): void;
  /** No further run begins. Resolves when none is under way. */
  stop(): Promise<void>;
}

type Ports = { clock: Pick<Clock, 'bootMs'>; timers: Timers; log: Log };

/** A failed run is tried again after this at the latest. */
const retryMs = 60_000;
const stuckMs = 300_000;

export class Loops {
  readonly #ports: Ports;
  readonly #running: RunningLoop[] = [];

  constructor(ports: Ports) {
    this.#ports = ports;
  }

  /** Runs `task` now and then `everyMs` after each of its ends, until it is stopped. */
  every(name: string, everyMs: number, task: () => void | Promise<void>): Loop {
    const loop = new RunningLoop(name, everyMs, task, this.#ports);
    this.#running.push(loop);
    loop.soon();
    return loop;
  }

  /** Loops that failed or hang, for the status. */
  troubled(): LoopState[] {
    return this.#running.map((loop) => loop.state).filter(({ failures, stuck }) => failures > 0 || stuck === true);
  }
}

class RunningLoop implements Loop {
  readonly #name: string;
  readonly #everyMs: number;
  readonly #task: () => void | Promise<void>;
  readonly #ports: Ports;
  #failures = 0;
  #error: string | undefined;
  #sinceMs: number | undefined;
  #isWanted = false;
  #isStopped = false;
  #cancel: () => void = () => undefined;
  #run: Promise<void> = Promise.resolve();

  constructor(name: string, everyMs: number, task: () => void | Promise<void>, ports: Ports) {
    this.#name = name;
    this.#everyMs = everyMs;
    this.#task = task;
    this.#ports = ports;
  }

  get state(): LoopState {
    const isStuck = this.#sinceMs !== undefined && this.#ports.clock.bootMs() - this.#sinceMs > stuckMs;
    return {
      name: this.#name,
      failures: this.#failures,
      ...(this.#error === undefined ? {} : { error: this.#error }),
      ...(isStuck ? { stuck: true } : {}),
    };
  }

  soon(): void {
    if (this.#isStopped) return;
    this.#isWanted = true;
    if (this.#sinceMs !== undefined) return;
    this.#cancel();
    this.#sinceMs = this.#ports.clock.bootMs();
    this.#run = this.#runWhileWanted();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancel();
    await this.#run;
  }

  async #runWhileWanted(): Promise<void> {
    while (this.#isWanted && !this.#isStopped) {
      this.#isWanted = false;
      await this.#runOnce();
    }
    this.#sinceMs = undefined;
    if (this.#isStopped) return;
    const waitMs = this.#error === undefined ? this.#everyMs : Math.min(this.#everyMs, retryMs);
    this.#cancel = this.#ports.timers.after(waitMs, () => this.soon());
  }

  async #runOnce(): Promise<void> {
    try {
      await this.#task();
      this.#error = undefined;
    } catch (error) {
      this.#failures++;
      this.#error = String(error).slice(0, 512);
      this.#ports.log.error('a loop failed and goes on', { loop: this.#name, error: this.#error });
    }
  }
}
