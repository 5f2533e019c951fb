/** An agent from its join token to its live sockets, through the front door alone; and out again. */
import { env } from 'cloudflare:workers';
import { describe, expect, it } from 'vitest';
import { makeBadge } from '../../../edge/manager/agents/badge.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { systemRandom } from '../../../edge/platform/random.ts';
import type { AgentShown } from '../../../schema/api/agent.ts';
import { newId } from '../../../schema/ids.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { badgeHeader } from '../../../schema/protocol/limits.ts';
import { bootstrapped, call, send } from '../client.ts';
import { Peer } from '../tunnel/peers.ts';
import { capacity, dial as tryDial, Host, hostInfo, newJoinToken, upgrade } from './host.ts';

const fresh = (kind: 'attempt' | 'journal') => newId(kind, Date.now(), systemRandom.bytes(10));

async function dial(path: string, headers: Record<string, string>): Promise<Peer> {
  const response = await send('GET', path, { headers: { ...upgrade, ...headers } });
  if (!response.webSocket) throw new Error(`${path} answered ${response.status}: ${await response.text()}`);
  return new Peer(response.webSocket);
}

/** Dials the control socket, says hello, and waits for what the edge makes of it. */
async function connect(
  host: Host,
  counter: number,
  headers: Record<string, string> = {},
): Promise<{ control: Peer; answer: Record<string, unknown> }> {
  const control = await dial('/agent/v1/tunnel?purpose=control', {
    authorization: await host.credential(),
    ...headers,
  });
  control.json(frameTypes.message, 0, {
    type: 'hello',
    version: 1,
    minVersion: 1,
    agentVersion: '0.1.0',
    counter,
    attemptId: fresh('attempt'),
    journalId: fresh('journal'),
    capacity,
    host: hostInfo,
    inventory: [],
    images: [],
  });
  const answer = await control.until('welcome or refused', () => control.messages[0]);
  return { control, answer };
}

async function joined() {
  const { token } = await bootstrapped();
  const host = await Host.make();
  const enrolled = await host.enrol((await newJoinToken(token)).token);
  if (enrolled.status !== 200) throw new Error(enrolled.text);
  return { token, host, path: `/v1/agents/${host.agentId}` };
}

