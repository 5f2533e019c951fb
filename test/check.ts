/**
 * Everything that can be said about the code without running it (`npm run check`). Each gate proves that it looked at
 * something: a gate that saw nothing has failed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { checkDocs } from './check-docs.ts';
import { checkRegexes, checkVersionFloors } from './hygiene/hygiene.ts';
import { capture, type Finding, step } from './steps.ts';

/** Wrangler writes logs and a registry under the user's configuration directory: give it one that goes away. */
const aside = mkdtempSync(join(tmpdir(), 'causeway-check-'));
const env = { XDG_CONFIG_HOME: aside, WRANGLER_SEND_METRICS: 'false', NO_COLOR: '1', CI: 'true' };

/** A program that must exit 0, and whose output must show (in the first group of `seen`) how much it looked at. */
async function gate(command: string, args: string[], seen?: { pattern: RegExp; of: string }): Promise<Finding> {
  const done = await capture(command, args, env);
  if (done.code !== 0) return { ok: false, why: done.output };
  if (!seen) return { ok: true, remark: '' };
  const count = Number(seen.pattern.exec(done.output)?.[1] ?? 0);
  if (count > 0) return { ok: true, remark: `${count} ${seen.of}` };
  return { ok: false, why: `${command} looked at nothing:\n${done.output}` };
}

async function lint(): Promise<Finding> {
  const tracked = await capture('git', ['ls-files', '*.ts', '*.tsx']);
  const modules = tracked.output.split('\n').filter((file) => file && !/\/migrations\//.test(file)).length;
  const found = await gate('oxlint', ['--deny-warnings'], { pattern: /on (\d+) files with \d+ rules/, of: 'modules' });
  if (!found.ok) return found;
  const seen = Number.parseInt(found.remark, 10);
  return seen >= modules ? found : { ok: false, why: `oxlint saw ${seen} modules, git knows ${modules}` };
}

/** drizzle-kit exits 0 when it fails: believe only its sentence, and a tree that it left alone. */
async function migrationDrift(): Promise<Finding> {
  const before = await capture('git', ['status', '--porcelain', 'schema']);
  const seen: string[] = [];
  for (const config of ['drizzle.config.ts', 'drizzle.admission.config.ts', 'drizzle.ledger.config.ts']) {
    const done = await capture('drizzle-kit', ['generate', '--config', config], env);
    const tables = Number(/(\d+) tables/.exec(done.output)?.[1] ?? 0);
    if (tables === 0 || !/No schema changes/.test(done.output))
      return { ok: false, why: `${config}: npm run migrations, and commit what it wrote\n${done.output}` };
    seen.push(`${tables} of ${/drizzle\.(\w+)\.config/.exec(config)?.[1] ?? 'D1'}`);
  }
  const after = await capture('git', ['status', '--porcelain', 'schema']);
  if (after.output !== before.output) return { ok: false, why: `drizzle-kit wrote files:\n${after.output}` };
  return { ok: true, remark: `tables: ${seen.join(', ')}` };
}

async function dryRun(): Promise<Finding> {
  const done = await capture('wrangler', ['deploy', '--dry-run', '--outdir', join(aside, 'worker')], env);
  const size = /Total Upload: (.+)/.exec(done.output)?.[1];
  if (done.code === 0 && size) return { ok: true, remark: size };
  return { ok: false, why: done.output };
}

/** Runs every gate, in an order in which the first failure explains the others. True if all passed. */
export async function check(): Promise<boolean> {
  const gates: [string, () => Promise<Finding>][] = [
    ['worker types', () => gate('wrangler', ['types', '--strict-vars=false', 'worker-configuration.d.ts'])],
    ['format', () => gate('oxfmt', ['--check'], { pattern: /on (\d+) files/, of: 'files' })],
    ['types', () => gate('tsc', ['-b'])],
    ['lint', lint],
    ['unused code and dependencies', () => gate('knip', ['--no-config-hints'])],
    ['migration drift', migrationDrift],
    ['deploy, dry run', dryRun],
    ["docs' commands exist", checkDocs],
    ['version floors', checkVersionFloors],
    ['regular expressions', checkRegexes],
  ];
  let failed = 0;
  try {
    for (const [name, work] of gates) if (!(await step(name, work))) failed += 1;
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
  return failed === 0;
}

if (import.meta.main) process.exitCode = (await check()) ? 0 : 1;
