/**
 * Lets so many pass at once, so that a herd does not fill the thread and whoever else asks gets his turn in between. Who comes
 * on top looks again when those before him should be through, by what a passage takes. In the isolate's memory, bounded.
 */
import { Refusal } from '../../schema/errors.ts';
import type { TurnPorts } from './turns.ts';

export interface DoorwayLimits {
  atOnce: number;
  /** The longest wait; then, and where too many wait, a request is refused. */
  waitMs: number;
  mostWaiting: number;
  /** Those that are refused come back within twice the time that those who wait will take, and this at most. */
  spreadMs: number;
  /** Said to whoever is refused. */
  detail: string;
}

/** A request whose client went away is never told how its passage ended, and never looks again: it counts no longer than this. */
const longestPassageMs = 5_000;
const firstGuessMs = 5;
const shareOfNew = 1 / 8;

export class Doorway {
  readonly #limits: DoorwayLimits;
  readonly #ports: TurnPorts;
  /** Since when each is inside. */
  readonly #inside = new Set<{ sinceMs: number }>();
  /** When each of those that wait looks next; later than that where the thread is busy. */
  readonly #waiting = new Set<{ dueMs: number }>();
  #passageMs = firstGuessMs;

  constructor(limits: DoorwayLimits, ports: TurnPorts) {
    this.#limits = limits;
    this.#ports = ports;
  }

  /** As many wait as are inside: who can come later should. */
  get isCrowded(): boolean {
    this.#forgetGone();
    return this.#waiting.size >= this.#limits.atOnce;
  }

  /** Does the work when there is room. @throws Refusal `edge_overloaded`, and what the work throws */
  async pass<Result>(work: () => Promise<Result>): Promise<Result> {
    const passage = await this.#enter();
    try {
      return await work();
    } finally {
      this.#inside.delete(passage);
      this.#passageMs += (this.#ports.clock.bootMs() - passage.sinceMs - this.#passageMs) * shareOfNew;
    }
  }

  async #enter(): Promise<{ sinceMs: number }> {
    const { clock, timers, random } = this.#ports;
    const { atOnce, waitMs, mostWaiting, spreadMs, detail } = this.#limits;
    const untilMs = clock.bootMs() + waitMs;
    for (;;) {
      const nowMs = clock.bootMs();
      this.#forgetGone();
      if (this.#inside.size < atOnce) {
        const passage = { sinceMs: nowMs };
        this.#inside.add(passage);
        return passage;
      }
      const before = this.#waiting.size;
      if (nowMs >= untilMs || before >= mostWaiting) {
        const awayMs = random.fraction() * Math.min((2 * before * this.#passageMs) / atOnce, spreadMs);
        throw new Refusal('edge_overloaded', detail, { retryAfterSeconds: Math.ceil(awayMs / 1000) + 1 });
      }
      // Not all at the same moment.
      const guessMs = (1 + before / atOnce) * this.#passageMs * (0.5 + random.fraction());
      const lookMs = Math.min(Math.max(guessMs, 1), untilMs - nowMs);
      const look = { dueMs: nowMs + lookMs };
      this.#waiting.add(look);
      await new Promise<void>((resolve) => void timers.after(lookMs, resolve));
      this.#waiting.delete(look);
    }
  }

  #forgetGone(): void {
    const goneMs = this.#ports.clock.bootMs() - longestPassageMs;
    for (const passage of this.#inside) if (passage.sinceMs < goneMs) this.#inside.delete(passage);
    for (const look of this.#waiting) if (look.dueMs < goneMs) this.#waiting.delete(look);
  }
}
