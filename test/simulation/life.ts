/**
 * One life of something that may die at any moment: an isolate, an object in it, a process. What it waits for never comes
 * back to it after its end, and its timers never ring: nothing of a dead life runs on.
 */
import type { Timers } from '../../schema/ports.ts';
import type { VirtualTime } from './clock.ts';

export class Life {
  readonly name: string;
  isAlive = true;
  #waits = 0;
  readonly #onEnd = new Set<() => void>();

  constructor(name: string) {
    this.name = name;
  }

  /** It waits for an answer or a timer: the runtime lets nobody sleep who does. */
  get isWaiting(): boolean {
    return this.#waits > 0;
  }

  /** Idempotent. */
  end(): void {
    if (!this.isAlive) return;
    this.isAlive = false;
    for (const task of this.#onEnd) task();
    this.#onEnd.clear();
  }

  /** Calls `task` at the end; the answer takes it back. */
  onEnd(task: () => void): () => void {
    this.#onEnd.add(task);
    return () => void this.#onEnd.delete(task);
  }

  /** Settles like `work`, but only while this life goes on. */
  guard<Result>(work: Promise<Result>): Promise<Result> {
    this.#waits += 1;
    return new Promise((resolve, reject) => {
      work
        .finally(() => (this.#waits -= 1))
        .then(
          (result) => this.isAlive && resolve(result),
          (error: unknown) => this.isAlive && reject(error instanceof Error ? error : new Error(String(error))),
        );
    });
  }

  /** Timers that end with this life. */
  timers(time: VirtualTime): Timers {
    return {
      after: (delayMs, task) => {
        if (!this.isAlive) return () => undefined;
        this.#waits += 1;
        let isOver = false;
        const over = (): void => {
          if (!isOver) this.#waits -= 1;
          isOver = true;
        };
        const cancel = time.after(Math.max(0, delayMs), () => {
          over();
          if (this.isAlive) task();
        });
        return () => {
          over();
          cancel();
        };
      },
    };
  }
}

/** Never settles: what a dead life waits for. */
export function never<Result>(): Promise<Result> {
  return new Promise(() => undefined);
}
