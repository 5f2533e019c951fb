/** `causeway admin orphans`: what machines hold of sessions that a restored control plane has forgotten. */
import type { Command } from 'commander';
import { OrphanList } from '../../schema/api/recovery.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { plain, printTable } from '../terminal/table.ts';

/** Registers `orphans` under `admin`. */
export function registerOrphans(admin: Command): void {
  admin
    .command('orphans')
    .description('sessions that machines hold and a restored control plane has forgotten; they go on until ended here')
    .option('--adopt <session>', 'refused: says why, and what to do instead')
    .option('--end <session>', 'have the machines remove it; its home and output stay for their time')
    .option('--json', 'as JSON')
    .action(orphans);
}

/**
 * Whose a session is says the control plane alone. What it forgot only the machine could tell it, and a machine that lies
 * would put a container of its own into anybody's project, for its people to trust.
 */
function refuseAdoption(session: string): never {
  throw new CliFailure(
    `${plain(session)} can not be adopted: whose it is, in which project and by which limits was forgotten here, and the ` +
      'word of its machine alone makes nobody its owner',
    {
      hint:
        `take what it made from homes/${plain(session)} of the agent's state directory on its machine, start it anew, ` +
        `then: causeway admin orphans --end ${plain(session)}`,
    },
  );
}

async function orphans({ adopt, end, json }: { adopt?: string; end?: string; json?: boolean }): Promise<void> {
  if (adopt !== undefined) refuseAdoption(adopt);
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
