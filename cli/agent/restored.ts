/** `causeway agent restored`: says that a group's ledger was put back to an older state, so that its agents attach anew. */
import type { Command } from 'commander';
import { ResourceGroupPage } from '../../schema/api/account.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { plain } from '../terminal/table.ts';

/** Registers `restored` under `agent`. */
export function registerRestored(agent: Command): void {
  agent
    .command('restored')
    .description(
      "after a restore of the control plane's storage: have a group's machines attach anew, and believe them",
    )
    .option('--resource-group <group>', 'name or id', 'default')
    .requiredOption('--snapshot <time>', 'the moment to which it was put back: 2026-11-24T10:00:00Z')
    .action(sayRestored);
}

async function sayRestored({ resourceGroup, snapshot }: { resourceGroup: string; snapshot: string }): Promise<void> {
  const snapshotAtMs = Date.parse(snapshot);
  if (Number.isNaN(snapshotAtMs))
    throw new CliFailure(`--snapshot ${plain(snapshot)} is not a time`, {
      status: 2,
      hint: '--snapshot 2026-11-24T10:00:00Z',
    });
  const api = new Api();
  const group = await findGroup(api, resourceGroup);
  await api.raw('POST', `/v1/resource-groups/${group.id}/restored`, { body: { snapshotAtMs } });
  process.stdout.write(`${group.name}\n`);
}

async function findGroup(api: Api, text: string): Promise<{ id: string; name: string }> {
  for await (const group of api.items(ResourceGroupPage, '/v1/resource-groups'))
    if (group.id === text || group.name === text) return group;
  throw new CliFailure(`there is no resource group ${plain(text)}`, {
    hint: '--resource-group NAME',
    code: 'group_not_found',
  });
}
