/** `causeway admin orphans`: what machines hold of sessions that a restored control plane has forgotten. */
import type { Command } from 'commander';
import { OrphanList } from '../../schema/api/recovery.ts';
import { Api } from '../http/api.ts';
import { plain, printTable } from '../terminal/table.ts';

/** Registers `orphans` under `admin`. */
export function registerOrphans(admin: Command): void {
  admin
    .command('orphans')
    .description('sessions that machines hold and a restored control plane has forgotten; they go on until ended here')
    .option('--end <session>', 'have the machines remove it; its home and output stay for their time')
    .option('--json', 'as JSON')
    .action(orphans);
}

async function orphans({ end, json }: { end?: string; json?: boolean }): Promise<void> {
  const api = new Api();
  if (end !== undefined) {
    await api.raw('DELETE', `/v1/admin/orphans/${encodeURIComponent(end)}`);
    process.stdout.write(`${end}\n`);
    return;
  }
  const { items } = await api.json(OrphanList, 'GET', '/v1/admin/orphans');
  if (json) process.stdout.write(`${JSON.stringify(items)}\n`);
  else
    printTable(
      ['SESSION', 'GENERATION', 'STATE', 'AGENT'],
      items.map(({ sessionId, generation, state, agentName }) => [
        plain(sessionId),
        String(generation),
        state,
        plain(agentName),
      ]),
    );
}
