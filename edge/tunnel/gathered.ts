/**
 * Calls of one kind, one at a time: what comes while one is under way, or the calls of a socket rest, goes together in the
 * next. So an agent that says a thing again and again costs its ledger, which writes at each call, little more than one that
 * says it once.
 */
import type { Clock, Timers } from '../../schema/ports.ts';

/** For each millisecond of calls this many must pass, */
const share = 4;
/** but so much may be owed before they rest, */
const owedMs = 2_000;
/** and a rest is never longer: on a slow machine it is not the agent's fault. */
const longestRestMs = 250;

/** The calls of one socket: what they take of the time. */
export class Pace {
  readonly #ports: { clock: Clock; timers: Timers };
  #paidAtMs = 0;

  constructor(ports: { clock: Clock; timers: Timers }) {
    this.#ports = ports;
  }

  /** One call, and the rest after it. */
  async during(call: () => Promise<void>): Promise<void> {
    const { clock, timers } = this.#ports;
    const startedMs = clock.bootMs();
    await call();
    const endedMs = clock.bootMs();
    this.#paidAtMs = Math.max(this.#paidAtMs, startedMs) + share * (endedMs - startedMs);
    const restMs = Math.min(this.#paidAtMs - endedMs - owedMs, longestRestMs);
    if (restMs > 0) await new Promise<void>((resolve) => void timers.after(restMs, resolve));
  }
}

export class Gathered<Item> {
  readonly #pace: Pace;
  readonly #call: (items: Item[]) => Promise<void>;
  #waiting: Item[] = [];
  #busy = false;

  /** @param call must not reject */
  constructor(pace: Pace, call: (items: Item[]) => Promise<void>) {
    this.#pace = pace;
    this.#call = call;
  }

  add(item: Item): void {
    this.#waiting.push(item);
    if (!this.#busy) void this.#run();
  }

  async #run(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) await this.#pace.during(() => this.#call(this.#waiting.splice(0)));
    this.#busy = false;
  }
}
