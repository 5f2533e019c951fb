/** Links by which anybody looks at one terminal, through the front door: what they open, whom they are of, how they end. */
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { ControlHub } from '../../../edge/tunnel/control-hub-object.ts';
import type { TerminalLink } from '../../../schema/api/terminal-link.ts';
import type { Terminal } from '../../../schema/api/terminal-parts.ts';
import { channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { join, makePerson, type Person } from '../accounts/people.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call, send } from '../client.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';
import { dialData, Peer } from '../tunnel/peers.ts';

const { open, opened, reset } = frameTypes;
const terminalId = `trm_${'0'.repeat(26)}`;
const other = `trm_${'1'.repeat(26)}`;
const bytes = (text: string) => new TextEncoder().encode(text);
type Made = TerminalLink & { token: string };

let admin: string;
let projectId: string;
let id: string;
let agent: Peer;
let path: string;

beforeEach(async () => {
  ({ token: admin } = await bootstrapped());
  const bench = new BenchAgent(1);
  await bench.enrol();
  const made = await call<{ id: string; projectId: string }>('POST', '/v1/sessions', {
    token: admin,
    body: { type: 'interactive', image: 'x' },
  });
  ({ id, projectId } = made.body);
  path = `/v1/sessions/${id}/terminals/${terminalId}/links`;
  const { dataHub, epoch, intents } = await bench.attach();
  await bench.acknowledge(intents.map(({ intentId }) => intentId));
  await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
  agent = await dialData(dataHub, { agentId: bench.agentId, purpose: 'interactive', epoch });
  const window = { rows: 24, columns: 80 };
  const counts = { viewers: 0, writers: 0, startedAtMs: 1, outputBytes: 0 };
  const terminal: Terminal = { id: terminalId, argv: ['sh'], state: 'running', window, exclusive: false, ...counts };
  vi.spyOn(ControlHub.prototype, 'call').mockImplementation(() =>
    Promise.resolve({ ok: true, result: { terminals: [terminal] } }),
  );
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function person(name: string, role: string): Promise<Person> {
  const made = await makePerson(admin, name);
  await join(admin, projectId, made, role);
  return made;
}

async function share(token: string, body: object = {}): Promise<Made> {
  const made = await call<Made>('POST', path, { token, body });
  expect(made.status, made.text).toBe(201);
  return made.body;
}

const links = async (token: string) => (await call<{ items: TerminalLink[] }>('GET', path, { token })).body.items;
const headers = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
const knock = (token: string, terminal = terminalId) =>
  send('GET', `/v1/shared-terminals/${terminal}`, { token, headers });

async function dial(token: string): Promise<Peer> {
  const response = await knock(token);
  expect(response.status).toBe(101);
  return new Peer(response.webSocket!);
}

/** Somebody with a link who looks, and the agent's end of it. */
async function looking(token: string): Promise<{ client: Peer; stream: number }> {
  const client = await dial(token);
  client.json(open, 1, { op: 'terminal', terminalId });
  const at = agent.jsonOf(open).length;
  const { stream } = await agent.until('OPEN', () => agent.jsonOf(open).at(Math.max(at, 1) - 1));
  agent.json(opened, stream, {});
  agent.data(stream, channels.stdout, bytes('seen'));
  await client.until('bytes', () => client.dataBytes === 4);
  return { client, stream };
}

/** What the agent says goes through, until the client is closed. */
async function closed({ client, stream }: { client: Peer; stream: number }): Promise<number> {
  let over: { code: number } | undefined;
  void client.closed.then((end) => (over = end));
  let offset = 4;
  await client.until('the close', () => {
    if (over === undefined) agent.data(stream, channels.stdout, bytes('.'), offset++);
    return over;
  });
  return over!.code;
}

it('lets whoever has one look at one terminal, without a word of theirs', async () => {
  const { token, ...link } = await share(admin, { ttlSeconds: 600 });
  expect(token).toMatch(/^cwt_/);
  expect(link).toMatchObject({ email: 'admin@causeway.test', prefix: token.slice(0, 10) });
  expect(link.expiresAtMs - link.createdAtMs).toBe(600_000);
  const client = await dial(token);
  const typing = { input: { writer: 'writer-1', from: 0 } };
  client.json(open, 1, { op: 'terminal', terminalId, ...typing });
  client.json(open, 2, { op: 'terminal', terminalId: other });
  client.json(open, 3, { op: 'process', processId: 'main', input: false });
  client.json(open, 4, { op: 'logs', processId: 'main', streams: 'both', follow: false });
  const refused = await client.until('refusals', () =>
    client.jsonOf(reset).length === 4 ? client.jsonOf(reset) : false,
  );
  expect(refused.map(({ value }) => value['code'])).toEqual([
    'access_denied',
    'terminal_not_found',
    'tunnel_op_unknown',
    'tunnel_op_unknown',
  ]);
  client.json(open, 5, { op: 'terminal', terminalId });
  const { value } = await agent.until('OPEN', () => agent.jsonOf(open)[0]);
  expect(value['open']).toEqual({ op: 'terminal', terminalId });
  expect(agent.jsonOf(open)).toHaveLength(1);
  expect((await knock(token, other)).status).toBe(404);
});

it('opens nothing else, and nothing else opens it', async () => {
  const { token } = await share(admin);
  for (const [method, at] of [
    ['GET', '/v1/whoami'],
    ['GET', `/v1/sessions/${id}`],
    ['GET', `/v1/sessions/${id}/terminals`],
    ['GET', `/v1/sessions/${id}/logs`],
    ['GET', path],
    ['GET', '/jupyter/api/terminals'],
    ['GET', '/metrics'],
  ] as const)
    expect((await call(method, at, { token })).status, at).toBe(403);
  expect((await call('POST', path, { token, body: {} })).status).toBe(403);
  expect((await call('POST', '/v1/tokens', { token, body: { name: 'x' } })).status).toBe(403);
  expect((await send('GET', `/v1/sessions/${id}/terminals/${terminalId}`, { token, headers })).status).toBe(403);
  // A person's own token is no link.
  expect((await knock(admin)).status).toBe(403);
  // Nobody makes one by hand.
  const scopes = [`terminal:view:${id}/${terminalId}`];
  expect((await call('POST', '/v1/tokens', { token: admin, body: { name: 'x', scopes } })).status).toBe(400);
  // In an address it would be in logs and histories.
  const inAddress = await send('GET', `/v1/shared-terminals/${terminalId}?token=${token}`, { headers });
  expect(inAddress.status).toBe(400);
});

it('is made by who may write, listed, kept as a hash, and told of in the audit', async () => {
  const [leader, member, viewer] = [
    await person('leader', 'project-admin'),
    await person('member', 'member'),
    await person('viewer', 'viewer'),
  ];
  for (const { token } of [member, viewer]) {
    expect((await call('POST', path, { token, body: {} })).status).toBe(403);
    expect((await call('GET', path, { token })).status).toBe(403);
  }
  expect((await call('POST', path.replace(terminalId, other), { token: admin, body: {} })).status).toBe(404);
  for (const ttlSeconds of [1, 8 * 86_400])
    expect((await call('POST', path, { token: admin, body: { ttlSeconds } })).status).toBe(400);
  const [ours, theirs] = [await share(admin), await share(leader.token)];
  expect((await links(leader.token)).map((link) => link.id)).toEqual([ours.id, theirs.id]);
  expect(JSON.stringify(await links(admin))).not.toContain(ours.token);
  const rows = await env.DB.prepare('SELECT * FROM tokens').all();
  const entries = await env.DB.prepare('SELECT * FROM audit_pending').all();
  const kept = JSON.stringify([rows.results, entries.results]);
  expect(kept).toContain(`view of ${terminalId}`);
  expect(kept).not.toContain(ours.token);
  expect(kept).not.toContain(ours.token.slice(10));
  // Nobody takes back what he could not give.
  expect((await call('DELETE', `${path}/${ours.id}`, { token: member.token })).status).toBe(403);
  expect((await call('DELETE', `${path}/${theirs.id}`, { token: admin })).status).toBe(204);
  expect((await call('DELETE', `${path}/${ours.id}`, { token: admin })).status).toBe(204);
  expect((await call('DELETE', `${path}/${ours.id}`, { token: admin })).status).toBe(204);
  const wrong = await call('DELETE', `${path.replace(terminalId, other)}/${ours.id}`, { token: admin });
  expect(wrong).toMatchObject({ status: 404, body: { code: 'terminal_link_not_found' } });
  expect(await links(admin)).toEqual([]);
  const audit = await call<{ items: { action: string; objectId?: string; details?: unknown }[] }>('GET', '/v1/audit', {
    token: admin,
  });
  const told = audit.body.items.filter(({ action }) => action.startsWith('terminal.'));
  expect(told.map(({ action, objectId }) => `${action} ${objectId}`).toSorted()).toEqual(
    [
      `terminal.share ${ours.id}`,
      `terminal.share ${theirs.id}`,
      `terminal.unshare ${ours.id}`,
      `terminal.unshare ${theirs.id}`,
    ].toSorted(),
  );
  expect(JSON.stringify(told)).toContain(terminalId);
});

it('ends for who looks within seconds of its revocation, and opens no more', async () => {
  const { token, id: linkId } = await share(admin);
  const look = await looking(token);
  expect((await call('DELETE', `${path}/${linkId}`, { token: admin })).status).toBe(204);
  expect(await closed(look)).toBe(4401);
  expect((await knock(token)).status).toBe(401);
});

it('ends with its time, also for who looks', async () => {
  const { token } = await share(admin, { ttlSeconds: 60 });
  const look = await looking(token);
  vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 61_000);
  expect(await closed(look)).toBe(4401);
  expect((await knock(token)).status).toBe(401);
  expect(await links(admin)).toEqual([]);
});

it('shows no more than its maker may see', async () => {
  const leader = await person('leader', 'project-admin');
  const { token } = await share(leader.token);
  await dial(token);
  const gone = await call('DELETE', `/v1/projects/${projectId}/members/${leader.userId}`, { token: admin });
  expect(gone.status).toBe(204);
  passMs(3_100);
  expect((await knock(token)).status).toBe(404);
});

it('has at most sixteen siblings', async () => {
  for (let count = 0; count < 16; count++) await share(admin);
  const refused = await call('POST', path, { token: admin, body: {} });
  expect(refused).toMatchObject({ status: 429, body: { code: 'terminal_link_limit' } });
});
