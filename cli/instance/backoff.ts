/** How long to wait before a part that ended is started again. Pure. */

const FIRST_MS = 500;
const MOST_MS = 30_000;
/** A part that ran this long was well: its next failure is a first one. */
export const STABLE_MS = 60_000;

/** Wait in milliseconds after `failures` ends in a row (1, 2, ...): doubling, from half a second to half a minute. */
export function backoffMs(failures: number): number {
  return Math.min(MOST_MS, FIRST_MS * 2 ** Math.max(0, failures - 1));
}
