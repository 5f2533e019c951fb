/** `causeway restore FILE`: puts a backup in the place of the state of a control plane that does not run. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { RebuildReport } from '../../../schema/api/recovery.ts';
import { mendedLines } from '../../admin/report.ts';
import { judgeVersion } from '../../../schema/home-version.ts';
import { CliFailure, exitStatus } from '../../exit.ts';
import { WaitingLine } from '../../terminal/waiting.ts';
import { findIdentity } from '../home.ts';
import { takeLock } from '../lock.ts';
import { readSettings } from '../settings.ts';
import { checkoutVersion, noteHomeVersion } from '../version.ts';
import { readArchive } from './archive.ts';
import type { Manifest } from './manifest.ts';
import { mendHome } from './mend.ts';
import { findRevocations, journalOf, requireJournal } from './revocations.ts';
import { endRestore, swapState } from './swap.ts';

interface Options {
  yes?: boolean;
  revocations?: string[];
  json?: boolean;
}

/** Name of the folder that a backup is unpacked in. */
const unpacked = '.restore-';

/** Registers `restore`. */
export function registerRestore(program: Command): void {
  program
    .command('restore')
    .description(
      'put a backup in the place of the state of a control plane that is down; the former state is kept aside',
    )
    .argument('<file>', 'what causeway backup wrote')
    .option('--revocations <file...>', 'journals of revocations from elsewhere: who was shut out stays out')
    .option('--yes', 'do not ask')
    .option('--json', 'say what was done as JSON')
    .action(restore);
}

async function restore(file: string, options: Options): Promise<void> {
  const { home } = readSettings();
  if (!existsSync(file)) throw new CliFailure(`there is no file ${file}`, { hint: `ls ${join(home, 'backups')}` });
  options.revocations?.forEach(requireJournal);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const release = await takeLock(home, 0);
  if (!release) throw new CliFailure(`the instance in ${home} is up`, { hint: 'causeway down' });
  const waiting = new WaitingLine(options.json === true);
  // What one that was killed left of a backup, root keys among it: whoever has the lock is alone here.
  for (const name of readdirSync(home).filter((each) => each.startsWith(unpacked)))
    rmSync(join(home, name), { recursive: true, force: true });
  const staging = mkdtempSync(join(home, unpacked));
  try {
    waiting.say('unpacking and checking the backup');
    const manifest = await readArchive(resolve(file), staging, (found) => accept(home, found));
    waiting.done();
    if (!options.yes) await confirm(home, manifest);
    const aside = swapState(home, staging);
    waiting.say('mending: comparing ledgers, admission and the read model');
    const { madeAtMs } = manifest;
    const journals = [journalOf(home), ...(options.revocations ?? [])];
    const revocations = await findRevocations(join(aside, 'edge'), journals);
    noteHomeVersion(home);
    const report = await mendHome(home, { snapshotAtMs: madeAtMs, revocations });
    waiting.done();
    endRestore(home);
    process.stdout.write(
      options.json ? `${JSON.stringify({ madeAtMs, aside, report })}\n` : words(manifest, aside, report),
    );
  } finally {
    waiting.done();
    rmSync(staging, { recursive: true, force: true });
    release();
  }
}

/** @throws CliFailure for a backup of another instance, or of a newer release */
function accept(home: string, { instance, version }: Manifest): void {
  const own = findIdentity(home);
  if (own && own.id !== instance)
    throw new CliFailure(`the backup is of instance ${instance}, and ${home} holds instance ${own.id}`, {
      hint: 'CAUSEWAY_HOME=/an/empty/folder causeway restore FILE',
    });
  const verdict = judgeVersion(version, checkoutVersion());
  if (verdict.kind !== 'newer') return;
  throw new CliFailure(`the backup is of a newer release than this checkout: ${verdict.reasons.join('; ')}`, {
    hint: `restore it with release ${version.release}`,
  });
}

async function confirm(home: string, { madeAtMs }: Manifest): Promise<void> {
  const at = new Date(madeAtMs).toISOString();
  if (!process.stdin.isTTY)
    throw new CliFailure(`this would put the state of ${home} back to ${at}: confirm with --yes`, {
      status: exitStatus.usage,
    });
  const reader = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await reader.question(`Put the state of ${home} back to ${at}? Type yes: `);
  reader.close();
  if (answer.trim() !== 'yes') throw new CliFailure('nothing was changed');
}

function words({ madeAtMs, parts }: Manifest, aside: string, report: RebuildReport): string {
  const { revoked, ledgers } = report;
  return [
    `restored ${parts.length} files of ${new Date(madeAtMs).toISOString()}`,
    `the former state is in ${aside}: remove it when nothing is missed`,
    `shut out again: ${revoked.tokens} tokens, ${revoked.users} users, ${revoked.agents} agents`,
    ...mendedLines(report),
    `agents that attach anew once it is up: ${ledgers.agents}`,
    '',
  ].join('\n');
}