describe('a joined machine', () => {
  it('[M12] is told over how long a time to come back, by how many there are', async () => {
    const { host } = await joined();
    const headers = { ...upgrade, authorization: await host.credential() };
    const { status, headers: said, webSocket } = await send('GET', '/agent/v1/tunnel?purpose=control', { headers });
    expect(status).toBe(101);
    expect(said.get('x-causeway-spread-ms')).toMatch(/^[1-9]\d*$/);
    expect(said.get('sec-websocket-protocol')).toBe(upgrade['sec-websocket-protocol']);
    webSocket?.accept();
    webSocket?.close(1000);
  });
  it('is welcomed, seen as connected, and opens data sockets with the ticket of its welcome', async () => {
    const { token, host } = await joined();
    const { answer, control } = await connect(host, 1);
    expect(answer).toMatchObject({ type: 'welcome', version: 1 });
    expect((await call('GET', '/v1/agents', { token })).body).toMatchObject({
      items: [{ id: host.agentId, state: 'connected', epoch: answer['epoch'] }],
    });
    const data = await dial(`/agent/v1/tunnel?purpose=bulk&hub=${String(answer['dataHub'])}`, {
      'x-causeway-agent': host.agentId,
      'x-causeway-ticket': String(answer['dataTicket']),
    });
    data.socket.close(1000);
    control.socket.close(1000);
  });
  it('is asked how it is when an administrator looks: its clock, its distance and what it says', async () => {
    const { token, host, path } = await joined();
    const { control } = await connect(host, 1);
    const asking = call<AgentShown>('GET', path, { token });
    const isCall = (message: Record<string, unknown>) => message['type'] === 'call';
    const asked = await control.until('a call', () => control.messages.find(isCall));
    expect(asked).toMatchObject({ op: 'describe', input: {} });
    const report = { used: { cpu: 500 }, health: 'degraded', problems: [], sessions: 0, atMs: 1 };
    const result = {
      nowMs: Date.now() - 60_000,
      agentVersion: '0.1.0',
      protocolVersion: 1,
      runtimeVersion: 'Node.js 24',
      upMs: 1_000,
      report,
      disks: [{ what: 'the agent', path: '/var', freeBytes: 1, totalBytes: 2 }],
      route: { proxy: 'http://proxy:3128', trust: 'pinned', of: 'a newer agent' },
      pingMs: 1.5,
      errors: [{ atMs: 1, level: 'warn', text: 'a data socket was not opened' }],
      loops: [],
      more: 'a newer agent says more',
    };
    control.json(frameTypes.message, 0, { type: 'reply', callId: asked['callId'], ok: true, result });
    const { diagnosis } = (await asking).body;
    expect(diagnosis).toMatchObject({ report, route: { proxy: 'http://proxy:3128', trust: 'pinned' }, pingMs: 1.5 });
    expect(Math.abs(diagnosis!.clockOffsetMs + 60_000)).toBeLessThan(30_000);
    expect(diagnosis!.roundTripMs).toBeGreaterThanOrEqual(0);
    control.socket.close(1000);
  });
  it('that does not answer is shown all the same, with why nothing is known', async () => {
    const { token, host, path } = await joined();
    const { control } = await connect(host, 1);
    const seen = await call('GET', path, { token });
    expect(seen).toMatchObject({ status: 200, body: { state: 'connected', unanswered: 'tunnel_deadline' } });
    control.socket.close(1000);
  });
  it('loses its live sockets when it is revoked', async () => {
    const { token, host, path } = await joined();
    const { answer, control } = await connect(host, 1);
    const data = await dial(`/agent/v1/tunnel?purpose=interactive&hub=${String(answer['dataHub'])}`, {
      'x-causeway-agent': host.agentId,
      'x-causeway-ticket': String(answer['dataTicket']),
    });
    expect((await call('DELETE', path, { token })).status).toBe(204);
    const codes = await Promise.all([control.closed, data.closed]);
    expect(
      codes.every(({ code }) => code >= 4000),
      JSON.stringify(codes),
    ).toBe(true);
    expect((await call('GET', path, { token })).body).toMatchObject({ state: 'revoked' });
    // Nor does it get another one by what it holds.
    const ticket = { 'x-causeway-agent': host.agentId, 'x-causeway-ticket': String(answer['dataTicket']) };
    const again = await tryDial(ticket, `purpose=interactive&hub=${String(answer['dataHub'])}`);
    expect(again).toEqual({ status: 409, code: 'agent_epoch_stale' });
  });
  it('[K1] that shows what it was given is refused by its ledger when it was revoked since', async () => {
    const { token, host, path } = await joined();
    const badge = {
      [badgeHeader]: makeBadge(readConfig(env).keys, host.agentId, { publicKey: host.publicKey, hub: '0' }),
    };
    expect((await connect(host, 1, badge)).answer).toMatchObject({ type: 'welcome' });
    expect((await call('DELETE', path, { token })).status).toBe(204);
    const again = await connect(host, 2, badge);
    expect(again.answer).toMatchObject({ type: 'refused', code: 'agent_revoked' });
    expect((await again.control.closed).code).toBe(4403);
    const signed = { headers: { authorization: await host.credential(), ...badge } };
    expect(await call('GET', '/agent/v1/upgrade', signed)).toMatchObject({
      status: 403,
      body: { code: 'agent_revoked' },
    });
  });
  it('of which a copy dials is suspended, both of them, until somebody approves', async () => {
    const { token, host, path } = await joined();
    const first = await connect(host, 1);
    const copy = await connect(host, 1);
    expect(copy.answer).toMatchObject({ type: 'refused', code: 'agent_identity_conflict' });
    await first.control.closed;
    expect((await call('GET', path, { token })).body).toMatchObject({ state: 'suspended' });
    await call('POST', `${path}/approve`, { token });
    const again = await connect(host, 9);
    expect(again.answer).toMatchObject({ type: 'welcome' });
    again.control.socket.close(1000);
  });
  it('is cut off and believed again when its ledger was put back to an older state', async () => {
    const { token, host, path } = await joined();
    const groups = await call<{ items: { id: string }[] }>('GET', '/v1/resource-groups', { token });
    const restored = `/v1/resource-groups/${groups.body.items[0]!.id}/restored`;
    const first = await connect(host, 7);
    expect(first.answer).toMatchObject({ type: 'welcome' });
    const body = { snapshotAtMs: Date.now() - 3_600_000 };
    expect((await call('POST', restored, { token, body })).status).toBe(204);
    expect((await first.control.closed).code).toBe(4409);
    expect((await call('GET', path, { token })).body).toMatchObject({ state: 'unreachable' });
    // A counter that any other ledger would take for a copy's.
    const again = await connect(host, 3);
    expect(again.answer).toMatchObject({ type: 'welcome' });
    expect(Number(again.answer['epoch'])).toBeGreaterThan(Number(first.answer['epoch']));
    again.control.socket.close(1000);
  });
  it('belongs to a group that can not be restored to the future, or is not there', async () => {
    const { token } = await joined();
    const groups = await call<{ items: { id: string }[] }>('GET', '/v1/resource-groups', { token });
    const { id } = groups.body.items[0]!;
    const tomorrow = { snapshotAtMs: Date.now() + 86_400_000 };
    const post = (group: string, body: unknown) =>
      call('POST', `/v1/resource-groups/${group}/restored`, { token, body });
    expect(await post(id, tomorrow)).toMatchObject({ status: 400, body: { code: 'request_body_invalid' } });
    expect(await post(`rgp_${'0'.repeat(26)}`, { snapshotAtMs: 1 })).toMatchObject({
      status: 404,
      body: { code: 'group_not_found' },
    });
  });
  it('that speaks another version is refused', async () => {
    const { host } = await joined();
    const control = await dial('/agent/v1/tunnel?purpose=control', { authorization: await host.credential() });
    control.json(frameTypes.message, 0, {
      type: 'hello',
      version: 99,
      minVersion: 98,
      agentVersion: '9',
      counter: 1,
      attemptId: fresh('attempt'),
      journalId: fresh('journal'),
      capacity,
      host: hostInfo,
      inventory: [],
      images: [],
    });
    expect(await control.until('refused', () => control.messages[0])).toMatchObject({
      code: 'agent_version_unsupported',
    });
    expect((await control.closed).code).toBe(4403);
  });
});
