/**
 * `causeway admin recover`: the last part of a restore alone, for a home in which files were put back by hand. It runs while
 * the home is down, so that no agent meets a ledger that does not know that it was put back. It opens a home as `up` does:
 * not one of a newer release, and not one of an older without a copy.
 */
import type { Command } from 'commander';
import { CliFailure } from '../exit.ts';
import { mendHome } from '../instance/backup/mend.ts';
import { refuseCutRestore } from '../instance/backup/swap.ts';
import { findIdentity } from '../instance/home.ts';
import { takeLock } from '../instance/lock.ts';
import { lineReport } from '../instance/report.ts';
import { readSettings } from '../instance/settings.ts';
import { refuseNewerHome, upgradeHome } from '../instance/upgrade.ts';
import { plain } from '../terminal/table.ts';
import { WaitingLine } from '../terminal/waiting.ts';
import { mendedLines } from './report.ts';

/** Registers `recover` under `admin`. */
export function registerRecover(admin: Command): void {
  admin
    .command('recover')
    .description('after files of a home that is down were put back by hand: begin anew above all that was issued')
    .requiredOption('--snapshot <time>', 'the moment that the oldest of them is of: 2026-11-24T10:00:00Z')
    .option('--json', 'the report as JSON')
    .action(recover);
}

async function recover({ snapshot, json }: { snapshot: string; json?: boolean }): Promise<void> {
  const snapshotAtMs = Date.parse(snapshot);
  if (Number.isNaN(snapshotAtMs))
    throw new CliFailure(`--snapshot ${plain(snapshot)} is not a time`, {
      status: 2,
      hint: '--snapshot 2026-11-24T10:00:00Z',
    });
  const { home } = readSettings();
  if (!findIdentity(home))
    throw new CliFailure(`there is no instance in ${home}`, { hint: 'CAUSEWAY_HOME=/its/folder' });
  refuseCutRestore(home);
  refuseNewerHome(home);
  const release = await takeLock(home, 0);
  if (!release) throw new CliFailure(`the instance in ${home} is up`, { hint: 'causeway down' });
  const waiting = new WaitingLine(json === true);
  try {
    await upgradeHome(
      home,
      lineReport((line) => void process.stderr.write(`${line}\n`)),
    );
    waiting.say('comparing ledgers, admission and the read model');
    const report = await mendHome(home, { snapshotAtMs, revocations: { tokens: [], users: [], agents: [] } });
    waiting.done();
    for (const line of json ? [JSON.stringify(report)] : mendedLines(report)) process.stdout.write(`${line}\n`);
  } finally {
    waiting.done();
    release();
  }
}
