/** Nothing passes later than 3 s after a revocation or a change of rights was told to `Access`, wherever it was told from. */
import { env } from 'cloudflare:workers';
import { runInDurableObject, runDurableObjectAlarm } from 'cloudflare:test';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Principal } from '../../../edge/http/access-rpc.ts';
import { checkAccess, stillAllowed } from '../../../edge/http/access.ts';
import type { UserActor } from '../../../edge/http/context.ts';
import { shardOf } from '../../../edge/http/shards.ts';
import { accessObject } from '../../../edge/platform/objects.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call } from '../client.ts';
import { join, makePeople, makePerson } from './people.ts';
import { evict } from '../evict.ts';

afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});
const whoami = (token: string) => call('GET', '/v1/whoami', { token });
const tokenIdOf = async (token: string) => String((await whoami(token)).body['tokenId']);

describe('a revoked token', () => {
  it('is refused at once where it was revoked', async () => {
    const { token } = await bootstrapped();
    const other = await makePerson(token, 'other');
    expect((await whoami(other.token)).status).toBe(200);
    const id = await tokenIdOf(other.token);
    expect((await call('DELETE', `/v1/tokens/${id}`, { token })).status).toBe(204);
    expect(await whoami(other.token)).toMatchObject({ status: 401, body: { code: 'auth_revoked' } });
    expect((await call('DELETE', `/v1/tokens/${id}`, { token })).status).toBe(204);
  });
  it('is refused within 3 s where only Access knows of it', async () => {
    const { token, userId } = await bootstrapped();
    const id = await tokenIdOf(token);
    await accessObject(env, shardOf(userId)).finish('test', id, 'revoked');
    passMs(3001);
    expect(await whoami(token)).toMatchObject({ status: 401, body: { code: 'auth_revoked' } });
  });
});

describe('a stream', () => {
  it('ends 3 s after the last check of its token, however late after it it began', async () => {
    let nowMs = 1_000_000;
    const clock = { nowMs: () => nowMs, bootMs: () => nowMs };
    const actor: UserActor = {
      kind: 'user',
      userId: 'usr_a',
      tokenId: 'tok_a',
      email: 'a@causeway.test',
      domainId: 'dom_a',
      domainNumber: 1,
      role: undefined,
      projects: [],
      projectId: undefined,
      tokenRole: undefined,
      scopes: [],
      tokenExpiresAtMs: undefined,
      accessVersion: 0,
      checkedAtMs: nowMs,
    };
    nowMs += 1_900;
    const allowed = stillAllowed({ env, clock, actor });
    await accessObject(env, shardOf('usr_a')).finish('test', 'tok_a', 'revoked');
    nowMs += 1_000;
    expect(await allowed()).toBe(true);
    nowMs += 100;
    expect(await allowed()).toBe(false);
  });
});

describe('a change of rights', () => {
  it('is seen within 3 s by whoever cached the rights before', async () => {
    const people = await makePeople();
    expect((await whoami(people.viewer.token)).body['projects']).toMatchObject([{ role: 'viewer' }]);
    await env.DB.prepare("UPDATE memberships SET role = 'member' WHERE user_id = ?").bind(people.viewer.userId).run();
    await accessObject(env, shardOf(people.viewer.userId)).finish('test', people.viewer.userId, 'changed');
    passMs(3001);
    expect((await whoami(people.viewer.token)).body['projects']).toMatchObject([{ role: 'member' }]);
  });
  it('takes and gives projects', async () => {
    const people = await makePeople();
    const member = `/v1/projects/${people.projectId}/members/${people.viewer.userId}`;
    expect((await call('DELETE', member, { token: people.projectAdmin.token })).status).toBe(204);
    expect((await whoami(people.viewer.token)).body['projects']).toEqual([]);
    await join(people.projectAdmin.token, people.projectId, people.viewer, 'member');
    expect((await whoami(people.viewer.token)).body['projects']).toMatchObject([{ name: 'ours', role: 'member' }]);
  });
  it('switches a user off everywhere, and on again', async () => {
    const people = await makePeople();
    const path = `/v1/users/${people.member.userId}`;
    const token = people.domainAdmin.token;
    expect(await call('PATCH', path, { token, body: { active: false } })).toMatchObject({
      status: 200,
      body: { active: false },
    });
    expect((await whoami(people.member.token)).status).toBe(401);
    const [verdict] = await checkAccess(env, [{ userId: people.member.userId, tokenId: 'tok_x', accessVersion: 99 }]);
    expect(verdict).toBe('revoked');
    expect((await call('PATCH', path, { token, body: { active: true } })).status).toBe(200);
    expect((await whoami(people.member.token)).status).toBe(200);
  });
});

