/**
 * `npm test` (daily) and `npm run test:full` (full): prepares the machine, checks, runs every project, and closes with one
 * plain line `N passed, N failed`. Exits non-zero when anything failed or a project ran no test.
 *
 * In the daily tier a file that failed is run once more, alone, after its project: on a machine with other work a wait for a
 * real part can be too short. When it passes then, the run is good, and the failure is named as `UNSTEADY`: a flaw of the
 * test or of the product that somebody has to look at. What is broken fails twice. The full tier forgives nothing.
 *
 * Projects named behind the tier (`npm run test:full -- alone`) are the only ones that run: the full tier takes over two
 * hours, and so it can be had in parts.
 */
import { inspect } from 'node:util';
import { startVitest } from 'vitest/node';

import { check } from './check.ts';
import { prepareMachine, type Tier } from './prepare.ts';
import { root, step } from './steps.ts';

/** In this order: the quick ones first. */
const PROJECTS = { daily: ['node', 'edge', 'e2e'], full: ['node', 'edge', 'e2e', 'alone'] };

/** More files than this failing at once is no accident. */
const UNSTEADY_FILES = 3;
/** What these find is a story of chance that must be looked at, whatever a second run says. */
const NEVER_AGAIN = /^test\/(simulation|fuzz)\/|^test\/e2e\/chaos/;

type Count = { passed: number; failed: number; skipped: number };
type Outcome = Count & {
  /** What failed, a line each, by the file it stands in; under '' what belongs to none. */
  failures: Map<string, string[]>;
};

/** What is said at the very end: a log is often read from there. */
const closing: string[] = [];

/** Runs one project, or some files of it, and counts; a file that could not be collected and a stray error are failures too. */
async function runTests(project: string, files: string[] = []): Promise<Outcome> {
  const vitest = await startVitest(files, {
    root,
    project,
    run: true,
    watch: false,
    passWithNoTests: true,
    silent: 'passed-only',
  });
  const outcome: Outcome = { passed: 0, failed: 0, skipped: 0, failures: new Map() };
  const fail = (file: string, what: string): void => {
    outcome.failed += 1;
    outcome.failures.set(file, [...(outcome.failures.get(file) ?? []), what]);
  };
  for (const module of vitest.state.getTestModules()) {
    const file = module.relativeModuleId;
    for (const test of module.children.allTests()) {
      const { state, errors } = test.result();
      if (state === 'passed') outcome.passed += 1;
      else if (state === 'skipped') outcome.skipped += 1;
      else fail(file, `${file} > ${test.fullName}: ${errors?.[0]?.message ?? state}`);
    }
    if (!module.ok() && !outcome.failures.has(file))
      fail(file, `${file}: ${module.errors()[0]?.message ?? 'failed outside its tests'}`);
  }
  for (const error of vitest.state.getUnhandledErrors()) fail('', `${project}, outside any test: ${inspect(error)}`);
  await vitest.close();
  if (outcome.passed + outcome.failed === 0) fail('', `project ${project} ran no test`);
  return outcome;
}

/** Runs one project; in the daily tier with a second chance for what may be no more than unsteady. */
async function runProject(project: string): Promise<Count> {
  const { failures, ...count } = await runTests(project);
  const files = [...failures.keys()];
  const again =
    tier === 'daily' && files.length <= UNSTEADY_FILES && files.every((file) => file !== '' && !NEVER_AGAIN.test(file));
  for (const file of files) {
    const first = failures.get(file)!;
    const second = again ? await runTests(project, [file]) : undefined;
    const steady = second?.failed === 0;
    closing.push(...first.map((line) => `${steady ? 'UNSTEADY' : 'FAIL'}  ${line}`));
    if (!steady) continue;
    count.failed -= first.length;
    count.passed += first.length;
  }
  return count;
}

/** The tier, and those of its projects that are to run: all of them where none is named. */
function parseArguments([tier, ...named]: string[]): { tier: Tier; projects: string[] } {
  if (tier === 'daily' || tier === 'full') {
    const projects = PROJECTS[tier].filter((project) => named.length === 0 || named.includes(project));
    if (named.every((project) => projects.includes(project))) return { tier, projects };
  }
  console.error(`usage: test/run.ts daily|full [PROJECT...], where a project is one of ${PROJECTS.full.join(', ')}`);
  process.exit(64);
}

const { tier, projects } = parseArguments(process.argv.slice(2));
process.env['CAUSEWAY_TIER'] = tier;
const started = performance.now();
const total: Count = { passed: 0, failed: 0, skipped: 0 };
if (!(await step('the machine has what the tests need', () => prepareMachine(tier)))) total.failed += 1;
else {
  if (!(await check())) {
    total.failed += 1;
    closing.push('FAIL  npm run check');
  }
  for (const project of projects) {
    const count = await runProject(project);
    for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += count[key];
  }
}
for (const line of closing) console.log(line);
const part = projects.length < PROJECTS[tier].length ? `, of it ${projects.join(', ')}` : '';
console.log(`${tier} tier${part}, ${((performance.now() - started) / 60_000).toFixed(1)} min`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed === 0 ? 0 : 1);
