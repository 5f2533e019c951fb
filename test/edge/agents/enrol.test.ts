import { afterEach, describe, expect, it, vi } from 'vitest';
import { env } from 'cloudflare:workers';
import { bootstrapped, call } from '../client.ts';
import { capacity, Host, newJoinToken } from './host.ts';

afterEach(() => {
  vi.useRealTimers();
});

describe('a join token', () => {
  it('enrols one machine, and says which', async () => {
    const { token } = await bootstrapped();
    const { id, token: secret } = await newJoinToken(token);
    const path = `/v1/agents/join-tokens/${id}`;
    expect((await call('GET', path, { token })).body).toMatchObject({ state: 'waiting' });
    const host = await Host.make();
    const enrolled = await host.enrol(secret);
    expect(enrolled.status, enrolled.text).toBe(200);
    expect(enrolled.body).toMatchObject({
      name: 'host-1.example.test',
      resourceGroup: 'default',
      controlHub: '0',
      approved: true,
    });
    expect((await call('GET', path, { token })).body).toMatchObject({ state: 'used', agentId: host.agentId });
  });
  it('is stored as a hash alone', async () => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    expect(secret).toMatch(/^cwj_[0-9a-z]{20}$/);
    const rows = await env.DB.prepare('SELECT * FROM join_tokens').all();
    expect(JSON.stringify(rows.results)).not.toContain(secret.slice(4));
  });
  it('answers the machine that spent it the same again, also after it ended: its answer may have been lost', async () => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    const host = await Host.make();
    const first = await host.enrol(secret);
    vi.setSystemTime(Date.now() + 3_600_000);
    const again = await host.enrol(secret);
    expect(again).toMatchObject({ status: 200, text: first.text });
  });
  it('is refused to a second machine', async () => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    await (await Host.make()).enrol(secret);
    expect(await (await Host.make()).enrol(secret)).toMatchObject({
      status: 401,
      body: { code: 'agent_join_token_used' },
    });
  });
  it('is spent by one of many machines that come at the same time', async () => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    const hosts = await Promise.all(Array.from({ length: 5 }, () => Host.make()));
    const answers = await Promise.all(hosts.map((host) => host.enrol(secret)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 401, 401, 401, 401]);
    const agents = await call<{ items: unknown[] }>('GET', '/v1/agents', { token });
    expect(agents.body.items).toHaveLength(1);
  });
  it('ends after its time', async () => {
    const { token } = await bootstrapped();
    const { id, token: secret } = await newJoinToken(token, { ttlSeconds: 60 });
    vi.setSystemTime(Date.now() + 61_000);
    expect((await call('GET', `/v1/agents/join-tokens/${id}`, { token })).body).toMatchObject({ state: 'expired' });
    expect(await (await Host.make()).enrol(secret)).toMatchObject({
      status: 401,
      body: { code: 'agent_join_token_expired' },
    });
  });
  it('of another group is refused to a machine that is enrolled already', async () => {
    const { token } = await bootstrapped();
    await call('POST', '/v1/resource-groups', { token, body: { name: 'second' } });
    const host = await Host.make();
    await host.enrol((await newJoinToken(token)).token);
    const other = await newJoinToken(token, { resourceGroup: 'second' });
    expect(await host.enrol(other.token)).toMatchObject({ status: 401, body: { code: 'agent_join_token_invalid' } });
  });
  it('of the same group gives a machine its identity back', async () => {
    const { token } = await bootstrapped();
    const host = await Host.make();
    const first = await host.enrol((await newJoinToken(token)).token);
    const again = await host.enrol((await newJoinToken(token)).token);
    expect(again.body.agentId).toBe(first.body.agentId);
  });
  it('can not be guessed for long from one address', async () => {
    await bootstrapped();
    const host = await Host.make();
    for (let guess = 0; guess < 20; guess++)
      expect(await host.enrol(`cwj_${String(guess).padStart(20, '0')}`)).toMatchObject({
        status: 401,
        body: { code: 'agent_join_token_invalid' },
      });
    const closed = await host.enrol(`cwj_${'0'.repeat(20)}`);
    expect(closed).toMatchObject({ status: 429, body: { code: 'request_rate_limited' } });
    expect(Number(closed.headers.get('retry-after'))).toBeGreaterThan(0);
  });
  it('names a group that exists, and lives at most an hour', async () => {
    const { token } = await bootstrapped();
    const make = (body: unknown) => call('POST', '/v1/agents/join-tokens', { token, body });
    expect(await make({ resourceGroup: 'nowhere' })).toMatchObject({ status: 404, body: { code: 'group_not_found' } });
    expect((await make({ resourceGroup: 'default', ttlSeconds: 3601 })).status).toBe(400);
  });
});

