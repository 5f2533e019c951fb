/**
 * How long what was found out takes, measured at the end of a run in the stack that went through it: a dead agent, a
 * restarted one, and revocations with streams open. Printed beside the bars of the failure model; nothing is asserted by
 * time, since other work may share the machine. It ends with a revoked agent, so nothing can follow.
 */
import { channels } from '../../schema/protocol/frame.ts';
import type { Agent } from '../../schema/api/agent.ts';
import { ClientSocket } from '../support/client-socket.ts';
import { until } from '../support/wait.ts';
import type { Population, Resident } from './population.ts';
import type { Host, World } from './world.ts';

interface Figure {
  what: string;
  seconds: number;
  atMost: number;
}

const patienceMs = 120_000;

/** Measures all of them, and returns lines for people. */
export async function measureDetection(world: World, population: Population): Promise<string[]> {
  const { host, resident } = await someoneOn(world, population);
  const figures = [
    ...(await deadAgent(world, host, resident)),
    await revokedToken(world, resident),
    await revokedUser(world, resident),
    await revokedAgent(world, host, resident),
  ];
  return figures.map(
    ({ what, seconds, atMost }) =>
      `detection: ${what} ${seconds.toFixed(1)} s (bar: ${atMost} s)${seconds > atMost ? ' MISSED' : ''}`,
  );
}

/** A session that prints, and where it is. */
async function someoneOn(world: World, population: Population): Promise<{ host: Host; resident: Resident }> {
  for (const resident of population.residents.filter(({ tape }) => tape !== undefined)) {
    const { agentId } = await world.client.session(resident.id);
    const host = world.hosts.find(({ part }) => part.agentId === agentId);
    if (host !== undefined) return { host, resident };
  }
  throw new Error('nobody prints anywhere');
}

async function secondsUntil(what: string, condition: () => Promise<boolean> | boolean): Promise<number> {
  const startedMs = performance.now();
  await until(condition, { what, timeoutMs: patienceMs, everyMs: 100 });
  return (performance.now() - startedMs) / 1000;
}

async function deadAgent({ client }: World, { part }: Host, { id }: Resident): Promise<Figure[]> {
  await part.kill9();
  const gone = await secondsUntil('the agent and its session to be out of reach', async () => {
    const agent = (await client.api('GET', `/v1/agents/${part.agentId}`)) as Agent;
    return agent.state === 'unreachable' && (await client.session(id)).state === 'UNREACHABLE';
  });
  part.spawnAgain();
  const back = await secondsUntil(
    'its session to run again',
    async () => (await client.session(id)).state === 'RUNNING',
  );
  return [
    { what: 'kill -9 of an agent -> UNREACHABLE', seconds: gone, atMost: 45 },
    { what: 'start of the agent -> RUNNING', seconds: back, atMost: 10 },
  ];
}

/** Follows a session that prints, and returns when the first bytes came. */
async function follow({ client }: World, { id }: Resident, token: string): Promise<ClientSocket> {
  const socket = await ClientSocket.dial(client.url, `/v1/sessions/${id}/logs`, token);
  const stream = socket.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true });
  await until(() => stream.received[channels.stdout] > 0, { what: 'output to flow' });
  return socket;
}

/** From the answer to the revocation to the end of the socket. */
async function secondsToClose(socket: ClientSocket, revoke: () => Promise<unknown>): Promise<number> {
  let closed = false;
  void socket.closed.then(() => (closed = true));
  await revoke();
  return secondsUntil('the socket to be closed', () => closed);
}

async function revokedToken(world: World, resident: Resident): Promise<Figure> {
  const { client } = world;
  const { id, token } = (await client.api('POST', '/v1/tokens', { name: 'to-be-revoked' })) as {
    id: string;
    token: string;
  };
  const socket = await follow(world, resident, token);
  const seconds = await secondsToClose(socket, () => client.api('DELETE', `/v1/tokens/${id}`));
  return { what: 'revocation of a token -> its stream is closed', seconds, atMost: 5 };
}

async function revokedUser(world: World, resident: Resident): Promise<Figure> {
  const { client } = world;
  const user = { email: 'leaver@causeway.test', role: 'domain-admin' };
  const { id } = (await client.api('POST', '/v1/users', user)) as { id: string };
  const { token } = (await client.api('POST', `/v1/users/${id}/tokens`, { name: 'leaver' })) as { token: string };
  const socket = await follow(world, resident, token);
  const seconds = await secondsToClose(socket, () => client.api('PATCH', `/v1/users/${id}`, { active: false }));
  return { what: 'revocation of a user -> its stream is closed', seconds, atMost: 5 };
}

async function revokedAgent(world: World, { part }: Host, resident: Resident): Promise<Figure> {
  const { client } = world;
  const socket = await ClientSocket.dial(client.url, `/v1/sessions/${resident.id}/logs`, client.token!);
  const stream = socket.open({ op: 'logs', processId: 'main', streams: 'stdout', follow: true });
  await until(() => stream.received[channels.stdout] > 0, { what: 'output to flow' });
  let over = false;
  void stream.done.then(() => (over = true));
  await client.api('DELETE', `/v1/agents/${part.agentId}`);
  const seconds = await secondsUntil('the streams of the revoked agent to be over', () => over);
  socket.cut();
  return { what: 'revocation of an agent -> its streams are over', seconds, atMost: 5 };
}
