/**
 * `npm test` (daily) and `npm run test:full` (full): prepares the machine, checks, runs every project, and closes with one
 * plain line `N passed, N failed`. Exits non-zero when anything failed or a project ran no test.
 */
import { inspect } from 'node:util';
import { startVitest } from 'vitest/node';

import { check } from './check.ts';
import { prepareMachine, type Tier } from './prepare.ts';
import { root, step } from './steps.ts';

/** In this order: the quick ones first. */
const PROJECTS = ['node', 'edge', 'e2e'];

type Count = { passed: number; failed: number; skipped: number };

/** What failed, said again at the very end: a log is often read from there. */
const failures: string[] = [];

/** Runs one project and counts its tests; a file that could not be collected and a stray error are failures too. */
async function runProject(project: string): Promise<Count> {
  const vitest = await startVitest([], {
    root,
    project,
    run: true,
    watch: false,
    passWithNoTests: true,
    silent: 'passed-only',
  });
  const count: Count = { passed: 0, failed: 0, skipped: 0 };
  for (const module of vitest.state.getTestModules()) {
    let failedHere = 0;
    for (const test of module.children.allTests()) {
      const { state } = test.result();
      if (state === 'passed') count.passed += 1;
      else if (state === 'skipped') count.skipped += 1;
      else {
        failedHere += 1;
        failures.push(`${module.relativeModuleId} > ${test.fullName}: ${test.result().errors?.[0]?.message ?? state}`);
      }
    }
    if (failedHere > 0 || module.ok()) count.failed += failedHere;
    else {
      count.failed += 1;
      failures.push(`${module.relativeModuleId}: ${module.errors()[0]?.message ?? 'failed outside its tests'}`);
    }
  }
  for (const error of vitest.state.getUnhandledErrors()) {
    count.failed += 1;
    failures.push(`${project}, outside any test: ${inspect(error)}`);
  }
  await vitest.close();
  if (count.passed + count.failed === 0) {
    console.log(`FAIL  project ${project} ran no test`);
    count.failed += 1;
  }
  return count;
}

function parseTier(word: string | undefined): Tier {
  if (word === 'daily' || word === 'full') return word;
  console.error('usage: test/run.ts daily|full');
  process.exit(64);
}

const tier = parseTier(process.argv[2]);
process.env['CAUSEWAY_TIER'] = tier;
const started = performance.now();
const total: Count = { passed: 0, failed: 0, skipped: 0 };
if (!(await step('the machine has what the tests need', () => prepareMachine(tier)))) total.failed += 1;
else {
  if (!(await check())) {
    total.failed += 1;
    failures.push('npm run check');
  }
  for (const project of PROJECTS) {
    const count = await runProject(project);
    for (const key of ['passed', 'failed', 'skipped'] as const) total[key] += count[key];
  }
}
for (const failure of failures) console.log(`FAIL  ${failure}`);
console.log(`${tier} tier, ${((performance.now() - started) / 60_000).toFixed(1)} min`);
console.log(`${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ''}`);
process.exit(total.failed === 0 ? 0 : 1);
