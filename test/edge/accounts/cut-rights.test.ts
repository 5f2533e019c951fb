/** A change of rights that is cut at any point: nobody keeps, for more than the 3 s of a check, rights that D1 no longer gives. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Access } from '../../../edge/http/access-object.ts';
import { checkAccess } from '../../../edge/http/access.ts';
import { shardOf } from '../../../edge/http/shards.ts';
import { accessObject } from '../../../edge/platform/objects.ts';
import { passMs } from '../boot-clock.ts';
import { call } from '../client.ts';
import { makePeople, type People } from './people.ts';
import { evict } from '../evict.ts';

let people: People;
beforeEach(async () => {
  passMs(0);
  people = await makePeople();
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

const whoami = (token: string) => call('GET', '/v1/whoami', { token });
const accessOf = (userId: string) => accessObject(env, shardOf(userId));
/** What another isolate, which read the rights when they were made, is told at its next check. */
const verdictOf = async (userId: string) => {
  const { version } = await accessOf(userId).check([]);
  return (await checkAccess(env, [{ userId, tokenId: 'tok_x', accessVersion: version }]))[0];
};
const setRole = (role: string) =>
  env.DB.prepare('UPDATE memberships SET role = ? WHERE user_id = ?').bind(role, people.viewer.userId).run();

describe('a change of rights cut', () => {
  it('before D1 leaves everything as it was, and everybody looking again', async () => {
    const { userId, token } = people.viewer;
    await accessOf(userId).intend('cut', userId, false);
    passMs(3001);
    expect((await whoami(token)).body['projects']).toMatchObject([{ role: 'viewer' }]);
    expect(await verdictOf(userId)).toBe('changed');
  });
  it('after D1 and before Access is seen within 3 s, however late D1 was written', async () => {
    const { userId, token } = people.viewer;
    await accessOf(userId).intend('cut', userId, false);
    passMs(3001);
    expect((await whoami(token)).body['projects']).toMatchObject([{ role: 'viewer' }]);
    await setRole('member');
    passMs(3001);
    expect((await whoami(token)).body['projects']).toMatchObject([{ role: 'member' }]);
  });
  it('is remembered over a restart of Access, and ends by itself after a minute', async () => {
    const { userId } = people.viewer;
    const stub = env.ACCESS.getByName(String(shardOf(userId)));
    await accessOf(userId).intend('cut', userId, false);
    await evict(stub);
    expect(await verdictOf(userId)).toBe('changed');
    vi.setSystemTime(Date.now() + 61_000);
    expect(await runDurableObjectAlarm(stub)).toBe(true);
    expect(await verdictOf(userId)).toBe('ok');
    const left = await runInDurableObject(stub, (_, { storage }) =>
      storage.sql.exec('SELECT * FROM intents').toArray(),
    );
    expect(left).toEqual([]);
  });
  it.each([
    [
      'a role',
      (id: string) => call('PATCH', `/v1/users/${id}`, { token: people.superadmin.token, body: { role: null } }),
    ],
    [
      'a user',
      (id: string) => call('PATCH', `/v1/users/${id}`, { token: people.superadmin.token, body: { active: false } }),
    ],
  ])('by the loss of its last step takes %s away all the same, and is simply asked again', async (_, change) => {
    const { userId, token } = people.domainAdmin;
    expect((await call('GET', '/v1/users', { token })).status).toBe(200);
    const lost = vi.spyOn(Access.prototype, 'finish').mockRejectedValue(new Error('cut'));
    expect((await change(userId)).status).toBe(500);
    expect(lost).toHaveBeenCalled();
    lost.mockRestore();
    expect(await verdictOf(userId)).toBe('changed');
    passMs(3001);
    expect([401, 403]).toContain((await call('GET', '/v1/users', { token })).status);
    expect((await change(userId)).status).toBe(200);
    expect([401, 403]).toContain((await call('GET', '/v1/users', { token })).status);
  });
  it('does not take the announcement of another one with it', async () => {
    const { userId } = people.viewer;
    await accessOf(userId).intend('first', userId, false);
    await accessOf(userId).intend('second', userId, false);
    await accessOf(userId).finish('first', userId, 'changed');
    expect(await verdictOf(userId)).toBe('changed');
    await accessOf(userId).finish('second', userId, 'changed');
    expect(await verdictOf(userId)).toBe('ok');
  });
  it.each([
    { first: 'off', last: 'off' },
    { first: 'off', last: 'on' },
    { first: 'on', last: 'off' },
  ])('leaves it to D1 which of two changes at once came last ($first begins, $last ends)', async ({ first, last }) => {
    const { userId } = people.viewer;
    const access = accessOf(userId);
    const finish = (id: string) => access.finish(id, userId, id === 'off' ? 'revoked' : 'changed');
    for (const id of [first, first === 'off' ? 'on' : 'off']) await access.intend(id, userId, id === 'on');
    await finish(last === 'off' ? 'on' : 'off');
    expect(await verdictOf(userId)).toBe('changed');
    await finish(last);
    expect(await verdictOf(userId)).toBe('ok');
  });
  it('while a user is let in again leaves it out or lets it in, as D1 says', async () => {
    const { userId, token } = people.member;
    const path = `/v1/users/${userId}`;
    await call('PATCH', path, { token: people.superadmin.token, body: { active: false } });
    await accessOf(userId).intend('cut', userId, true);
    passMs(3001);
    expect((await whoami(token)).status).toBe(401);
    await env.DB.prepare('UPDATE users SET active = 1 WHERE id = ?').bind(userId).run();
    passMs(3001);
    expect((await whoami(token)).status).toBe(200);
  });
});

describe('a refused change', () => {
  it('is no change: its announcement goes with it', async () => {
    const { userId } = people.viewer;
    const path = `/v1/projects/${people.projectId}/members/usr_${'0'.repeat(26)}`;
    expect((await call('DELETE', path, { token: people.superadmin.token })).status).toBe(404);
    expect(await verdictOf(userId)).toBe('ok');
  });
});
