/** Passwords are changed by who knows them and reset by administrators; guesses are counted wherever they are made. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Access } from '../../../edge/http/access-object.ts';
import { Host } from '../agents/host.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call, password } from '../client.ts';
import { makePerson } from './people.ts';

const email = 'person@causeway.test';
const next = 'another long password';
let admin: string;
let userId: string;
let token: string;

beforeEach(async () => {
  passMs(1000);
  admin = (await bootstrapped()).token;
  userId = String((await call('POST', '/v1/users', { token: admin, body: { email, password } })).body['id']);
  token = String((await login(password)).body['token']);
});
afterEach(() => {
  vi.restoreAllMocks();
});

function login(secret: string) {
  passMs(1000);
  return call('POST', '/v1/auth/login', { body: { email, password: secret } });
}
function change(body: Record<string, unknown>, as = token) {
  passMs(1000);
  return call('POST', '/v1/auth/password', { token: as, body });
}
const whoami = async (as: string) => (await call('GET', '/v1/whoami', { token: as })).status;

describe('changing the own password', () => {
  it('takes the old one; then the new one alone signs in, and tokens go on', async () => {
    expect((await change({ password, newPassword: next })).status).toBe(204);
    expect((await login(password)).status).toBe(401);
    expect((await login(next)).status).toBe(200);
    expect(await whoami(token)).toBe(200);
  });
  it('revokes the other tokens where that is asked, never the one that asks', async () => {
    const other = String((await login(password)).body['token']);
    expect(await whoami(other)).toBe(200);
    expect((await change({ password, newPassword: next, revokeTokens: true })).status).toBe(204);
    expect(await whoami(other)).toBe(401);
    expect(await whoami(token)).toBe(200);
  });
  it.each(['its owner', 'an administrator'])('has the ended tokens noted for restores, asked by %s', async (who) => {
    const other = String((await login(password)).body['token']);
    const { tokenId } = (await call('GET', '/v1/whoami', { token: other })).body;
    const said = vi.spyOn(console, 'info').mockImplementation(() => undefined);
    const body = { password: next, revokeTokens: true };
    if (who === 'its owner') await change({ password, newPassword: next, revokeTokens: true });
    else await call('PATCH', `/v1/users/${userId}`, { token: admin, body });
    const lines = said.mock.calls.map(([line]) => JSON.parse(String(line)) as Record<string, unknown>);
    const noted = lines.filter(({ message }) => message === 'revocation');
    expect(noted.filter(({ revoked }) => revoked).map(({ subject }) => subject)).toContain(tokenId);
    expect(noted).toHaveLength(who === 'its owner' ? 1 : 2);
  });
  it('is refused with a wrong old one, and counted like a failed sign-in', async () => {
    for (let failure = 0; failure < 5; failure++) {
      const wrong = await change({ password: 'wrong', newPassword: next });
      expect(wrong).toMatchObject({ status: 403, body: { code: 'auth_password_wrong' } });
      expect((await login('wrong')).status).toBe(401);
    }
    expect((await change({ password, newPassword: next })).status).toBe(429);
    expect((await login(password)).status).toBe(429);
  });
  it('is done once when it is asked again', async () => {
    expect((await change({ password, newPassword: next })).status).toBe(204);
    expect((await change({ password, newPassword: next })).status).toBe(204);
    expect((await login(next)).status).toBe(200);
  });
  it('ends the other tokens when it is asked again with that', async () => {
    const other = String((await login(password)).body['token']);
    expect((await change({ password, newPassword: next })).status).toBe(204);
    expect(await whoami(other)).toBe(200);
    expect((await change({ password, newPassword: next, revokeTokens: true })).status).toBe(204);
    expect(await whoami(other)).toBe(401);
    expect(await whoami(token)).toBe(200);
    expect((await login(next)).status).toBe(200);
  });
  it('does not undo a reset that an administrator made meanwhile', async () => {
    const third = 'a third long password';
    // By then the old password was found right and the new one is hashed.
    vi.spyOn(Access.prototype, 'intend').mockImplementationOnce(async function (
      this: Access,
      ...given: Parameters<Access['intend']>
    ) {
      const reset = await call('PATCH', `/v1/users/${userId}`, { token: admin, body: { password: third } });
      expect(reset.status, reset.text).toBe(200);
      return this.intend(...given);
    });
    expect((await change({ password, newPassword: next, revokeTokens: true })).status).toBe(412);
    expect((await login(next)).status).toBe(401);
    expect((await login(third)).status).toBe(200);
  });
  it.each([
    [{ newPassword: next }],
    [{ password, newPassword: 'short' }],
    [{ password, newPassword: 'x'.repeat(257) }],
    [{ password, newPassword: next, revokeTokens: 'yes' }],
    [{ password, newPassword: next, user: 'usr_1' }],
  ])('takes nothing else: %#', async (body) => {
    expect((await change(body)).status).toBe(400);
  });
  it('is not for service accounts, nor for narrowed tokens', async () => {
    const robot = await makePerson(admin, 'robot');
    expect((await change({ password, newPassword: next }, robot.token)).status).toBe(403);
    const narrow = await call('POST', '/v1/tokens', { token, body: { name: 'n', role: 'viewer' } });
    expect((await change({ password, newPassword: next }, String(narrow.body['token']))).status).toBe(403);
    expect((await login(password)).status).toBe(200);
  });
});

describe('an administrator', () => {
  const patch = (body: unknown, headers: Record<string, string> = {}, id = userId) =>
    call('PATCH', `/v1/users/${id}`, { token: admin, body, headers });

  it('resets a password, and ends all tokens where that is asked', async () => {
    expect((await patch({ password: next, revokeTokens: true })).status).toBe(200);
    expect(await whoami(token)).toBe(401);
    expect((await login(password)).status).toBe(401);
    expect((await login(next)).status).toBe(200);
  });
  it('gives no password to a service account', async () => {
    const robot = await makePerson(admin, 'robot');
    expect((await patch({ password: next }, {}, robot.userId)).status).toBe(403);
  });
  it('changes a user only as it was read, with If-Match', async () => {
    const read = await call('GET', `/v1/users/${userId}`, { token: admin });
    const tag = read.headers.get('etag') ?? '';
    expect(tag).toBe(`"${String(read.body['version'])}"`);
    const changed = await patch({ role: 'domain-admin' }, { 'if-match': `"x", ${tag}` });
    expect(changed).toMatchObject({ status: 200, body: { version: Number(read.body['version']) + 1 } });
    for (const stale of [tag, 'W/"2"', '"2x"', 'nonsense'])
      expect(await patch({ role: null }, { 'if-match': stale }), stale).toMatchObject({
        status: 412,
        body: { code: 'request_precondition_failed' },
      });
    expect((await patch({ role: null }, { 'if-match': '*' })).status).toBe(200);
  });
  it('wins once of several who change at the same time, with If-Match', async () => {
    const { headers } = await call('GET', `/v1/users/${userId}`, { token: admin });
    const tag = { 'if-match': headers.get('etag') ?? '' };
    const answers = await Promise.all([1, 2, 3].map(() => patch({ active: true }, tag)));
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 412, 412]);
  });
});

describe('a condition', () => {
  it('is refused where it could not be kept', async () => {
    const { id } = (await call('POST', '/v1/tokens', { token, body: { name: 'x' } })).body;
    const path = `/v1/tokens/${String(id)}`;
    expect((await call('DELETE', path, { token, headers: { 'if-match': '"1"' } })).status).toBe(412);
    expect((await call('DELETE', path, { token, headers: { 'if-match': '*' } })).status).toBe(204);
  });
  it('on a session is its version', async () => {
    const project = await call('POST', '/v1/projects', { token: admin, body: { name: 'p' } });
    const body = { type: 'batch', image: 'busybox', command: ['true'], project: project.body['id'] };
    const made = await call('POST', '/v1/sessions', { token: admin, body });
    const path = `/v1/sessions/${String(made.body['id'])}`;
    const { headers } = await call('GET', path, { token: admin });
    expect((await call('DELETE', path, { token: admin, headers: { 'if-match': '"0"' } })).status).toBe(412);
    const right = await call('DELETE', path, { token: admin, headers: { 'if-match': headers.get('etag') ?? '' } });
    expect(right.status, right.text).toBe(202);
  });
});

describe('a limit', () => {
  it('is told with every attempt: what there is, what is left, when it is whole again', async () => {
    const failed = await login('wrong');
    expect(failed.headers.get('ratelimit-policy')).toBe('"login";q=10;w=900');
    expect(failed.headers.get('ratelimit')).toMatch(/^"login";r=9;t=(900|89\d)$/);
    expect((await login('wrong')).headers.get('ratelimit')).toMatch(/^"login";r=8;t=/);
    expect((await login(password)).headers.get('ratelimit')).toBe('"login";r=10;t=900');
    for (let failure = 0; failure < 10; failure++) await login('wrong');
    const closed = await login(password);
    expect(closed.headers.get('ratelimit')).toMatch(/^"login";r=0;t=/);
    expect(closed.headers.get('retry-after')).toBe(/t=(\d+)/.exec(closed.headers.get('ratelimit') ?? '')?.[1]);
  });
  it('is told to a machine with a wrong join token', async () => {
    const refused = await (await Host.make()).enrol(`cwj_${'0'.repeat(20)}`);
    expect(refused.status).toBe(401);
    expect(refused.headers.get('ratelimit')).toMatch(/^"join";r=19;t=/);
  });
});
