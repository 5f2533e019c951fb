/**
 * Gives each of a herd a moment of its own to come back at, so many a second: what a thread can not do now is asked for again
 * when it can, and being sent away costs little. In the isolate's memory, bounded.
 */
import type { Clock, Random } from '../../schema/ports.ts';

export interface AppointmentsLimits {
  /** So many may come at once after a calm. */
  burst: number;
  /** Nobody is sent away for longer; of a herd that is larger the rest comes again at any moment of that time. */
  farthestMs: number;
  /** Of so many the moments are known. */
  mostKnown: number;
}

/** Who comes so much before his moment, as whole seconds make him, is not sent away again. */
const earlyMs = 1_000;
/** Who did not come for so long is not expected any more. */
const lateMs = 60_000;

export class Appointments {
  readonly #limits: AppointmentsLimits;
  readonly #ports: { clock: Clock; random: Random };
  /** On the boot clock, the earliest first. */
  readonly #momentsMs = new Map<string, number>();
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(limits: AppointmentsLimits, ports: { clock: Clock; random: Random }) {
    this.#limits = limits;
    this.#ports = ports;
  }

  /** Milliseconds after which `name` is to come again, 0: it may go on now. `eachMs`: how long one of them takes. */
  take(name: string, eachMs: number): number {
    const { clock, random } = this.#ports;
    const { burst, farthestMs, mostKnown } = this.#limits;
    const nowMs = clock.bootMs();
    const momentMs = this.#momentsMs.get(name);
    if (momentMs !== undefined && momentMs > nowMs + earlyMs) return momentMs - nowMs;
    if (momentMs !== undefined) {
      this.#momentsMs.delete(name);
      return 0;
    }
    this.#forgetLate(nowMs);
    const nextMs = Math.max(this.#lastMs, nowMs - burst * eachMs) + eachMs;
    if (nextMs > nowMs + farthestMs || this.#momentsMs.size >= mostKnown) return 1 + random.fraction() * farthestMs;
    this.#lastMs = nextMs;
    if (nextMs <= nowMs) return 0;
    this.#momentsMs.set(name, nextMs);
    return nextMs - nowMs;
  }

  #forgetLate(nowMs: number): void {
    for (const [name, momentMs] of this.#momentsMs) {
      if (momentMs > nowMs - lateMs) return;
      this.#momentsMs.delete(name);
    }
  }
}
