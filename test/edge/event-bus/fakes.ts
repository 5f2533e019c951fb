/** A Redis that a test holds in its hand: what it was asked, and what it announces. */
import type { EdgeRedis, StreamEntry, StreamHead } from '../../../edge/platform/redis-door.ts';
import { RedisUnavailable } from '../../../edge/platform/redis-door.ts';
import type { CausewayEvent } from '../../../schema/api/event.ts';
import type { Timers } from '../../../schema/ports.ts';

export function event(n: number, more: Partial<CausewayEvent> = {}): CausewayEvent {
  return {
    eventId: `evt_${n}`,
    type: 'session.state',
    domainId: 'dom_1',
    projectId: 'prj_1',
    objectId: 'ses_1',
    version: n,
    atMs: 1_000_000,
    data: {},
    ...more,
  };
}

export class FakeRedis implements EdgeRedis {
  generation: string | undefined = 'g';
  entries: StreamEntry[] = [];
  /** How often each verb was asked. */
  readonly asked: string[] = [];
  isAway = false;
  #listeners = new Set<{ onMessage: (message: string) => void; end: (reason: string) => void }>();

  /** Stores an event and announces it. */
  publish(n: number, more: Partial<CausewayEvent> = {}): void {
    const id = `${n}-0`;
    const value = JSON.stringify(event(n, more));
    this.entries.push({ id, value });
    for (const { onMessage } of this.#listeners) onMessage(`{"cursor":"${this.generation}.${id}","event":${value}}`);
  }

  /** Ends every subscription. */
  cut(): void {
    for (const { end } of this.#listeners) end('cut');
    this.#listeners.clear();
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  async run(): Promise<unknown> {
    this.#ask('run');
    return [];
  }

  async fields(_key: string, names: readonly string[]): Promise<undefined[]> {
    this.#ask('fields');
    return names.map(() => undefined);
  }

  async head(): Promise<StreamHead> {
    this.#ask('head');
    return { generation: this.generation, oldestId: this.entries[0]?.id, newestId: this.entries.at(-1)?.id };
  }

  async after(_stream: string, id: string | undefined, count: number): Promise<StreamEntry[]> {
    this.#ask('after');
    const from = id === undefined ? 0 : Number.parseInt(id, 10);
    return this.entries.filter((entry) => Number.parseInt(entry.id, 10) > from).slice(0, count);
  }

  async last(_stream: string, count: number): Promise<StreamEntry[]> {
    this.#ask('last');
    return this.entries.slice(-count);
  }

  async subscribe(_channel: string, onMessage: (message: string) => void) {
    this.#ask('subscribe');
    let end: (reason: string) => void = () => {};
    const ended = new Promise<string>((resolve) => (end = resolve));
    const listener = { onMessage, end };
    this.#listeners.add(listener);
    return {
      ended,
      close: () => {
        this.#listeners.delete(listener);
        end('closed');
      },
    };
  }

  #ask(verb: string): void {
    this.asked.push(verb);
    if (this.isAway) throw new RedisUnavailable('away');
  }
}

/** Time that passes only when a test says so, while all other code of the isolate goes by the real one. */
export class SteppedTimers implements Timers {
  #nowMs = 0;
  readonly #tasks = new Set<{ atMs: number; task: () => void }>();

  after(delayMs: number, task: () => void): () => void {
    const entry = { atMs: this.#nowMs + delayMs, task };
    this.#tasks.add(entry);
    return () => this.#tasks.delete(entry);
  }

  /** Lets so much time pass, and what follows from each task come to rest before the next. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve));
      const [next] = [...this.#tasks].filter(({ atMs }) => atMs <= endMs).sort((a, b) => a.atMs - b.atMs);
      if (next === undefined) break;
      this.#tasks.delete(next);
      this.#nowMs = next.atMs;
      next.task();
    }
    this.#nowMs = endMs;
  }
}
