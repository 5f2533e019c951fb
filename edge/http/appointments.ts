/**
 * Gives each of a herd a moment of its own to come back at, as many a second as get through: what a thread can not do now is
 * asked for again when it can, and being sent away costs little. In the isolate's memory, bounded.
 */
import type { Clock, Random } from '../../schema/ports.ts';

export interface AppointmentsLimits {
  /** So many may come at once after a calm. */
  burst: number;
  /** Nobody is sent away for longer; of a herd that is larger the rest comes again at any moment of that time. */
  farthestMs: number;
  /** What one takes is at least this, also before it is known, and at most that. */
  leastEachMs: number;
  mostEachMs: number;
  /** Of so many the moments are known. */
  mostKnown: number;
}

/** Who comes so much before his moment, as whole seconds make him, is not sent away again. */
const earlyMs = 1_000;
/** Who did not come for so long is not expected any more. */
const lateMs = 60_000;
const shareOfNew = 1 / 32;

export class Appointments {
  readonly #limits: AppointmentsLimits;
  readonly #ports: { clock: Clock; random: Random };
  /** On the boot clock, the earliest first. */
  readonly #momentsMs = new Map<string, number>();
  #lastMs = Number.NEGATIVE_INFINITY;
  #eachMs: number;
  /** When the last one got through, if others waited then. */
  #throughAtMs: number | undefined;

  constructor(limits: AppointmentsLimits, ports: { clock: Clock; random: Random }) {
    this.#limits = limits;
    this.#ports = ports;
    this.#eachMs = limits.leastEachMs;
  }

  /** How long one takes, ms. */
  get eachMs(): number {
    return this.#eachMs;
  }

  /** One more is through. While others wait, the time between two is what one takes, whatever it is spent on. */
  through(othersWait: boolean): void {
    const nowMs = this.#ports.clock.bootMs();
    const { leastEachMs, mostEachMs } = this.#limits;
    if (othersWait && this.#throughAtMs !== undefined)
      this.#eachMs += (Math.min(nowMs - this.#throughAtMs, mostEachMs) - this.#eachMs) * shareOfNew;
    this.#eachMs = Math.max(this.#eachMs, leastEachMs);
    this.#throughAtMs = othersWait ? nowMs : undefined;
  }

  /** Milliseconds after which `name` is to come again, 0: it may go on now. */
  take(name: string): number {
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
    const nextMs = Math.max(this.#lastMs, nowMs - burst * this.#eachMs) + this.#eachMs;
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
