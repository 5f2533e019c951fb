/** Every duration that a ledger goes by, in milliseconds. Production defaults; tests of the real stack scale them. */
import { limits } from '../../../schema/protocol/limits.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

export const productionTimers = {
  /** How often hubs are asked who is still there, while anything depends on it. */
  livenessEveryMs: 15_000,
  /** Absent, closing or silent for this long: out of reach. */
  silentMs: limits.silentMs,
  /** An unacknowledged intent is sent again after this, doubling to the cap. */
  intentFirstMs: 2_000,
  intentCapMs: 60_000,
  /** `not_sent` this soon after an attach says nothing: the hub may not have read the answer to it yet. */
  attachSettlesMs: 5_000,
  /** A fence that was not confirmed is asked again. */
  fenceRetryMs: 5_000,
  /** What a run lease of one millisecond lasts. */
  leaseFactor: 1,
  /** Added to a run lease before its session may be placed anew. */
  fenceMarginMs: 30_000,
  /** An agent that answers pings but acknowledges nothing for this long is broken: it is fenced. */
  scheduledMs: 90_000,
  preparingMs: 2 * minuteMs,
  /** Without progress. */
  pullingMs: 30 * minuteMs,
  creatingMs: 2 * minuteMs,
  /** Beyond the grace of the stop. */
  terminatingMs: minuteMs,
  /** A session that an inventory lacks is lost when no event explains it within this. */
  missingMs: 30_000,
  /** After a restore nothing is placed before every agent has said what it holds, and no longer than this. */
  restoreSettleMs: minuteMs,
  /** Pause before a failed start is tried again, doubling. */
  startAgainMs: 2_000,
  /** Nobody waits longer than this. */
  pendingMs: 30 * 24 * hourMs,
  /** An ended session is kept at least this long: a late hand-over must not run it twice. */
  retentionMs: 48 * hourMs,
  /** First retry of a delivery that failed, doubling to the cap. */
  outboxFirstMs: 1_000,
  outboxCapMs: 60_000,
} as const;
export type LedgerTimers = { readonly [Name in keyof typeof productionTimers]: number };

/** Retention is not scaled: it protects against a double start, not against waiting. */
const unscaled: ReadonlySet<string> = new Set<keyof LedgerTimers>(['retentionMs']);

/**
 * The timers at a scale: 0.1 is ten times faster. For tests of the real stack, whose agents take the same scale.
 * @throws Error in production, or when the scale is not within [0.001, 1]
 */
export function scaledTimers(scale: number, layout: 'production' | 'machine'): LedgerTimers {
  if (scale === 1) return productionTimers;
  if (layout === 'production') throw new Error('CAUSEWAY_TIME_SCALE is refused in production: leases must be real');
  if (!(scale >= 0.001 && scale <= 1)) throw new Error('CAUSEWAY_TIME_SCALE must be between 0.001 and 1');
  const entries = Object.entries(productionTimers).map(([name, ms]) => [name, unscaled.has(name) ? ms : ms * scale]);
  return Object.fromEntries(entries) as LedgerTimers;
}
