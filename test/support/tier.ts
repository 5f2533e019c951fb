/** How much a test run does: `daily` fits into the everyday run, `full` has no limit of time. */

export const tier: 'daily' | 'full' = process.env['CAUSEWAY_TIER'] === 'full' ? 'full' : 'daily';

/** Picks an amount by the tier. */
export function byTier<T>(amounts: { daily: T; full: T }): T {
  return amounts[tier];
}
