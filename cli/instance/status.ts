/** `causeway status`: how the instance on this machine is. Exit 0 ready, 1 up but not ready, 3 not running. */
import type { Command } from 'commander';

import { type Agent, AgentPage } from '../../schema/api/agent.ts';
import { durationText, paint, plain, printTable } from '../terminal/table.ts';
import { Admin } from './admin.ts';
import { fetchEdge } from './edge-api.ts';
import { findJson } from './files.ts';
import { findIdentity, homePaths } from './home.ts';
import { readSettings } from './settings.ts';
import { findLiveState, type InstanceState, isReady, type PartState } from './state.ts';

const NOT_READY = 1;
const NOT_RUNNING = 3;

/** Registers `status`. */
export function registerStatus(program: Command): void {
  program
    .command('status')
    .description('how the control plane and the agent on this machine are (exit 0 ready, 1 not ready, 3 not running)')
    .option('--json', 'as JSON')
    .action(async ({ json }: { json?: boolean }) => {
      const { home } = readSettings();
      const state = findLiveState(home);
      const agents = state ? await listAgents(home, state) : undefined;
      if (json) process.stdout.write(`${JSON.stringify(toJson(home, state, agents), null, 2)}\n`);
      else print(home, state, agents);
      process.exitCode = !state ? NOT_RUNNING : isReady(state) ? 0 : NOT_READY;
    });
}

/** The agents that the edge knows, as its administrator sees them; undefined when it does not answer in two seconds. */
async function listAgents(home: string, state: InstanceState): Promise<Agent[] | undefined> {
  const token = findJson(homePaths(home).admin, Admin)?.token;
  if (token === undefined) return undefined;
  try {
    const edge = { url: state.url, pin: state.tls?.pin };
    const answer = await fetchEdge(edge)(new URL('/v1/agents?limit=200', state.url), {
      headers: { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(2_000),
    });
    return answer.ok ? AgentPage.parse(await answer.json()).items : undefined;
  } catch {
    return undefined;
  }
}

function toJson(home: string, state: InstanceState | undefined, agents: Agent[] | undefined): unknown {
  if (!state) return { ready: false, running: false, home, instance: findIdentity(home)?.id };
  return {
    ready: isReady(state),
    running: true,
    phase: state.phase,
    url: state.url,
    publicUrl: state.publicUrl,
    tls: state.tls && { ...state.tls, endsAt: new Date(state.tls.endsAtMs).toISOString() },
    home,
    instance: state.instance,
    since: new Date(state.startedAtMs).toISOString(),
    engine: state.engine,
    redis: state.redis,
    agent: state.agent,
    agents: agents?.map(({ id, name, state: agentState, sessions }) => ({ id, name, state: agentState, sessions })),
    image: state.image,
    versions: state.versions,
    pids: { supervisor: state.pid, ...Object.fromEntries(state.parts.map((part) => [part.name, part.pid ?? null])) },
    parts: state.parts.map((part) => ({
      name: part.name,
      state: part.state,
      pid: part.pid,
      restarts: part.restarts,
      since: new Date(part.sinceMs).toISOString(),
      lastExit: part.lastExit && { ...part.lastExit, at: new Date(part.lastExit.atMs).toISOString() },
    })),
  };
}

function print(home: string, state: InstanceState | undefined, agents: Agent[] | undefined): void {
  const say = (line: string) => process.stdout.write(`${line}\n`);
  if (!state) {
    say(`not running (home ${home})`);
    say('  try: causeway up');
    return;
  }
  const ready = isReady(state);
  const word =
    state.phase !== 'running'
      ? paint('yellow', state.phase)
      : ready
        ? paint('green', 'ready')
        : paint('red', 'not ready');
  say(`${state.url}   ${word}   up ${durationText(Date.now() - state.startedAtMs)}, supervisor ${state.pid}`);
  say('');
  printTable(
    ['PART', 'STATE', 'PID', 'SINCE', 'RESTARTS', 'REMARK'],
    state.parts.map((part) => [
      part.name,
      part.state === 'running' ? part.state : paint('yellow', part.state),
      String(part.pid ?? '-'),
      durationText(Date.now() - part.sinceMs),
      String(part.restarts),
      remark(part, state),
    ]),
  );
  say('');
  say(`engine   ${state.engine ? `Docker ${state.engine.version} at ${state.engine.socket}` : 'none yet'}`);
  if (state.publicUrl !== undefined) say(`others   ${state.publicUrl}${tlsText(state.tls)}`);
  else if (state.tls) say(`edge  ${tlsText(state.tls)}`);
  if (state.redis?.mode === 'upstash') say('redis    Upstash');
  if (state.image) say(`image    causeway/python ${imageText(state.image)}`);
  if (agents)
    say(`agents   ${agents.filter((agent) => agent.state === 'connected').length} of ${agents.length} connected`);
  say(`home     ${home}`);
}

function tlsText(tls: InstanceState['tls']): string {
  if (tls === undefined) return paint('red', '   WITHOUT TLS');
  return `   TLS until ${new Date(tls.endsAtMs).toISOString().slice(0, 10)}${tls.public ? '' : `, pin ${tls.pin}`}`;
}

function remark(part: PartState, state: InstanceState): string {
  const words: string[] = [];
  if (part.name === 'redis' && state.redis) words.push(state.redis.mode === 'memory' ? 'IN MEMORY' : 'redis-server');
  if (part.name === 'agent' && state.agent)
    words.push(state.agent.connected ? `connected as ${state.agent.id}` : 'not connected');
  if (part.lastExit)
    words.push(`last ended ${durationText(Date.now() - part.lastExit.atMs)} ago: ${part.lastExit.how}`);
  if (part.lastExit?.said && part.state !== 'running') words.push(plain(part.lastExit.said).slice(0, 160));
  return words.join('; ');
}

function imageText({ state, percent, what }: NonNullable<InstanceState['image']>): string {
  if (state === 'ready') return 'ready';
  if (state === 'failed') return paint('red', `failed: ${plain(what)}`);
  return paint('yellow', `${state}: ${percent} %, ${plain(what)}`);
}
