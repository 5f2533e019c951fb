/** `causeway agent show`: one machine, how it is, and if it is not well, why. */
import type { Command } from 'commander';
import { type Agent, type AgentDiagnosis, AgentShown } from '../../schema/api/agent.ts';
import { errors, isErrorCode } from '../../schema/errors.ts';
import { Api } from '../http/api.ts';
import { bytesText, durationText, paint, plain, slotsText } from '../terminal/table.ts';
import { findAgent } from './agents.ts';

/** A clock this wrong makes logs lie, and some certificates end too early or too late. */
const clockWrongMs = 5_000;

type Line = [label: string, value: string];

/** Registers `show` under `agent`. */
export function registerShow(agent: Command): void {
  agent
    .command('show')
    .description('one machine: what it is and has, and why it is not well')
    .argument('<agent>', 'name or id')
    .option('--json', 'as JSON')
    .action(showAgent);
}

async function showAgent(name: string, options: { json?: boolean }): Promise<void> {
  const api = new Api();
  const agent = await api.json(AgentShown, 'GET', `/v1/agents/${(await findAgent(api, name)).id}`);
  if (options.json) {
    process.stdout.write(`${JSON.stringify(agent)}\n`);
    return;
  }
  const { diagnosis } = agent;
  const report = diagnosis?.report ?? agent.report;
  const lines: Line[] = [
    ['name', plain(agent.name)],
    ['id', agent.id],
    ['state', stateText(agent)],
    ['health', healthText(agent)],
    ['resource group', plain(agent.resourceGroup)],
    ['approved', slotsText(agent.approved)],
    ['offered', slotsText(agent.offered)],
    ['reserved', `${slotsText(agent.reserved)} by ${agent.sessions} sessions`],
    ['in use', report === undefined ? '-' : slotsText(report.used)],
    ['host', hostText(agent)],
    ['engine', plain(agent.host?.engine ?? '-')],
    ...(diagnosis === undefined
      ? [['versions', plain(`agent ${agent.agentVersion ?? '-'}`)] satisfies Line]
      : live(diagnosis)),
    ['connected', connectedText(agent)],
    ...(report?.problems ?? []).map(({ code, detail }): Line => [
      'problem',
      paint('yellow', plain(`${code}: ${detail}`)),
    ]),
    ...(diagnosis?.loops ?? []).map((text): Line => ['trouble', paint('yellow', plain(text))]),
    ...(diagnosis?.errors ?? []).map((each): Line => [
      'said',
      `${clockText(each.atMs)} ${each.level}  ${plain(each.text)}`,
    ]),
  ];
  for (const [label, value] of lines) process.stdout.write(`${label.padEnd(16)}${value}\n`);
}

function stateText({ state, reason }: Agent): string {
  const color = state === 'connected' ? 'green' : state === 'pending' || state === 'draining' ? 'yellow' : 'red';
  return `${paint(color, state)}${reason === undefined ? '' : `: ${plain(reason)}`}`;
}

/** In one line, the worst first. */
function healthText({ state, lastSeenAtMs, diagnosis, unanswered, report }: AgentShown): string {
  if (state === 'unreachable') {
    const since =
      lastSeenAtMs === undefined ? 'it never connected' : `not heard for ${durationText(Date.now() - lastSeenAtMs)}`;
    return paint('red', `${since}: look at the machine, its network, and the log of its agent`);
  }
  if (unanswered !== undefined) {
    const why = isErrorCode(unanswered) ? errors[unanswered].title : unanswered;
    if (unanswered === 'tunnel_op_unknown') return 'not known: its agent is too old to say';
    return paint('red', `it does not answer: ${plain(why)}`);
  }
  const measured = diagnosis?.report ?? report;
  if (measured === undefined) return 'not known';
  if (measured.health === 'degraded') return paint('red', 'degraded: sessions suffer from a problem below');
  return measured.problems.length > 0 ? paint('yellow', 'ok, with remarks below') : paint('green', 'ok');
}

function hostText({ host }: Agent): string {
  return host === undefined ? '-' : plain(`${host.hostname}, ${host.os}, Linux ${host.kernel}, ${host.arch}`);
}

function connectedText({ connectedAtMs, lastSeenAtMs, state }: Agent): string {
  if (connectedAtMs === undefined) return '-';
  const heard =
    state === 'connected' || lastSeenAtMs === undefined
      ? ''
      : `, last heard ${durationText(Date.now() - lastSeenAtMs)} ago`;
  return `${durationText(Date.now() - connectedAtMs)} ago${heard}`;
}

/** What it answered just now. */
function live(said: AgentDiagnosis): Line[] {
  const { agentVersion, protocolVersion, runtimeVersion, upMs, inAdvance } = said;
  return [
    [
      'versions',
      plain(`agent ${agentVersion}, protocol ${protocolVersion}, ${runtimeVersion}, up ${durationText(upMs)}`),
    ],
    ['tunnel', tunnelText(said)],
    ['clock', offsetText(said)],
    ...(inAdvance === undefined ? [] : [['in advance', wordsOf(inAdvance)] satisfies Line]),
    ...said.disks.map(({ what, path, freeBytes, totalBytes }): Line => [
      'disk',
      plain(`${bytesText(freeBytes)} of ${bytesText(totalBytes)} free for ${what} (${path})`),
    ]),
  ];
}

const trusts = {
  pinned: 'TLS, the key is pinned',
  authority: 'TLS, by an authority',
  none: 'without TLS',
} as const;

function tunnelText({ route, roundTripMs, pingMs }: AgentDiagnosis): string {
  const way =
    route === undefined ? [] : [route.proxy === undefined ? 'direct' : `through ${route.proxy}`, trusts[route.trust]];
  const ping = pingMs === undefined ? '' : ` (ping ${Math.round(pingMs)} ms)`;
  return plain([...way, `round trip ${roundTripMs} ms${ping}`].join(', '));
}

function offsetText({ clockOffsetMs, roundTripMs }: AgentDiagnosis): string {
  const seconds = (Math.abs(clockOffsetMs) / 1_000).toFixed(1);
  if (Math.abs(clockOffsetMs) <= Math.max(1_000, roundTripMs)) return 'as that of the control plane';
  const text = `${seconds} s ${clockOffsetMs > 0 ? 'ahead of' : 'behind'} that of the control plane`;
  return Math.abs(clockOffsetMs) < clockWrongMs
    ? text
    : paint('yellow', `${text}: set up NTP (timedatectl set-ntp true)`);
}

function clockText(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
}

function wordsOf({ ready, most, kernels = 0 }: NonNullable<AgentDiagnosis['inAdvance']>): string {
  return `${ready} of at most ${most} containers${kernels === 0 ? '' : `, ${kernels} with a kernel that waits`}`;
}
