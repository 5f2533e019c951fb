/** Reconnecting with full jitter (SPEC rule M12), for agents and clients. Pure: the caller brings the random number. */
import { limits } from './limits.ts';

/**
 * Milliseconds to wait before try `attempt` (0 is the first after a loss): uniform in [0, min(cap, base x 2^attempt)].
 * @param fraction uniform in [0, 1)
 */
export function backoffMs(attempt: number, fraction: number): number {
  const ceiling = Math.min(limits.reconnectCapMs, limits.reconnectBaseMs * 2 ** Math.min(attempt, 30));
  return Math.floor(fraction * ceiling);
}
