/**
 * Planted bugs: each patch of `mutants/` is applied to a copy of the sources, and the simulator must find it within 2,000
 * seeds. A patch that no longer applies, and a bug that is not found, are failures.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const folder = join(import.meta.dirname, 'mutants');
/** Most are found early; the search for one takes at most twice as long as it needs. */
const rounds = [16, 32, 64, 128, 256, 512, 992];
const copied = ['schema', 'edge', 'agent-daemon', 'wire', 'test/simulation', 'test/support', 'package.json'];

/** Names of all patches. */
export function mutantNames(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.patch'))
    .map((name) => name.replace(/\.patch$/, ''))
    .sort();
}

/** What git says of the patches that do not apply to the sources as they are. */
export function brokenMutants(): string {
  const patches = mutantNames().map((name) => join(folder, `${name}.patch`));
  // One by one: two of them may change the same line.
  return patches
    .map((patch) => spawnSync('git', ['apply', '--check', patch], { cwd: root, encoding: 'utf8' }).stderr)
    .join('');
}

/** Runs these mutants (default all); 0 when each was found. */
export function runMutants(names: readonly string[]): number {
  const wanted = names.length > 0 ? names : mutantNames();
  let found = 0;
  for (const name of wanted) {
    const { isFound, said } = runMutant(name);
    if (isFound) found += 1;
    console.log(`${isFound ? 'found' : 'NOT FOUND'}  ${name}: ${said}`);
  }
  console.log(`mutants=${wanted.length} found=${found}`);
  return found === wanted.length ? 0 : 1;
}

function runMutant(name: string): { isFound: boolean; said: string } {
  const tree = mkdtempSync(join(tmpdir(), 'causeway-mutant-'));
  try {
    for (const path of copied) cpSync(join(root, path), join(tree, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    const patched = spawnSync('git', ['apply', '--unsafe-paths', join(folder, `${name}.patch`)], {
      cwd: tree,
      encoding: 'utf8',
    });
    if (patched.status !== 0) return { isFound: false, said: `the patch does not apply: ${patched.stderr}` };
    let first = 1;
    for (const seeds of rounds) {
      const run = spawnSync(
        process.execPath,
        [join(tree, 'test/simulation/run.ts'), '--seeds', String(seeds), '--seed', String(first), '--brief', '--first'],
        { cwd: tree, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
      );
      const failed = run.stdout.split('\n').filter((line) => /^seed \d+: \[/.test(line));
      if (failed.length > 0) return { isFound: true, said: failed[0]! };
      if (!/^seeds=/m.test(run.stdout)) return { isFound: false, said: `the run broke: ${run.stderr.slice(0, 500)}` };
      first += seeds;
    }
    return { isFound: false, said: `${rounds.reduce((sum, seeds) => sum + seeds)} seeds say nothing` };
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}
