/** Secrets go in and are answered once: they are in no log line and in no other answer. Canaries, looked for everywhere. */
import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { dial, Host, newJoinToken } from '../agents/host.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, bootstrapSecret, call, password } from '../client.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

describe('a secret', () => {
  it('is in no log line, whatever happens to the request that carries it', async () => {
    const lines: string[] = [];
    for (const level of ['debug', 'info', 'warn', 'error', 'log'] as const)
      vi.spyOn(console, level).mockImplementation((...said: unknown[]) => void lines.push(JSON.stringify(said)));
    const { token } = await bootstrapped();
    const canary = 'canary-in-a-request';
    passMs(1000);
    await call('POST', '/v1/auth/login', { body: { email: 'admin@causeway.test', password } });
    passMs(1000);
    await call('POST', '/v1/auth/login', { body: { email: 'admin@causeway.test', password: canary } });
    await call('POST', '/v1/auth/login', {
      body: `{"password":"${canary}`,
      headers: { 'content-type': 'application/json' },
    });
    await call('POST', '/v1/users', { token, body: { email: 'x@causeway.test', password: canary, [canary]: 1 } });
    await call('GET', `/v1/whoami?token=${canary}`, { headers: { authorization: `Bearer ${canary}` } });
    await call('GET', `/v1/tokens?cursor=${canary}`, { token });
    const made = await call('POST', '/v1/tokens', {
      token,
      body: { name: 'a' },
      headers: { 'idempotency-key': canary },
    });
    const join = await newJoinToken(token);
    const host = await Host.make();
    await host.enrol(join.token);
    const credential = await host.credential();
    await dial({ authorization: credential });
    await dial({ authorization: credential.replace('id=', 'id=x') });
    const everything = lines.join('\n');
    expect(lines.length).toBeGreaterThan(8);
    const secrets = [
      canary,
      password,
      bootstrapSecret,
      token,
      String(made.body['token']),
      join.token,
      credential.split('signature=')[1]!,
    ];
    for (const secret of secrets) expect(everything).not.toContain(secret);
    expect(everything).toContain('req_');
  });
  it('is in no log line of a query that fails', async () => {
    const lines: string[] = [];
    vi.spyOn(console, 'error').mockImplementation((...said: unknown[]) => void lines.push(JSON.stringify(said)));
    const { token } = await bootstrapped();
    expect((await call('GET', '/v1/whoami', { token })).status).toBe(200);
    await env.DB.exec('ALTER TABLE users RENAME TO elsewhere');
    const body = { email: 'canary-email@causeway.test', password: 'canary-password-long' };
    expect((await call('POST', '/v1/users', { token, body })).status).toBe(500);
    expect(lines.join('\n')).toContain('no such table');
    expect(lines.join('\n')).not.toMatch(/canary|scrypt/);
  });
  it('is answered when it is made and never again', async () => {
    const { token } = await bootstrapped();
    const made = await call('POST', '/v1/tokens', { token, body: { name: 'once' } });
    const text = String(made.body['token']);
    const join = await newJoinToken(token);
    for (const path of ['/v1/tokens', '/v1/whoami', '/v1/users', `/v1/agents/join-tokens/${join.id}`, '/v1/agents']) {
      const answer = await call('GET', path, { token });
      expect(answer.status).toBe(200);
      for (const secret of [text.slice(10), join.token, token.slice(10), 'scrypt$'])
        expect(answer.text).not.toContain(secret);
    }
  });
});
