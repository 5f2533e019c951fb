/**
 * npm run simulate -- [--seeds N] [--seed S] [--events N] [--jobs N] [--first] [--verbose] [--mutants [NAME...] [--learn]]
 *
 * Runs worlds of seeds S, S+1, ... and prints `seeds=N events=N violations=N sometimes=N/N` as its last line; exit status 1
 * on a violation, on a rare case that was never reached, or on a seed that does not replay. A seed that fails is replayed
 * and shrunk to a short story. `--mutants` plants one bug after the other and expects each to be found.
 */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { makeSimHost } from './host-adapter.ts';
import { runMutants } from './mutants.ts';
import { shrink } from './shrink.ts';
import { rareCases, Sometimes } from './sometimes.ts';
import { type Outcome, World } from './world.ts';

interface Part {
  seeds: number[];
  events: number;
  /** Ends at the first violation. */
  first: boolean;
}
interface PartDone {
  outcomes: Outcome[];
  rare: [string, number][];
}

/** From here on a run is long enough to have met every rare case. */
const allRareSeeds = 400;
const shownFailures = 3;
const progressEveryMs = 5_000;
const mostInPart = 250;
/** Where the first violation ends everything. */
const mostInFirstPart = 25;

export async function runSeed(
  seed: number,
  options: { events: number; without?: ReadonlySet<string>; onTrace?: (line: string) => void; sometimes?: Sometimes },
): Promise<Outcome> {
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);
  process.on('unhandledRejection', note);
  try {
    const outcome = await new World({ ...options, seed, makeHost: makeSimHost }).run();
    // The process tells of it when it has nothing else to do.
    await new Promise((resolve) => setImmediate(resolve));
    outcome.violations.push(...uncaught.map((error) => `[uncaught] ${String(error)}`));
    return outcome;
  } finally {
    process.off('unhandledRejection', note);
  }
}

async function work({ seeds, events, first }: Part): Promise<PartDone> {
  const sometimes = new Sometimes();
  const outcomes: Outcome[] = [];
  for (const [at, seed] of seeds.entries()) {
    const outcome = await runSeed(seed, { events, sometimes });
    // The first of each part and whatever fails must replay exactly.
    if (at === 0 || outcome.violations.length > 0) {
      const again = await runSeed(seed, { events });
      if (again.hash !== outcome.hash) outcome.violations.push(`[replay] ${outcome.hash} and then ${again.hash}`);
    }
    outcomes.push(outcome);
    parentPort?.postMessage({ done: 1 }, []);
    if (first && outcome.violations.length > 0) break;
  }
  return { outcomes, rare: [...sometimes.counts] };
}

/** Each part has a thread of its own: what killed processes of its worlds listen to, Node holds until the thread ends. */
async function runAll(
  seeds: readonly number[],
  { events, first }: Omit<Part, 'seeds'>,
  jobs: number,
): Promise<PartDone[]> {
  const size = Math.min(first ? mostInFirstPart : mostInPart, Math.ceil(seeds.length / jobs));
  const waiting = Array.from({ length: Math.ceil(seeds.length / size) }, (_, at) =>
    seeds.slice(at * size, (at + 1) * size),
  );
  let done = 0;
  const say = setInterval(() => process.stderr.write(`${done} of ${seeds.length} worlds\n`), progressEveryMs);
  const parts: PartDone[] = [];
  const runSome = async (): Promise<void> => {
    for (let part = waiting.shift(); part !== undefined; part = waiting.shift()) {
      const result = await runPart({ seeds: part, events, first }, () => (done += 1));
      parts.push(result);
      if (first && result.outcomes.some(({ violations }) => violations.length > 0)) waiting.length = 0;
    }
  };
  try {
    await Promise.all(Array.from({ length: jobs }, runSome));
    return parts;
  } finally {
    clearInterval(say);
  }
}

function runPart(part: Part, onWorld: () => void): Promise<PartDone> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(import.meta.filename, { workerData: part });
    worker.on('message', (message: { done: 1 } | { result: PartDone }) => {
      if ('done' in message) onWorld();
      else resolve(message.result);
    });
    worker.on('error', reject);
    worker.on('exit', (code) => reject(new Error(`a worker ended with ${code}`)));
  });
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      seeds: { type: 'string', default: '500' },
      seed: { type: 'string' },
      events: { type: 'string', default: '20000' },
      jobs: { type: 'string', default: String(availableParallelism()) },
      /** No shrinking: whoever asks wants to know only whether. */
      brief: { type: 'boolean', default: false },
      /** Ends soon after the first violation. */
      first: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
      mutants: { type: 'boolean', default: false },
      /** Notes in each patch which seed found it. */
      learn: { type: 'boolean', default: false },
    },
  });
  const events = Number(values.events);
  if (values.mutants) return runMutants(positionals, values.learn);
  if (values.verbose) {
    const outcome = await runSeed(Number(values.seed ?? 1), { events, onTrace: (line) => console.log(line) });
    console.log(JSON.stringify(outcome, undefined, 1));
    return outcome.violations.length > 0 ? 1 : 0;
  }
  const from = Number(values.seed ?? 1);
  const count = values.seed === undefined || process.argv.includes('--seeds') ? Number(values.seeds) : 1;
  const seeds = Array.from({ length: count }, (_, at) => from + at);
  const parts = await runAll(seeds, { events, first: values.first }, Math.min(Number(values.jobs), count));
  const outcomes = parts.flatMap((part) => part.outcomes);
  const failed = outcomes.filter(({ violations }) => violations.length > 0).sort((a, b) => a.seed - b.seed);
  for (const { seed, violations } of failed) console.log(`seed ${seed}: ${violations.join('; ')}`);
  for (const { seed } of values.brief ? [] : failed.slice(0, shownFailures))
    console.log(await shrink(seed, events, runSeed));
  const reached = new Map<string, number>();
  for (const { rare } of parts) for (const [name, times] of rare) reached.set(name, (reached.get(name) ?? 0) + times);
  const missing = rareCases.filter((name) => !reached.has(name));
  if (count >= 50) for (const name of missing) console.log(`never: ${name}`);
  const total = outcomes.reduce((sum, outcome) => sum + outcome.events, 0);
  const violations = failed.reduce((sum, outcome) => sum + outcome.violations.length, 0);
  console.log(
    `seeds=${count} events=${total} violations=${violations} sometimes=${rareCases.length - missing.length}/${rareCases.length}`,
  );
  return violations > 0 || (count >= allRareSeeds && missing.length > 0) ? 1 : 0;
}

if (isMainThread) process.exitCode = await main();
else parentPort!.postMessage({ result: await work(workerData as Part) }, []);
