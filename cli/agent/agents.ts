/** `causeway agent ...`: machines of the control plane, as an administrator sees them. */
import type { Command } from 'commander';
import { type Agent, AgentPage } from '../../schema/api/agent.ts';
import { CliFailure } from '../exit.ts';
import { Api } from '../http/api.ts';
import { durationText, paint, plain, printTable, slotsText } from '../terminal/table.ts';

/** Registers `agent list|approve|drain|undrain|revoke` under `agent`. */
export function registerAgents(agent: Command): void {
  agent.command('list').alias('ls').description('list machines').option('--json', 'as JSON').action(listAgents);
  const verbs: [string, string][] = [
    ['approve', 'let a machine (or what was added to it) take sessions; lifts a suspension'],
    ['drain', 'start nothing new on it; what runs goes on'],
    ['undrain', 'let it take sessions again'],
  ];
  for (const [verb, description] of verbs)
    agent
      .command(verb)
      .description(description)
      .argument('<agent>', 'name or id')
      .action(async (name: string) => {
        const api = new Api();
        const found = await findAgent(api, name);
        await api.raw('POST', `/v1/agents/${found.id}/${verb}`, { body: {} });
        process.stdout.write(`${found.name}\n`);
      });
  agent
    .command('revoke')
    .description('shut a machine out for good: its connections close within 5 s')
    .argument('<agent>', 'name or id')
    .requiredOption('--yes', 'you mean it')
    .action(async (name: string) => {
      const api = new Api();
      const found = await findAgent(api, name);
      await api.raw('DELETE', `/v1/agents/${found.id}`);
      process.stdout.write(`${found.name}\n`);
    });
}

/** One agent by name or id. */
export async function findAgent(api: Api, text: string): Promise<Agent> {
  const agents = await allAgents(api);
  const found = agents.find((each) => each.id === text) ?? agents.find((each) => each.name === text);
  if (found !== undefined) return found;
  throw new CliFailure(`there is no agent ${plain(text)}`, { hint: 'causeway agent list', code: 'agent_not_found' });
}

async function allAgents(api: Api): Promise<Agent[]> {
  const found: Agent[] = [];
  for await (const agent of api.items(AgentPage, '/v1/agents')) found.push(agent);
  return found;
}

async function listAgents(options: { json?: boolean }): Promise<void> {
  const agents = await allAgents(new Api());
  if (options.json) {
    process.stdout.write(`${JSON.stringify(agents)}\n`);
    return;
  }
  if (agents.length === 0) {
    process.stdout.write('no machine has joined. Add one: causeway agent token create --resource-group default\n');
    return;
  }
  printTable(
    ['NAME', 'ID', 'STATE', 'GROUP', 'IN USE', 'SESSIONS', 'VERSION', 'SEEN'],
    agents.map((each) => [
      plain(each.name),
      each.id,
      stateText(each),
      each.resourceGroup,
      useText(each),
      String(each.sessions),
      plain(each.agentVersion ?? '-'),
      seenText(each),
    ]),
    { spare: ['ID', 'SESSIONS', 'GROUP', 'VERSION'] },
  );
  sayVersions(agents);
}

/** Says on stderr when machines run different versions. */
function sayVersions(agents: readonly Agent[]): void {
  const live = agents.filter(({ state, agentVersion }) => state !== 'revoked' && agentVersion !== undefined);
  const versions = Map.groupBy(live, ({ agentVersion }) => agentVersion ?? '');
  if (versions.size < 2) return;
  const counts = Array.from(versions, ([version, those]) => `${plain(version)} on ${those.length}`);
  process.stderr.write(`machines run different versions: ${counts.join(', ')}\n  try: causeway agent upgrade --all\n`);
}

/** `cpu 0.5 of 2, mem 1 GiB of 8 GiB`: what sessions hold of what was approved. */
function useText({ approved, reserved }: Agent): string {
  const parts = Object.keys(approved).map((slot) => {
    const [used, has] = [reserved[slot] ?? 0, approved[slot] ?? 0].map((amount) =>
      slotsText({ [slot]: amount }).slice(slot.length + 1),
    );
    return `${slot} ${used} of ${has}`;
  });
  return parts.join(', ') || '-';
}

function seenText(agent: Agent): string {
  if (agent.state === 'connected' || agent.lastSeenAtMs === undefined) return agent.state === 'connected' ? 'now' : '-';
  return `${durationText(Date.now() - agent.lastSeenAtMs)} ago`;
}

function stateText(agent: Agent): string {
  if (agent.state === 'connected') return paint('green', 'connected');
  return paint(agent.state === 'pending' || agent.state === 'draining' ? 'yellow' : 'red', agent.state);
}
