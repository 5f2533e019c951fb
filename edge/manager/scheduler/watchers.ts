/** Who waits for a session to change, in memory alone: a crash of the object ends the wait, and whoever waited asks again. */
import type { Timers } from '../../../schema/ports.ts';

/** More are answered at once, and ask again when they like. */
const mostWaiting = 2_000;

export class Watchers {
  readonly #after: Timers['after'];
  readonly #waiting = new Map<string, Set<(wasTouched: boolean) => void>>();
  #count = 0;

  constructor(after: Timers['after']) {
    this.#after = after;
  }

  /** Resolves with true when a turn touches the session; with false after `withinMs`, or at once when too many wait. */
  touched(sessionId: string, withinMs: number): Promise<boolean> {
    if (this.#count >= mostWaiting) return Promise.resolve(false);
    this.#count += 1;
    return new Promise((resolve) => {
      const done = (wasTouched: boolean): void => {
        cancel();
        this.#count -= 1;
        const others = this.#waiting.get(sessionId);
        others?.delete(done);
        if (others?.size === 0) this.#waiting.delete(sessionId);
        resolve(wasTouched);
      };
      const cancel = this.#after(withinMs, () => done(false));
      const waiting = this.#waiting.get(sessionId) ?? new Set();
      this.#waiting.set(sessionId, waiting.add(done));
    });
  }

  touch(sessionIds: Iterable<string>): void {
    if (this.#count === 0) return;
    for (const sessionId of sessionIds) for (const done of this.#waiting.get(sessionId) ?? []) done(true);
  }
}
