/**
 * Planted bugs: each patch of `mutants/` is applied to a copy of the sources, and the simulator must find it within 2,000
 * seeds. A patch that no longer applies, and a bug that is not found, are failures. The first line of a patch names the
 * seed that found it last, which is tried first; `--learn` writes that line anew where the worlds have changed.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const folder = join(import.meta.dirname, 'mutants');
/** Most are found early; the search for one takes at most twice as long as it needs. */
const rounds = [16, 32, 64, 128, 256, 512, 992];
const copied = ['schema', 'edge', 'agent-daemon', 'wire', 'test/simulation', 'test/support', 'package.json'];

const patchOf = (name: string): string => join(folder, `${name}.patch`);

/** Names of all patches. */
export function mutantNames(): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.patch'))
    .map((name) => name.replace(/\.patch$/, ''))
    .sort();
}

/** What git says of the patches that do not apply to the sources as they are. */
export function brokenMutants(): string {
  const patches = mutantNames().map(patchOf);
  // One by one: two of them may change the same line.
  return patches
    .map((patch) => spawnSync('git', ['apply', '--check', patch], { cwd: root, encoding: 'utf8' }).stderr)
    .join('');
}

/** Runs these mutants (default all); 0 when each was found. */
export function runMutants(names: readonly string[], learn: boolean): number {
  const wanted = names.length > 0 ? names : mutantNames();
  let found = 0;
  for (const name of wanted) {
    const { seed, said } = runMutant(name);
    if (seed !== undefined) found += 1;
    if (seed !== undefined && learn) noteSeed(name, seed);
    console.log(`${seed === undefined ? 'NOT FOUND' : 'found'}  ${name}: ${said}`);
  }
  console.log(`mutants=${wanted.length} found=${found}`);
  return found === wanted.length ? 0 : 1;
}

/** What `git apply` passes over. */
const foundBy = /^Found by seed (\d+)\.\n/;

function notedSeed(name: string): number | undefined {
  const seed = foundBy.exec(readFileSync(patchOf(name), 'utf8'))?.[1];
  return seed === undefined ? undefined : Number(seed);
}

function noteSeed(name: string, seed: number): void {
  const patch = readFileSync(patchOf(name), 'utf8').replace(foundBy, '');
  writeFileSync(patchOf(name), `Found by seed ${seed}.\n${patch}`);
}

function runMutant(name: string): { seed?: number; said: string } {
  const tree = mkdtempSync(join(tmpdir(), 'causeway-mutant-'));
  try {
    for (const path of copied) cpSync(join(root, path), join(tree, path), { recursive: true });
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    const patched = spawnSync('git', ['apply', '--unsafe-paths', patchOf(name)], { cwd: tree, encoding: 'utf8' });
    if (patched.status !== 0) return { said: `the patch does not apply: ${patched.stderr}` };
    return search(tree, notedSeed(name));
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

/** Runs the worlds of a tree until one fails: that of the noted seed, then all in order. */
function search(tree: string, noted: number | undefined): { seed?: number; said: string } {
  const searches = noted === undefined ? [] : [{ first: noted, seeds: 1 }];
  let first = 1;
  for (const seeds of rounds) {
    searches.push({ first, seeds });
    first += seeds;
  }
  for (const { first, seeds } of searches) {
    const run = spawnSync(
      process.execPath,
      [join(tree, 'test/simulation/run.ts'), '--seeds', String(seeds), '--seed', String(first), '--brief', '--first'],
      { cwd: tree, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
    );
    const failed = run.stdout.split('\n').find((line) => /^seed \d+: \[/.test(line));
    if (failed !== undefined) return { seed: Number(/\d+/.exec(failed)![0]), said: failed };
    if (!/^seeds=/m.test(run.stdout)) return { said: `the run broke: ${run.stderr.slice(0, 500)}` };
  }
  return { said: `${first - 1} seeds say nothing` };
}
