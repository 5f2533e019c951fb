/**
 * Slows down whoever fails to prove who he is, before anything costly is done for him. A failure leaves a debt of time on
 * its key, which time pays off. Below `burstMs` of debt nothing happens. Above, the key's requests take turns: each waits
 * until the debt before it is paid, and one whose wait would be too long is refused, later still: who asks again as fast as
 * it is answered is answered slowly. A success costs nothing and leaves nothing. In the isolate's memory, bounded.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Random, Timers } from '../../schema/ports.ts';

export interface TurnLimits {
  /** Of one failure, and so the time between two turns. */
  costMs: number;
  /** Debt that nobody notices. */
  burstMs: number;
  /** The longest wait for a turn. */
  waitMs: number;
  /** What is refused hears of it after half of this to all of it. */
  holdMs: number;
  /** Keys that are remembered; the one that failed least lately goes first. */
  mostKeys: number;
  /** Requests that wait at once; what comes on top is refused at once. */
  mostWaiting: number;
  /** Said to whoever is refused. */
  detail: string;
}

export interface TurnPorts {
  clock: Pick<Clock, 'bootMs'>;
  timers: Timers;
  random: Pick<Random, 'fraction'>;
}

export class Turns {
  readonly #limits: TurnLimits;
  readonly #ports: TurnPorts;
  /** When the debt of a key is paid. */
  readonly #paidAtMs = new Map<string, number>();
  /** When each wait ends. Not a count: a request whose client went away is never told that its wait is over. */
  #waits: number[] = [];

  constructor(limits: TurnLimits, ports: TurnPorts) {
    this.#limits = limits;
    this.#ports = ports;
  }

  /** Counts a failure. */
  charge(key: string): void {
    const { costMs, burstMs, waitMs, mostKeys } = this.#limits;
    const nowMs = this.#ports.clock.bootMs();
    const paidAtMs = Math.max(nowMs, this.#paidAtMs.get(key) ?? 0) + costMs;
    this.#paidAtMs.delete(key);
    this.#paidAtMs.set(key, Math.min(paidAtMs, nowMs + burstMs + waitMs));
    if (this.#paidAtMs.size <= mostKeys) return;
    const [oldest] = this.#paidAtMs.keys();
    if (oldest !== undefined) this.#paidAtMs.delete(oldest);
  }

  /** Waits for a turn of the key, if it has to; true when the turn has been charged. @throws Refusal `request_rate_limited` */
  async take(key: string): Promise<boolean> {
    const { burstMs, waitMs: longestMs, holdMs, detail } = this.#limits;
    const waitMs = (this.#paidAtMs.get(key) ?? 0) - burstMs - this.#ports.clock.bootMs();
    if (waitMs <= 0) return false;
    const hasTurn = waitMs < longestMs;
    if (hasTurn) this.charge(key);
    // Those without a turn do not come back all at once.
    const waited = await this.#wait(hasTurn ? waitMs : holdMs * (1 - this.#ports.random.fraction() / 2));
    if (hasTurn && waited) return true;
    throw new Refusal('request_rate_limited', detail, { retryAfterSeconds: Math.ceil(waitMs / 1000) });
  }

  async #wait(ms: number): Promise<boolean> {
    const nowMs = this.#ports.clock.bootMs();
    const { mostWaiting } = this.#limits;
    if (this.#waits.length >= mostWaiting) this.#waits = this.#waits.filter((endMs) => endMs > nowMs);
    if (this.#waits.length >= mostWaiting) return false;
    this.#waits.push(nowMs + ms);
    await new Promise<void>((resolve) => void this.#ports.timers.after(ms, resolve));
    return true;
  }
}
