/** A clock and timers that a test moves by hand, beside real sockets: what waits for minutes takes none. */
import type { Clock, Timers } from '../../../schema/ports.ts';

export class VirtualTime implements Clock, Timers {
  #nowMs = 1_800_000_000_000;
  #tasks: { atMs: number; task: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  bootMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, task: () => void): () => void {
    const entry = { atMs: this.#nowMs + delayMs, task };
    this.#tasks.push(entry);
    return () => {
      this.#tasks = this.#tasks.filter((each) => each !== entry);
    };
  }

  /** Moves on, running what falls due in order. */
  advance(ms: number): void {
    const target = this.#nowMs + ms;
    for (;;) {
      const next = this.#tasks.filter(({ atMs }) => atMs <= target).toSorted((a, b) => a.atMs - b.atMs)[0];
      if (!next) break;
      this.#tasks = this.#tasks.filter((each) => each !== next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.task();
    }
    this.#nowMs = target;
  }

  /** Waits in real time for a condition while virtual time runs `stepMs` for each 5 ms. */
  async until<Result>(what: string, find: () => Result | undefined | false, stepMs = 0): Promise<Result> {
    const deadline = performance.now() + 20_000;
    for (;;) {
      const found = find();
      if (found !== undefined && found !== false) return found;
      if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
      await new Promise((resolve) => void setTimeout(resolve, 5));
      if (stepMs > 0) this.advance(stepMs);
    }
  }
}
