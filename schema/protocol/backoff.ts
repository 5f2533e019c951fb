/** Reconnecting with full jitter (SPEC rule M12), for agents and clients. Pure: the caller brings time and the random number. */
import { limits } from './limits.ts';

/**
 * Milliseconds to wait before try `attempt` (0 is the first after a loss): uniform in [0, min(cap, base x 2^attempt)].
 * @param fraction uniform in [0, 1)
 */
export function backoffMs(attempt: number, fraction: number, capMs: number = limits.reconnectCapMs): number {
  const ceiling = Math.min(capMs, limits.reconnectBaseMs * 2 ** Math.min(attempt, 30));
  return Math.floor(fraction * ceiling);
}

/**
 * The waits between the dials of one agent. While nobody listens where the edge was a moment ago it knocks every few seconds,
 * to be there when the edge is: a refused connection costs nobody anything. An edge that answers late or with an error is
 * busy, and gets the whole back-off; unless it names the moment to come back at: that is kept, and asked for nothing here.
 * One that accepts is not busy: where only the way is cut again and again, the waits stay short.
 */
export class Redial {
  #failures = 0;
  #lostAtMs = Number.NEGATIVE_INFINITY;
  #spreadMs = 0;
  #wasReset = false;

  /** The edge said how long after it was gone all of its agents should be back: by how many they are. */
  spread(ms: number): void {
    this.#spreadMs = Math.min(ms, limits.knockForMs);
  }

  /**
   * A socket that had been accepted for so long ended. Times on the boot clock. `wasReset`: by the other end, without a word,
   * as those of all agents are when the edge dies.
   */
  lost(acceptedMs: number, nowMs: number, wasReset: boolean): void {
    this.#lostAtMs = nowMs;
    this.#wasReset = wasReset;
    this.#failures = acceptedMs >= limits.stableMs ? 0 : Math.floor(this.#failures / 2);
  }

  /** Of the first dial after a loss. One that was no reset may have been of this agent's way alone. */
  get #firstSpreadMs(): number {
    return this.#wasReset ? this.#spreadMs : Math.min(this.#spreadMs / 2, limits.firstSpreadCapMs);
  }

  /** What is left of it, so that all are back by then; never so little that an edge which returns late is met by all at once. */
  #knockSpreadMs(nowMs: number): number {
    return Math.max(this.#spreadMs - (nowMs - this.#lostAtMs), this.#spreadMs / 2);
  }

  /** Milliseconds until the next dial; `reachedNobody`: the last one was refused by the network. */
  waitMs(nowMs: number, fraction: number, reachedNobody: boolean): number {
    const knocks = reachedNobody && nowMs - this.#lostAtMs < limits.knockForMs;
    const spreadMs = knocks ? this.#knockSpreadMs(nowMs) : this.#failures === 0 ? this.#firstSpreadMs : 0;
    if (spreadMs > limits.knockCapMs) {
      this.#failures++;
      return Math.floor(fraction * spreadMs);
    }
    return backoffMs(this.#failures++, fraction, knocks ? limits.knockCapMs : limits.reconnectCapMs);
  }
}
