/**
 * One life of something that may die at any moment: an isolate, an object in it, a process. What it waits for never comes
 * back to it after its end, and its timers never ring: nothing of a dead life runs on.
 */
import type { Timers } from '../../schema/ports.ts';
import type { VirtualTime } from './clock.ts';

export class Life {
  readonly name: string;
  isAlive = true;
  readonly #onEnd = new Set<() => void>();

  constructor(name: string) {
    this.name = name;
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
    return new Promise((resolve, reject) => {
      work.then(
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
        return time.after(Math.max(0, delayMs), () => this.isAlive && task());
      },
    };
  }
}

/** Never settles: what a dead life waits for. */
export function never<Result>(): Promise<Result> {
  return new Promise(() => undefined);
}
