import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { runChaos } from '../chaos/chaos.ts';
import { byTier } from '../support/tier.ts';

const amount = byTier({
  daily: { faults: 15, agents: 2, sessions: 8 },
  full: { faults: 100, agents: 4, sessions: 40 },
});
/** Another run with each commit; CAUSEWAY_SEED repeats one. */
const seed = Number(
  process.env['CAUSEWAY_SEED'] ??
    Number.parseInt(execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8' }).slice(0, 6), 16),
);

it(`[I1-I7] [I10-I12] ${amount.faults} faults of the schedule ${seed} lose, double and leak nothing`, async () => {
  const { violations, story, logs, kinds } = await runChaos({ ...amount, seed });
  expect(violations, `${story.join('\n')}\nlogs: ${logs ?? 'none'}\nseed=${seed}`).toEqual([]);
  expect(kinds).toBeGreaterThanOrEqual(Math.min(amount.faults, 20) - 1);
}, 3_600_000);