describe('a made-up token', () => {
  it('is refused without a read of D1, however well it is formed', async () => {
    const { token } = await bootstrapped();
    await env.DB.exec('DROP TABLE tokens');
    for (const text of [`cwt_${'A'.repeat(51)}`, token.slice(0, -1) + (token.endsWith('A') ? 'B' : 'A')])
      expect(await whoami(text)).toMatchObject({ status: 401, body: { code: 'auth_invalid' } });
    expect((await whoami(token)).status).toBe(500);
  });
});

describe('a cached token', () => {
  it('costs no read of D1', async () => {
    passMs(0); // from here on: what earlier tests added would outlive the minute for which rights are kept
    const { token } = await bootstrapped();
    expect((await whoami(token)).status).toBe(200);
    await env.DB.exec('DROP TABLE tokens');
    expect((await whoami(token)).status).toBe(200);
    passMs(3001);
    expect((await whoami(token)).status).toBe(200);
  });
  it('ends when it expires', async () => {
    const { token } = await bootstrapped();
    const made = await call('POST', '/v1/tokens', { token, body: { name: 'short', ttlSeconds: 60 } });
    const short = String(made.body['token']);
    expect((await whoami(short)).status).toBe(200);
    vi.setSystemTime(Date.now() + 61_000);
    expect((await whoami(short)).status).toBe(401);
  });
});

describe('an Access object', () => {
  const subject = { userId: 'usr_a', tokenId: 'tok_a' };
  const shard = shardOf(subject.userId);
  const judge = async (accessVersion: number) => (await checkAccess(env, [{ ...subject, accessVersion }]))[0];

  it('judges by version, and remembers over a restart', async () => {
    expect(await judge(0)).toBe('ok');
    await accessObject(env, shard).finish('test', 'usr_a', 'changed');
    await evict(env.ACCESS.getByName(String(shard)));
    expect(await judge(0)).toBe('changed');
    expect(await judge(1)).toBe('ok');
    expect(await judge(2)).toBe('changed');
  });
  it('forgets what D1 holds after 24 h, and then trusts no older reading', async () => {
    const access = accessObject(env, shard);
    await access.finish('test', 'tok_a', 'revoked');
    vi.setSystemTime(Date.now() + 25 * 3_600_000);
    const stub = env.ACCESS.getByName(String(shard));
    await runDurableObjectAlarm(stub);
    expect(await judge(0)).toBe('changed');
    expect(await judge(1)).toBe('ok');
    const rows = await runInDurableObject(stub, (_, state) =>
      state.storage.sql.exec('SELECT * FROM entries').toArray(),
    );
    expect(rows).toEqual([]);
  });
  it('judges many principals in their order, asking each shard once', async () => {
    const principals: Principal[] = Array.from({ length: 100 }, (_, at) => ({
      userId: `usr_${at}`,
      tokenId: `tok_${at}`,
      accessVersion: 0,
    }));
    await accessObject(env, shardOf('usr_7')).finish('test', 'tok_7', 'revoked');
    const verdicts = await checkAccess(env, principals);
    expect(verdicts.map((verdict, at) => [at, verdict]).filter(([, verdict]) => verdict !== 'ok')).toEqual([
      [7, 'revoked'],
    ]);
  });
});
