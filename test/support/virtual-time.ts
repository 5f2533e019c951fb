/** A clock and timers that a test moves by hand: what waits for minutes takes none. */
import type { Clock, Timers } from '../../schema/ports.ts';

export class VirtualTime implements Clock, Timers {
  #nowMs: number;
  #tasks: { atMs: number; task: () => void }[] = [];

  constructor(startMs = 1_800_000_000_000) {
    this.#nowMs = startMs;
  }

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
    while (this.#runNext(target));
    this.#nowMs = target;
  }

  /** As `advance`; what a task leads to happens before the next one. */
  async pass(ms: number): Promise<void> {
    const target = this.#nowMs + ms;
    do await new Promise((resolve) => void setTimeout(resolve, 0));
    while (this.#runNext(target));
    this.#nowMs = target;
  }

  #runNext(untilMs: number): boolean {
    const next = this.#tasks.filter(({ atMs }) => atMs <= untilMs).toSorted((a, b) => a.atMs - b.atMs)[0];
    if (!next) return false;
    this.#tasks = this.#tasks.filter((each) => each !== next);
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.task();
    return true;
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
