/** What administrators do with agents, and what the ledger makes of it. */
import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Ledger } from '../../../edge/manager/scheduler/ledger-object.ts';
import { systemRandom } from '../../../edge/platform/random.ts';
import { ledgerObject } from '../../../edge/platform/objects.ts';
import { newId } from '../../../schema/ids.ts';
import type { ToEdgeHello } from '../../../schema/protocol/messages.ts';
import { makePeople } from '../accounts/people.ts';
import { bootstrapped, call } from '../client.ts';
import { capacity, Host, hostInfo, newJoinToken } from './host.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

const fresh = (kind: 'attempt' | 'journal') => newId(kind, Date.now(), systemRandom.bytes(10));

/** Says hello to the ledger as the agent's control hub would. */
async function attach(agentId: string, counter: number, offered: Record<string, number> = capacity) {
  const hello: ToEdgeHello = {
    type: 'hello',
    version: 1,
    minVersion: 1,
    agentVersion: '0.1.0',
    counter,
    attemptId: fresh('attempt'),
    journalId: fresh('journal'),
    capacity: offered,
    host: hostInfo,
    inventory: [],
    images: [],
  };
  return ledgerObject(env, 1).attach(agentId, '0', hello, Date.now());
}

async function joined(options: Record<string, unknown> = {}) {
  const { token } = await bootstrapped();
  const host = await Host.make();
  const enrolled = await host.enrol((await newJoinToken(token, options)).token);
  if (enrolled.status !== 200) throw new Error(enrolled.text);
  const path = `/v1/agents/${host.agentId}`;
  return {
    agentId: host.agentId,
    read: async () => (await call('GET', path, { token })).body,
    post: (verb: string) => call('POST', `${path}/${verb}`, { token }),
    revoke: () => call('DELETE', path, { token }),
  };
}

describe('an agent', () => {
  it('is connected while its ledger says so, with what it offers and what is approved', async () => {
    const { agentId, read } = await joined();
    expect(await read()).toMatchObject({ state: 'unreachable', approved: capacity, offered: capacity, host: hostInfo });
    expect(await attach(agentId, 1)).toMatchObject({ accepted: true });
    expect(await read()).toMatchObject({ state: 'connected', sessions: 0, reserved: {} });
  });
  it('that grew offers more, and counts for no more until it is approved', async () => {
    const { agentId, read, post } = await joined();
    const grown = { ...capacity, cpu: 64_000 };
    await attach(agentId, 1, grown);
    expect(await read()).toMatchObject({ offered: grown, approved: capacity });
    expect((await ledgerObject(env, 1).shape()).totals).toEqual([capacity]);
    expect((await post('approve')).body).toMatchObject({ approved: grown });
    expect((await ledgerObject(env, 1).shape()).totals).toEqual([grown]);
  });
  it('that waits for approval is not let in before', async () => {
    const { agentId, read, post } = await joined({ autoApprove: false });
    expect(await attach(agentId, 1)).toMatchObject({ accepted: false, code: 'agent_pending' });
    expect(await read()).toMatchObject({ state: 'pending' });
    await post('approve');
    expect(await attach(agentId, 1)).toMatchObject({ accepted: true });
  });
  it('of which there are two is suspended until somebody approves; draining it lifts nothing', async () => {
    const { agentId, read, post } = await joined();
    await attach(agentId, 1);
    expect(await attach(agentId, 1)).toMatchObject({ accepted: false, code: 'agent_identity_conflict' });
    expect(await read()).toMatchObject({ state: 'suspended' });
    await post('drain');
    expect(await read()).toMatchObject({ state: 'suspended', draining: true });
    expect(await attach(agentId, 2)).toMatchObject({ accepted: false, code: 'agent_suspended' });
    await post('approve');
    expect(await attach(agentId, 7)).toMatchObject({ accepted: true });
    expect(await read()).toMatchObject({ state: 'draining' });
  });
  it('drains and comes back', async () => {
    const { agentId, read, post } = await joined();
    await attach(agentId, 1);
    expect((await post('drain')).body).toMatchObject({ state: 'draining', draining: true });
    expect((await post('drain')).status).toBe(200);
    expect((await post('undrain')).body).toMatchObject({ state: 'connected', draining: false });
    expect(await read()).toMatchObject({ state: 'connected' });
  });
  it('is revoked for good, however often that is asked', async () => {
    const { agentId, read, post, revoke } = await joined();
    await attach(agentId, 1);
    expect((await revoke()).status).toBe(204);
    expect((await revoke()).status).toBe(204);
    expect(await read()).toMatchObject({ state: 'revoked' });
    expect(await attach(agentId, 2)).toMatchObject({ accepted: false, code: 'agent_revoked' });
    for (const verb of ['approve', 'drain', 'undrain'])
      expect(await post(verb)).toMatchObject({ status: 403, body: { code: 'agent_revoked' } });
  });
  it('that is revoked while somebody approves it stays revoked', async () => {
    const { agentId, read, post, revoke } = await joined();
    await attach(agentId, 1);
    expect(await attach(agentId, 1)).toMatchObject({ accepted: false, code: 'agent_identity_conflict' });
    vi.spyOn(Ledger.prototype, 'agents').mockImplementationOnce(async function (this: Ledger) {
      const live = await this.agents();
      expect((await revoke()).status).toBe(204);
      return live;
    });
    expect(await post('approve')).toMatchObject({ status: 403, body: { code: 'agent_revoked' } });
    expect(await read()).toMatchObject({ state: 'revoked' });
    const states = await env.DB.prepare('SELECT state FROM agents').all<{ state: string }>();
    expect(states.results).toEqual([{ state: 'revoked' }]);
  });
  it('whose revocation was cut between D1 and its ledger is revoked there when somebody looks', async () => {
    const { agentId, read } = await joined();
    await attach(agentId, 1);
    await env.DB.prepare("UPDATE agents SET state = 'revoked' WHERE id = ?").bind(agentId).run();
    expect(await read()).toMatchObject({ state: 'revoked' });
    await expect.poll(async () => (await ledgerObject(env, 1).agents())[0]?.state, { timeout: 5000 }).toBe('revoked');
  });
  it('shows tenants what they can use, not what it runs on', async () => {
    const people = await makePeople();
    const host = await Host.make();
    await host.enrol((await newJoinToken(people.superadmin.token)).token);
    const seen = await call('GET', `/v1/agents/${host.agentId}`, { token: people.viewer.token });
    expect(seen).toMatchObject({ status: 200, body: { approved: capacity } });
    expect(seen.body).not.toHaveProperty('host');
    expect(seen.body).not.toHaveProperty('agentVersion');
  });
});
