/** An agent that becomes another version of itself: the order, and how far it is, as its machine tells it. */
import { z } from 'zod';
import { versionPattern } from '../release.ts';

const count = z.int().nonnegative();
const Version = z.string().regex(versionPattern);

/**
 * Where an upgrade is. `none`: there was none. `downloading` and `unpacking`: the version that runs works on. `restarting`:
 * it hands over. `trial`: the new version runs and must connect and report. `done`, `failed`: over; after `failed` the
 * version before runs.
 */
export const UpgradePhase = z.enum(['none', 'downloading', 'unpacking', 'restarting', 'trial', 'done', 'failed']);

export const UpgradeState = z
  .object({
    /** Of the agent that answers. */
    running: z.string().max(64),
    phase: UpgradePhase,
    from: Version.optional(),
    to: Version.optional(),
    /** Why it failed, or why it can not be ordered. */
    detail: z.string().max(512).optional(),
    doneBytes: count.optional(),
    totalBytes: count.optional(),
    atMs: count,
  })
  .meta({ id: 'UpgradeState' });
export type UpgradeState = z.infer<typeof UpgradeState>;

export const NewUpgrade = z
  .strictObject({
    /** Also to a release that was signed before the one that runs. */
    allowDowngrade: z.boolean().optional(),
    /** Refused for an agent that is pinned: for orders to many. */
    respectPin: z.boolean().optional(),
  })
  .meta({ id: 'NewUpgrade' });
export type NewUpgrade = z.infer<typeof NewUpgrade>;

const TimeOfDay = z.string().regex(/^([01][0-9]|2[0-3]):[0-5][0-9]$/, 'must be a time of day like 02:30');

/**
 * When an agent upgrades itself. `manual`: when it is ordered (the default). `auto`: when its control plane has another
 * release. `window`: the same, from one time of the day to another (UTC; past midnight when `to` is before `from`).
 * `pinned`: only when it is ordered by name.
 */
export const UpgradePolicy = z.discriminatedUnion(
  'mode',
  [
    z.strictObject({ mode: z.literal('manual') }),
    z.strictObject({ mode: z.literal('auto') }),
    z.strictObject({ mode: z.literal('window'), from: TimeOfDay, to: TimeOfDay }),
    z.strictObject({ mode: z.literal('pinned') }),
  ],
  'must have a mode: manual, auto, pinned, or window with from and to',
);
export type UpgradePolicy = z.infer<typeof UpgradePolicy>;

/** Of an agent or a resource group; null: an agent has its group's, a group `manual`. */
export const UpgradePolicySetting = z
  .strictObject({ policy: UpgradePolicy.nullable() })
  .meta({ id: 'UpgradePolicySetting' });

/** What an agent is told when it asks: its policy, and the version that this control plane has for its machine. */
export const UpgradePlan = z.object({ policy: UpgradePolicy, version: Version.optional() }).meta({ id: 'UpgradePlan' });
export type UpgradePlan = z.infer<typeof UpgradePlan>;

const dayMinutes = 24 * 60;
const minuteOf = (time: string) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3));

/** Minutes until an agent with this policy may begin, counted from Unix `nowMs`; 0: now; undefined: not by itself. */
export function minutesUntilUpgrade(policy: UpgradePolicy, nowMs: number): number | undefined {
  if (policy.mode === 'auto') return 0;
  if (policy.mode !== 'window') return undefined;
  const now = Math.floor(nowMs / 60_000) % dayMinutes;
  const since = (now - minuteOf(policy.from) + dayMinutes) % dayMinutes;
  // From a time to the same time is a whole day.
  const length = (minuteOf(policy.to) - minuteOf(policy.from) + dayMinutes) % dayMinutes || dayMinutes;
  return since < length ? 0 : dayMinutes - since;
}
