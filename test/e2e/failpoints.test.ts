import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { failpointPhases, failpoints } from '../../schema/failpoints.ts';
import { visitFailpoint } from '../support/failpoint-run.ts';
import { seededRandom } from '../support/random.ts';
import { byTier } from '../support/tier.ts';

const names = [...failpoints.edge, ...failpoints.agent];
const all = names.flatMap((name) => failpointPhases.map((phase) => ({ name, phase })));
/** The daily ten are another ten with each commit, so that the list is walked through over time. */
const chosen = byTier({ daily: sample(all, 10), full: all });

it.each(chosen)(
  '[I1-I7] [I11] [I12] a death at $name ($phase) loses, doubles and leaks nothing',
  async ({ name, phase }) => {
    const { visited, faults } = await visitFailpoint(name, phase);
    expect(faults).toEqual([]);
    expect(visited).toBe(true);
  },
  300_000,
);

function sample<T>(items: readonly T[], count: number): T[] {
  const random = seededRandom(Number.parseInt(commit().slice(0, 8), 16));
  const left = [...items];
  return Array.from({ length: count }, () => left.splice(random.integer(0, left.length - 1), 1)).flat();
}

/** The commit that is tested; CAUSEWAY_SEED repeats the choice of another one. */
function commit(): string {
  return process.env['CAUSEWAY_SEED'] ?? execFileSync('git', ['rev-parse', 'HEAD'], { encoding: 'utf8' });
}
