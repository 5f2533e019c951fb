/**
 * `npm run bench -- <name>...|all [--rounds N] [--json F] [--write]`: measures rows and prints the table. `--write` puts
 * the table into docs/benchmarks.md (all rows only). A row that can not be measured says why and fails nothing but
 * itself; the exit code is 1 when a goal is missed or a row was not measured.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { BenchContext } from './context.ts';
import { describeMachine } from './machine.ts';
import { type Result, type Round, type Row, judge } from './row.ts';
import { rows as api } from './rows/api.ts';
import { rows as contention } from './rows/contention.ts';
import { rows as exec } from './rows/exec.ts';
import { rows as fleet } from './rows/fleet.ts';
import { rows as jupyter } from './rows/jupyter.ts';
import { rows as kernelMemory } from './rows/kernel-memory.ts';
import { rows as kernelStart } from './rows/kernel-start.ts';
import { rows as list } from './rows/list.ts';
import { rows as longLink } from './rows/long-link.ts';
import { rows as memory } from './rows/memory.ts';
import { rows as output } from './rows/output.ts';
import { rows as sessionStart } from './rows/session-start.ts';
import { rows as ssh } from './rows/ssh.ts';
import { rows as startWarm } from './rows/start-warm.ts';
import { rows as terminal } from './rows/terminal.ts';
import { rows as tls } from './rows/tls.ts';
import { rows as tunnel } from './rows/tunnel.ts';
import { toDocument, toText } from './table.ts';

const all: readonly Row[] = [
  ...sessionStart,
  ...exec,
  ...kernelStart,
  ...jupyter,
  ...terminal,
  ...ssh,
  ...output,
  ...tunnel,
  ...tls,
  ...contention,
  ...longLink,
  ...api,
  ...list,
  ...memory,
  ...kernelMemory,
  ...startWarm,
];

/** Run only when they are named: they take too long for `all`. */
const long: readonly Row[] = fleet;

/** A name is that of a row, or the first word of several. */
function named(row: Row, names: readonly string[]): boolean {
  return names.some((name) => row.name === name || row.name.startsWith(`${name}-`));
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      rounds: { type: 'string', default: '5' },
      json: { type: 'string' },
      write: { type: 'boolean', default: false },
    },
  });
  const isAll = positionals.includes('all');
  const rows = [
    ...all.filter((row) => isAll || named(row, positionals)),
    ...long.filter((row) => named(row, positionals)),
  ];
  const unknown = positionals.filter((name) => name !== 'all' && ![...all, ...long].some((row) => named(row, [name])));
  const rounds = Number(values.rounds);
  if (rows.length === 0 || unknown.length > 0 || !(rounds >= 1)) return usage(unknown);
  if (values.write && !isAll) return usage([], '--write needs all rows');

  const machine = await describeMachine();
  const context = new BenchContext();
  const results: Result[] = [];
  try {
    for (const row of rows) results.push(await measure(row, context, rounds));
  } finally {
    await context.stop();
  }
  console.log(`\n${toText(results)}`);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
  if (values.write) {
    const path = join(import.meta.dirname, '../../docs/benchmarks.md');
    writeFileSync(path, toDocument({ rows, results, rounds }, machine, readFileSync(path, 'utf8')));
  }
  return results.every(({ pass }) => pass === true) ? 0 : 1;
}

async function measure(row: Row, context: BenchContext, count: number): Promise<Result> {
  const startedMs = performance.now();
  const rounds: Round[] = [];
  let error: string | undefined;
  process.stderr.write(`${row.name}: ${row.title}\n`);
  try {
    const job = await row.setup(context);
    try {
      for (let n = 0; n < count; n++) {
        rounds.push(await job.round());
        process.stderr.write(`  round ${n + 1}/${count} ${JSON.stringify(rounds.at(-1))}\n`);
      }
    } finally {
      await job.teardown?.();
    }
  } catch (failure) {
    error = failure instanceof Error ? failure.message : String(failure);
    process.stderr.write(`  not measured: ${failure instanceof Error ? failure.stack : error}\n`);
  }
  process.stderr.write(`  ${((performance.now() - startedMs) / 1000).toFixed(1)} s\n`);
  return judge(row, rounds, error);
}

function usage(unknown: readonly string[], why?: string): number {
  if (why !== undefined) console.error(why);
  if (unknown.length > 0) console.error(`unknown: ${unknown.join(', ')}`);
  console.error('usage: npm run bench -- <name>...|all [--rounds N] [--json FILE] [--write]');
  for (const { name, title } of [...all, ...long]) console.error(`  ${name.padEnd(28)} ${title}`);
  return 64;
}

process.exitCode = await main();
