import { afterEach, describe, expect, it, vi } from 'vitest';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, bootstrapSecret, call, password } from '../client.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

/** One attempt, with the instance's spacing between attempts behind it. */
function login(email: string, secret: string, headers: Record<string, string> = {}) {
  passMs(1000);
  const body = { email, password: secret };
  return call<{ token: string; expiresAt: string }>('POST', '/v1/auth/login', { body, headers });
}

describe('signing in', () => {
  it('makes a token that expires', async () => {
    await bootstrapped();
    const { status, body } = await login('Admin@Causeway.test', password);
    expect(status).toBe(200);
    expect(Date.parse(body.expiresAt)).toBeGreaterThan(Date.now());
    const me = await call('GET', '/v1/whoami', { token: body.token });
    expect(me.body).toMatchObject({ email: 'admin@causeway.test', tokenExpiresAt: body.expiresAt, instance: 'dev' });
  });
  it('answers an unknown user byte for byte like a wrong password', async () => {
    await bootstrapped();
    const wrong = await login('admin@causeway.test', 'not the password');
    const unknown = await login('nobody@causeway.test', 'not the password');
    expect(wrong.status).toBe(401);
    expect(unknown.text).toBe(wrong.text);
    expect(unknown.status).toBe(wrong.status);
  });
  it('closes an account for an address after ten failures, for the right password too', async () => {
    await bootstrapped();
    for (let failure = 0; failure < 10; failure++)
      expect((await login('admin@causeway.test', 'wrong')).status).toBe(401);
    const closed = await login('admin@causeway.test', password);
    expect(closed).toMatchObject({ status: 429, body: { code: 'auth_throttled' } });
    expect(Number(closed.headers.get('retry-after'))).toBeGreaterThan(800);
    expect((await login('other@causeway.test', 'wrong')).status).toBe(401);
  });
  it('closes it for all of a /64 of IPv6, which is one client`s', async () => {
    await bootstrapped();
    const from = (address: string) => ({ 'cf-connecting-ip': address });
    for (let failure = 1; failure <= 10; failure++)
      expect((await login('admin@causeway.test', 'wrong', from(`2001:db8:7:1::${failure}`))).status).toBe(401);
    expect(await login('admin@causeway.test', password, from('2001:db8:7:1:2:3:4:5'))).toMatchObject({
      status: 429,
      body: { code: 'auth_throttled' },
    });
    expect((await login('admin@causeway.test', password, from('2001:db8:7:2::1'))).status).toBe(200);
  });
  it('forgives failures once the password was right', async () => {
    await bootstrapped();
    for (let failure = 0; failure < 9; failure++) await login('admin@causeway.test', 'wrong');
    expect((await login('admin@causeway.test', password)).status).toBe(200);
    expect((await login('admin@causeway.test', 'wrong')).status).toBe(401);
  });
  it('lets in two a second: whoever comes sooner is told when to come again', async () => {
    await bootstrapped();
    passMs(1000);
    const at = { body: { email: 'admin@causeway.test', password } };
    const [first, second] = await Promise.all([call('POST', '/v1/auth/login', at), call('POST', '/v1/auth/login', at)]);
    expect([first.status, second.status].toSorted((a, b) => a - b)).toEqual([200, 429]);
    const late = first.status === 429 ? first : second;
    expect(late.headers.get('retry-after')).toBe('1');
  });
  it('is refused to a service account and to whoever was switched off', async () => {
    const { token } = await bootstrapped();
    await call('POST', '/v1/users', { token, body: { email: 'robot@causeway.test' } });
    expect((await login('robot@causeway.test', 'A'.repeat(32))).status).toBe(401);
    const person = await call('POST', '/v1/users', { token, body: { email: 'gone@causeway.test', password } });
    expect((await login('gone@causeway.test', password)).status).toBe(200);
    await call('PATCH', `/v1/users/${String(person.body['id'])}`, { token, body: { active: false } });
    expect((await login('gone@causeway.test', password)).status).toBe(401);
  });
});

describe('the first administrator', () => {
  it('is made only by whoever knows the bootstrap secret', async () => {
    const body = { email: 'admin@causeway.test', password };
    expect((await call('POST', '/v1/bootstrap', { body })).status).toBe(401);
    expect((await call('POST', '/v1/bootstrap', { body, token: `${bootstrapSecret}x` })).status).toBe(401);
    expect(
      (await call('POST', '/v1/bootstrap', { body: { ...body, password: 'short' }, token: bootstrapSecret })).status,
    ).toBe(400);
  });
  it('is one, however many ask at the same time', async () => {
    const ask = (email: string) => call('POST', '/v1/bootstrap', { body: { email, password }, token: bootstrapSecret });
    const answers = await Promise.all([ask('a@causeway.test'), ask('b@causeway.test'), ask('c@causeway.test')]);
    expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([201, 409, 409]);
    const token = String(answers.find(({ status }) => status === 201)?.body['token']);
    const users = await call<{ items: unknown[] }>('GET', '/v1/users', { token });
    expect(users.body.items).toHaveLength(1);
  });
});
