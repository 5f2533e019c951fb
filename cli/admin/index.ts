/** `causeway admin`: what a superadmin does to the control plane itself. */
import type { Command } from 'commander';
import { RebuildReport } from '../../schema/api/recovery.ts';
import { Api } from '../http/api.ts';
import { registerOrphans } from './orphans.ts';
import { registerRecover } from './recover.ts';
import { mendedLines } from './report.ts';

/** Registers `admin`. */
export function registerAdmin(program: Command): void {
  const admin = program.command('admin').description('put the control plane itself right (superadmins)');
  admin
    .command('rebuild')
    .description('compare ledgers, names, quota and the read model, and put right what differs')
    .option('--dry-run', 'only say what differs')
    .option('--json', 'the report as JSON')
    .action(rebuild);
  registerOrphans(admin);
  registerRecover(admin);
}

async function rebuild({ dryRun = false, json }: { dryRun?: boolean; json?: boolean }): Promise<void> {
  const report = await new Api().json(RebuildReport, 'POST', '/v1/admin/rebuild', { body: { dryRun } });
  const lines = json ? [JSON.stringify(report)] : mendedLines(report);
  for (const line of lines) process.stdout.write(`${dryRun && !json ? 'would be: ' : ''}${line}\n`);
}
