/** The fuzzer's everyday share: every parser of what another wrote, against its properties. Every day the same inputs; the full run's are its day's own. */
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { seededRandom } from '../support/random.ts';
import { byTier } from '../support/tier.ts';
import { corpusOf, FuzzFailure, fuzz, hold, type Target } from './fuzzer.ts';
import { mutate } from './mutate.ts';
import { targets } from './targets/index.ts';

const runs = byTier({ daily: 20_000, full: 1_000_000 });
const seed = byTier({ daily: 1, full: Math.floor(Date.now() / 86_400_000) });

describe(`inputs of seed ${seed}`, () => {
  it.each(Object.keys(targets))('[F1-F6] [I1] [I2] break no property of %s', { timeout: 1_800_000 }, async (name) => {
    const target = targets[name]!();
    try {
      const done = await fuzz(target, { runs, seed });
      expect(done.runs).toBeGreaterThanOrEqual(Math.ceil(runs * (target.share ?? 1)));
    } finally {
      target.close?.();
    }
  });
});

describe('the fuzzer', () => {
  const planted: Target = {
    name: 'frames',
    maxBytes: 256,
    seeds: () => [Buffer.from('abcdef')],
    run: (input) => hold(!input.includes('abcab'), 'nothing is doubled'),
  };

  it('finds a planted fault and tells the input, the same one for the same seed', async () => {
    const failures = await Promise.all([1, 1].map(async () => fuzz(planted, { runs: 100_000, seed: 1 }).catch(String)));
    expect(failures[0]).toMatch(
      /FuzzFailure: frames failed at run \d+ of seed 1.*nothing is doubled\ninput: [0-9a-f]+/s,
    );
    expect(failures[0]).toBe(failures[1]);
    await expect(fuzz({ ...planted, run: () => hold(false, 'x') }, { runs: 1, seed: 1 })).rejects.toThrow(FuzzFailure);
  });

  it('makes inputs within their limit, mostly different ones', () => {
    const rng = seededRandom(4);
    const made = Array.from({ length: 2000 }, () => mutate(rng, Buffer.alloc(90, 1), [Buffer.alloc(60, 2)], 100));
    expect(Math.max(...made.map((bytes) => bytes.length))).toBe(100);
    expect(new Set(made.map((bytes) => bytes.toString('hex'))).size).toBeGreaterThan(1500);
  });

  it('has a corpus for each target, below 100 KiB in all', () => {
    const sizes = Object.keys(targets).flatMap((name) => {
      const files = corpusOf(name).map((file) => statSync(join(import.meta.dirname, 'corpus', name, file.name)).size);
      expect(files.length, name).toBeGreaterThan(0);
      return files;
    });
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(100 * 1024);
  });

  it('says from its command line what it did, and refuses what it does not know', () => {
    const run = (...args: string[]) =>
      execFileSync(process.execPath, [join(import.meta.dirname, 'index.ts'), ...args], { stdio: 'pipe' }).toString();
    expect(run('journal', '--runs', '500', '--seed', '3')).toMatch(/^journal runs=500 failures=0 seed=3 seconds=/);
    expect(() => run('nothing')).toThrow(/usage: npm run fuzz/);
  });
});
