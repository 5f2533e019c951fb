/**
 * `npm run chaos -- --faults N --seed S [--agents N] [--sessions N] [--only KIND,...] [--hold SECONDS] [--detection] [--list]`. The last line is
 * `faults=N kinds=N violations=N seed=S`; exit status 1 on a violation, 70 when the run itself failed.
 */
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';
import { kinds } from './kinds.ts';

const { values } = parseArgs({
  options: {
    faults: { type: 'string', default: '100' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    agents: { type: 'string', default: '4' },
    sessions: { type: 'string', default: '40' },
    only: { type: 'string' },
    hold: { type: 'string' },
    detection: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

async function main(): Promise<number> {
  if (values.list) {
    for (const { name } of kinds) console.log(name);
    return 0;
  }
  const seed = Number(values.seed);
  const outcome = await runChaos({
    faults: Number(values.faults),
    seed,
    agents: Number(values.agents),
    sessions: Number(values.sessions),
    say: console.log,
    detection: values.detection || Number(values.faults) >= 50,
    ...(values.hold === undefined ? {} : { holdMs: Number(values.hold) * 1000 }),
    ...(values.only === undefined ? {} : { only: values.only.split(',') }),
  });
  for (const violation of outcome.violations) console.log(`VIOLATION ${violation}`);
  if (outcome.logs !== undefined) console.log(`logs: ${outcome.logs}`);
  console.log(`faults=${outcome.faults} kinds=${outcome.kinds} violations=${outcome.violations.length} seed=${seed}`);
  return outcome.violations.length === 0 ? 0 : 1;
}

process.exit(
  await main().catch((error: unknown) => {
    console.error(error);
    return 70;
  }),
);
