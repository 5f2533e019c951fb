/** The simulator as `npm run simulate` runs it: worlds without a violation, and planted bugs that it finds. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { byTier } from '../support/tier.ts';
import { brokenMutants, mutantNames } from './mutants.ts';

const root = join(import.meta.dirname, '../..');
const seeds = byTier({ daily: 500, full: 20_000 });
/** Of a storm: many short ones find more than few long ones. */
const events = 4_000;
const planted = byTier({ daily: 3, full: mutantNames().length });

/** Runs it to its end; answers the exit status and what was printed. It yields to whatever else is tested meanwhile. */
function simulate(args: readonly string[]): Promise<{ status: number | null; said: string }> {
  const program = join(root, 'test/simulation/run.ts');
  const child = spawn('nice', ['-n', '19', process.execPath, program, ...args], { cwd: root });
  let said = '';
  child.stdout.on('data', (text: Buffer) => (said += text.toString()));
  child.stderr.resume();
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, said })));
}

/** Some mutants, others at each commit. */
function chosenMutants(): string[] {
  const names = mutantNames();
  const { stdout } = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' });
  const first = Number.parseInt(stdout.slice(0, 6) || '0', 16) % names.length;
  return Array.from({ length: planted }, (_, at) => names[(first + at) % names.length]!);
}

it(`holds every invariant in ${seeds} worlds`, { timeout: 4 * 3_600_000 }, async () => {
  const { status, said } = await simulate(['--seeds', String(seeds), '--events', String(events)]);
  expect(said).toMatch(/seeds=\d+ events=\d+ violations=0 sometimes=\d+\/\d+\n$/);
  expect(status).toBe(0);
});

it('replays a seed exactly', async () => {
  const worlds = await Promise.all([simulate(['--seed', '7', '--verbose']), simulate(['--seed', '7', '--verbose'])]);
  expect(worlds[0].said).toMatch(/"hash": "[0-9a-f]{16}"/);
  expect(worlds[1].said).toBe(worlds[0].said);
});

it('has planted bugs that apply to the sources as they are', () => {
  expect(mutantNames().length).toBeGreaterThanOrEqual(20);
  expect(brokenMutants()).toBe('');
});

it.for(chosenMutants())('finds the planted bug %s', { timeout: 3_600_000 }, async (name) => {
  const { status, said } = await simulate(['--mutants', name]);
  expect(said).toMatch(/^found /m);
  expect(status).toBe(0);
});
