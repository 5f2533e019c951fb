/**
 * `npm run fuzz -- [TARGET...] [--runs N] [--seed S]`: mutated inputs for every parser that reads what another wrote. One
 * line a target; the input of a failure is printed with the seed that finds it again, and the exit status is 1.
 */
import { parseArgs } from 'node:util';

import { FuzzFailure, fuzz } from './fuzzer.ts';
import { targets } from './targets/index.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { runs: { type: 'string', default: '20000' }, seed: { type: 'string', default: '1' } },
});
const [runs, seed] = [Number(values.runs), Number(values.seed)];
const unknown = positionals.filter((name) => targets[name] === undefined);
if (unknown.length > 0 || !Number.isSafeInteger(runs) || runs < 1 || !Number.isSafeInteger(seed)) {
  console.error(`usage: npm run fuzz -- [TARGET...] [--runs N] [--seed S]\ntargets: ${Object.keys(targets).join(' ')}`);
  process.exit(64);
}

let failures = 0;
for (const [name, make] of Object.entries(targets)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  const target = make();
  const started = performance.now();
  try {
    const done = await fuzz(target, { runs, seed });
    console.log(
      `${name} runs=${done.runs} failures=0 seed=${seed} seconds=${((performance.now() - started) / 1000).toFixed(1)}`,
    );
  } catch (error) {
    if (!(error instanceof FuzzFailure)) throw error;
    failures += 1;
    console.log(`${name} failures=1 seed=${seed}\n${error.message}`);
  } finally {
    target.close?.();
  }
}
process.exitCode = failures === 0 ? 0 : 1;
