/** Ports for tests of the agent's rooms: the real clock, timers that a test fires itself, a log that is kept. */
import type { AgentFailpoint } from '../../schema/failpoints.ts';
import type { Failpoints, Log, Timers } from '../../schema/ports.ts';

/** Timers that fire only when the test says so. */
export class ManualTimers implements Timers {
  readonly #tasks = new Set<{ delayMs: number; task: () => void }>();

  after(delayMs: number, task: () => void): () => void {
    const entry = { delayMs, task };
    this.#tasks.add(entry);
    return () => this.#tasks.delete(entry);
  }

  /** Tasks that wait. */
  get size(): number {
    return this.#tasks.size;
  }

  /** Runs every task that waits now. */
  fire(): void {
    const tasks = [...this.#tasks];
    this.#tasks.clear();
    for (const { task } of tasks) task();
  }
}

export const noFailpoints: Failpoints<AgentFailpoint> = {
  before: () => Promise.resolve(),
  after: () => Promise.resolve(),
  unknown: () => false,
};

/** A log whose lines a test can look at. */
export function keptLog(): Log & { lines: { level: string; message: string; fields?: Record<string, unknown> }[] } {
  const lines: { level: string; message: string; fields?: Record<string, unknown> }[] = [];
  const at = (level: string) => (message: string, fields?: Record<string, unknown>) =>
    void lines.push({ level, message, ...(fields === undefined ? {} : { fields }) });
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