describe('enrolment', () => {
  it('of a key that was revoked is refused, and spends no token on it', async () => {
    const { token } = await bootstrapped();
    const host = await Host.make();
    await host.enrol((await newJoinToken(token)).token);
    expect((await call('DELETE', `/v1/agents/${host.agentId}`, { token })).status).toBe(204);
    const join = await newJoinToken(token);
    expect(await host.enrol(join.token)).toMatchObject({ status: 403, body: { code: 'agent_revoked' } });
    expect((await (await Host.make()).enrol(join.token)).status).toBe(200);
  });
  it.each([
    ['the point of order 1', `AQ${'A'.repeat(41)}`],
    ['the point of order 4', 'A'.repeat(43)],
    ['not a point in canonical form', `_${'_'.repeat(42)}`],
    ['not 32 bytes', 'AAAA'],
  ])('refuses a key that is %s', async (_, publicKey) => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    expect((await (await Host.make()).enrol(secret, { publicKey })).status).toBe(400);
  });
  it('gives each machine a name of its own, and refuses a chosen one that is taken', async () => {
    const { token } = await bootstrapped();
    const [first, second, third] = [await Host.make(), await Host.make(), await Host.make()];
    const names = [
      (await first.enrol((await newJoinToken(token)).token)).body.name,
      (await second.enrol((await newJoinToken(token)).token)).body.name,
    ];
    expect(names[0]).toBe('host-1.example.test');
    expect(names[1]).toMatch(/^host-1\.example\.test-[0-9a-z]{5}$/);
    const secret = (await newJoinToken(token)).token;
    expect(await third.enrol(secret, { name: 'host-1.example.test' })).toMatchObject({
      status: 409,
      body: { code: 'account_name_taken' },
    });
    expect((await third.enrol(secret, { name: 'other' })).status).toBe(200);
  });
  it('gives one machine that comes with two tokens at once one identity, and two machines a name each', async () => {
    const { token } = await bootstrapped();
    const enrol = async (host: Host, name?: string) =>
      host.enrol((await newJoinToken(token)).token, name === undefined ? {} : { name });
    const host = await Host.make();
    const own = await Promise.all([enrol(host, 'mine'), enrol(host, 'mine'), enrol(host, 'mine')]);
    expect(own.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(own.map(({ body }) => body.agentId)).size).toBe(1);
    const hosts = await Promise.all(Array.from({ length: 4 }, () => Host.make()));
    const others = await Promise.all(hosts.map((each) => enrol(each)));
    expect(new Set(others.map(({ body }) => body.name)).size).toBe(4);
    const rivals = await Promise.all(
      (await Promise.all([Host.make(), Host.make()])).map((each) => enrol(each, 'theirs')),
    );
    expect(rivals.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409]);
  });
  it('without automatic approval approves nothing', async () => {
    const { token } = await bootstrapped();
    const host = await Host.make();
    const enrolled = await host.enrol((await newJoinToken(token, { autoApprove: false })).token);
    expect(enrolled.body.approved).toBe(false);
    const path = `/v1/agents/${host.agentId}`;
    expect((await call('GET', path, { token })).body).toMatchObject({
      state: 'pending',
      approved: {},
      offered: capacity,
    });
    expect((await call('POST', `${path}/approve`, { token })).body).toMatchObject({ approved: capacity });
  });
  it('fills control hubs with 128 agents each', async () => {
    const { token } = await bootstrapped();
    await env.DB.prepare(
      `INSERT INTO agents (id, group_number, name, public_key, control_hub, state, draining, approved, approval, offered, host,
        agent_version, joined_at_ms)
      WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 128)
      SELECT 'agt_' || i, 1, 'a' || i, 'k' || i, '0', 'active', 0, '{}', 1, '{}', '{}', '0', 0 FROM n`,
    ).run();
    const host = await Host.make();
    expect((await host.enrol((await newJoinToken(token)).token)).body.controlHub).toBe('1');
  });
  it('says nothing of secrets in what it stores', async () => {
    const { token } = await bootstrapped();
    const { token: secret } = await newJoinToken(token);
    await (await Host.make()).enrol(secret);
    const dump = JSON.stringify([
      await env.DB.prepare('SELECT * FROM agents').all(),
      await env.DB.prepare('SELECT * FROM tokens').all(),
      await env.DB.prepare('SELECT * FROM users').all(),
    ]);
    expect(dump).not.toContain(secret);
    expect(dump).not.toContain(token.slice(10));
  });
});
