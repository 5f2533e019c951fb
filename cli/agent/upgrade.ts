/** `causeway agent upgrade`: machines become the version of their control plane, watched until each has proven itself. */
import type { Command } from 'commander';
import { Agent, AgentPage } from '../../schema/api/agent.ts';
import { UpgradePolicy, UpgradeState } from '../../schema/api/upgrade.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import { Api } from '../http/api.ts';
import { wholeNumber } from '../options.ts';
import { bytesText, plain } from '../terminal/table.ts';
import { WaitingLine } from '../terminal/waiting.ts';
import { findAgent } from './agents.ts';
import { rollOut } from './roll-out.ts';

interface UpgradeOptions {
  all?: boolean;
  canary?: string;
  allowDowngrade?: boolean;
  json?: boolean;
}

const pollEveryMs = 1000;
/** From the order to the end, whatever happens: longer than a trial and its rollback. */
const patienceMs = 20 * 60_000;
/** Codes that a machine has while it restarts. */
const passing = ['agent_unreachable', 'tunnel_closed', 'tunnel_deadline', 'edge_overloaded'];

/** Registers `upgrade` under `agent`. */
export function registerUpgrade(agent: Command): void {
  agent
    .command('upgrade')
    .description("bring a machine's agent to the version of the control plane; its containers go on")
    .argument('[agent]', 'name or id')
    .option('--all', 'every connected machine that is not pinned')
    .option('--canary <n>', 'with --all: so many first, one after the other, and the rest only when they are well')
    .option('--allow-downgrade', 'also to a release that is older than what runs')
    .option('--json', 'as JSON')
    .action(upgradeAgents);
  agent
    .command('upgrade-policy')
    .description('say when machines upgrade themselves')
    .argument('<policy>', 'manual, auto, pinned, or a time of day in UTC: 02:00-04:30; none: as its group')
    .option('--agent <agent>', 'of one machine (name or id)')
    .option('--resource-group <group>', 'of all machines of a group that have none of their own', 'default')
    .action(setPolicy);
}

async function setPolicy(text: string, options: { agent?: string; resourceGroup: string }): Promise<void> {
  const policy = parsePolicy(text);
  const api = new Api();
  const place =
    options.agent === undefined
      ? `/v1/resource-groups/${encodeURIComponent(options.resourceGroup)}`
      : `/v1/agents/${(await findAgent(api, options.agent)).id}`;
  await api.raw('PUT', `${place}/upgrade-policy`, { body: { policy } });
  process.stdout.write(`${plain(options.agent ?? options.resourceGroup)}\n`);
}

function parsePolicy(text: string): UpgradePolicy | null {
  if (text === 'none') return null;
  const [, from, to] = /^(\d\d:\d\d)-(\d\d:\d\d)$/.exec(text) ?? [];
  const parsed = UpgradePolicy.safeParse(from === undefined ? { mode: text } : { mode: 'window', from, to });
  if (parsed.success) return parsed.data;
  throw new CliFailure(`${plain(text)} is not a policy: manual, auto, pinned, none, or a time of day`, {
    status: exitStatus.usage,
    hint: 'causeway agent upgrade-policy 02:00-04:30 --resource-group default',
  });
}

async function upgradeAgents(name: string | undefined, options: UpgradeOptions): Promise<void> {
  if ((name === undefined) === (options.all !== true))
    throw new CliFailure('name one machine, or say --all', {
      status: exitStatus.usage,
      hint: 'causeway agent upgrade --all --canary 1',
    });
  if (options.canary !== undefined && !options.all)
    throw new CliFailure('--canary is for --all', { status: exitStatus.usage, hint: 'causeway agent upgrade --all' });
  const canary = options.canary === undefined ? 0 : wholeNumber('--canary', options.canary, [1, 1000]);
  const api = new Api();
  const agents = name === undefined ? await upgradable(api) : [await findAgent(api, name)];
  const line = new WaitingLine(false);
  const byName = new Map(agents.map((each) => [each.name, each]));
  const result = await rollOut([...byName.keys()], canary, (each) => upgradeOne(api, byName.get(each)!, options, line));
  line.done();
  if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`);
  for (const { name: failed, why } of result.failed)
    process.stderr.write(`failed     ${plain(failed)}: ${plain(why)}\n`);
  if (result.left.length > 0) process.stderr.write(`not begun  ${plain(result.left.join(', '))}\n`);
  const [first] = result.failed;
  if (first === undefined) return;
  throw new CliFailure(`${result.failed.length} of ${agents.length} did not become the new version`, {
    hint: `causeway agent show ${plain(first.name)}`,
    code: 'agent_upgrade_refused',
  });
}

async function upgradable(api: Api): Promise<Agent[]> {
  const found: Agent[] = [];
  for await (const agent of api.items(AgentPage, '/v1/agents'))
    if (agent.state === 'connected' || agent.state === 'draining') found.push(agent);
  if (found.length > 0) return found;
  throw new CliFailure('no machine is connected', { hint: 'causeway agent list' });
}

/** Orders, watches, and says each step once. Rejects when the machine is not well as the new version. */
async function upgradeOne(api: Api, agent: Agent, options: UpgradeOptions, line: WaitingLine): Promise<void> {
  const say = (step: string, text: string) => {
    line.done();
    process.stderr.write(`${step.padEnd(11)}${plain(agent.name)}${text}\n`);
  };
  const path = `/v1/agents/${agent.id}/upgrade`;
  const { allowDowngrade = false, all = false } = options;
  let state: UpgradeState;
  try {
    state = await api.json(UpgradeState, 'POST', path, { body: { allowDowngrade, respectPin: all } });
  } catch (error) {
    if (error instanceof CliFailure && error.code === 'agent_upgrade_pinned') return say('pinned', ' stays as it is');
    throw error;
  }
  const { to } = state;
  if (state.phase === 'done') return say('current', ` runs ${to} already`);
  say('upgrading', ` from ${state.running} to ${to}`);
  for (const until = Date.now() + patienceMs; state.phase !== 'done' || state.to !== to;) {
    if (state.phase === 'failed' && state.to === to) throw new Error(state.detail ?? 'it does not say why');
    if (Date.now() > until) throw new Error(`it is still ${state.phase} after ${patienceMs / 60_000} minutes`);
    line.say(`${agent.name}: ${progressText(state)}`);
    await new Promise((resolve) => setTimeout(resolve, pollEveryMs));
    state = (await ask(api, path)) ?? { ...state, phase: 'restarting' };
    // It died between proving itself and writing that down.
    if (state.running === to && state.phase !== 'trial') break;
    if (state.to !== to)
      throw new Error(`its agent began anew before it had switched, and goes on as ${state.running}: order it again`);
  }
  const after = await api.json(Agent, 'GET', `/v1/agents/${agent.id}`);
  if (after.state !== agent.state) throw new Error(`it runs ${to}, and is ${after.state} instead of ${agent.state}`);
  say('upgraded', ` to ${to}`);
}

/** Undefined while the machine is out of reach. */
async function ask(api: Api, path: string): Promise<UpgradeState | undefined> {
  try {
    return await api.json(UpgradeState, 'GET', path);
  } catch (error) {
    if (error instanceof CliFailure && error.code !== undefined && passing.includes(error.code)) return undefined;
    throw error;
  }
}

function progressText({ phase, doneBytes, totalBytes, to }: UpgradeState): string {
  if (phase === 'downloading' && doneBytes !== undefined && totalBytes !== undefined)
    return `downloading ${bytesText(doneBytes)} of ${bytesText(totalBytes)}`;
  if (phase === 'trial') return `${to} runs, and has to prove itself`;
  return phase;
}
