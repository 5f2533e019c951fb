/** Terminals through the front door, with the agent's sockets played by the test: who may look, who may type, and where. */
import { beforeEach, expect, it, vi } from 'vitest';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { ControlHub } from '../../../edge/tunnel/control-hub-object.ts';
import { bootstrapped, call, send } from '../client.ts';
import { join, makePerson } from '../accounts/people.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';
import { dialData, Peer } from '../tunnel/peers.ts';

const { open, opened, reset } = frameTypes;
const terminalId = `trm_${'0'.repeat(26)}`;
const other = `trm_${'1'.repeat(26)}`;
const typing = { input: { writer: 'writer-1', from: 0 } };

let token: string;
let id: string;
let agent: Peer;

beforeEach(async () => {
  ({ token } = await bootstrapped());
  const bench = new BenchAgent(1);
  await bench.enrol();
  const made = await call<{ id: string }>('POST', '/v1/sessions', { token, body: { type: 'interactive', image: 'x' } });
  id = made.body.id;
  const { dataHub, epoch, intents } = await bench.attach();
  await bench.acknowledge(intents.map(({ intentId }) => intentId));
  await bench.tell(id, 1, { kind: 'running', containerId: 'c1' });
  agent = await dialData(dataHub, { agentId: bench.agentId, purpose: 'interactive', epoch });
});

async function dial(as: string): Promise<Peer> {
  const headers = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
  const response = await send('GET', `/v1/sessions/${id}/terminals/${terminalId}`, { token: as, headers });
  expect(response.status).toBe(101);
  return new Peer(response.webSocket!);
}

/** A token of somebody who may only read in the project of the session. */
async function viewerToken(): Promise<string> {
  const { body } = await call<{ projectId: string }>('GET', `/v1/sessions/${id}`, { token });
  const viewer = await makePerson(token, 'viewer');
  await join(token, body.projectId, viewer, 'viewer');
  return viewer.token;
}

it('[S18] lead a client to the one terminal of its address, whoever may write to type', async () => {
  const client = await dial(token);
  client.json(open, 1, { op: 'terminal', terminalId, ...typing });
  const { stream, value } = await agent.until('OPEN', () => agent.jsonOf(open)[0]);
  expect(value['open']).toEqual({ op: 'terminal', terminalId, ...typing });
  agent.json(opened, stream, { inputOffset: 0 });
  await client.until('OPENED', () => client.jsonOf(opened)[0]);
  client.json(open, 2, { op: 'terminal', terminalId: other });
  client.json(open, 3, { op: 'process', processId: 'main' });
  const refused = await client.until('two refusals', () =>
    client.jsonOf(reset).length === 2 ? client.jsonOf(reset) : undefined,
  );
  expect(refused.map(({ value: { code } }) => code)).toEqual(['terminal_not_found', 'tunnel_op_unknown']);
});

it('let who may only read look, and not type', async () => {
  const viewer = await viewerToken();
  const client = await dial(viewer);
  client.json(open, 1, { op: 'terminal', terminalId, ...typing });
  const { value } = await client.until('a refusal', () => client.jsonOf(reset)[0]);
  expect(value).toMatchObject({ code: 'access_denied' });
  client.json(open, 2, { op: 'terminal', terminalId });
  await agent.until('OPEN', () => agent.jsonOf(open)[0]);
  const refused = await call('POST', `/v1/sessions/${id}/terminals`, { token: viewer, body: {} });
  expect(refused.status).toBe(403);
});

it('are made, listed and closed by calls of the agent', async () => {
  const terminal = {
    id: terminalId,
    argv: ['htop'],
    state: 'running',
    window: { rows: 24, columns: 80 },
    viewers: 0,
    writers: 0,
    exclusive: false,
    startedAtMs: 1,
    outputBytes: 0,
  };
  const asked: unknown[] = [];
  vi.spyOn(ControlHub.prototype, 'call').mockImplementation((_agent, _call, op, input) => {
    asked.push([op, input]);
    return Promise.resolve({ ok: true, result: op === 'terminals' ? { terminals: [terminal] } : { terminal } });
  });
  const path = `/v1/sessions/${id}/terminals`;
  const made = await call('POST', path, { token, body: { id: terminalId, argv: ['htop'], closeAfterMs: 60_000 } });
  expect(made).toMatchObject({ status: 201, body: terminal });
  expect(await call('GET', path, { token })).toMatchObject({ status: 200, body: { items: [terminal] } });
  expect(await call('DELETE', `${path}/${terminalId}`, { token })).toMatchObject({ status: 200, body: terminal });
  const request = { argv: ['htop'], window: { rows: 24, columns: 80 }, exclusive: false, closeAfterMs: 60_000 };
  expect(asked).toMatchObject([
    ['terminal', { sessionId: id, generation: 1, terminalId, act: { kind: 'start', request } }],
    ['terminals', { sessionId: id }],
    ['terminal', { terminalId, act: { kind: 'close' } }],
  ]);
  vi.restoreAllMocks();
  for (const body of [
    { window: { rows: 1, columns: 100_000 } },
    { argv: ['a\0'] },
    { cwd: '/\0' },
    { env: { A: '\0' } },
  ])
    expect(await call('POST', path, { token, body })).toMatchObject({
      status: 400,
      body: { code: 'request_body_invalid' },
    });
});
