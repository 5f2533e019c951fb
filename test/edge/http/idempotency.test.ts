import { createHash } from 'node:crypto';
import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { admissionObject } from '../../../edge/platform/objects.ts';
import { passMs } from '../boot-clock.ts';
import { makePeople } from '../accounts/people.ts';
import { bootstrapped, call } from '../client.ts';

afterEach(() => {
  vi.restoreAllMocks();
});
const keyed = (key: string) => ({ 'idempotency-key': key });
const projects = async (token: string) =>
  (await call<{ items: { name: string }[] }>('GET', '/v1/projects', { token })).body.items.map(({ name }) => name);

describe('an Idempotency-Key', () => {
  it('makes one thing of many equal requests, and answers each the same', async () => {
    const { token } = await bootstrapped();
    const ask = () => call('POST', '/v1/projects', { token, body: { name: 'one' }, headers: keyed('a') });
    const first = await ask();
    expect(first.status).toBe(201);
    for (let again = 0; again < 3; again++) expect(await ask()).toMatchObject({ status: 201, text: first.text });
    expect(await projects(token)).toEqual(['default', 'one']);
  });
  it('makes one thing of requests that come at the same time', async () => {
    const { token } = await bootstrapped();
    const ask = () => call('POST', '/v1/projects', { token, body: { name: 'race' }, headers: keyed('a') });
    const answers = await Promise.all([ask(), ask(), ask(), ask()]);
    expect(answers.filter(({ status }) => status === 201).length).toBeGreaterThan(0);
    for (const { status, body } of answers)
      if (status !== 201) expect([status, body['code']]).toEqual([409, 'idempotency_in_progress']);
    expect(await projects(token)).toEqual(['default', 'race']);
  });
  it('is refused with another body, and at another address', async () => {
    const { token } = await bootstrapped();
    await call('POST', '/v1/projects', { token, body: { name: 'one' }, headers: keyed('a') });
    for (const [path, body] of [
      ['/v1/projects', { name: 'two' }],
      ['/v1/domains', { name: 'one' }],
    ] as const)
      expect(await call('POST', path, { token, body, headers: keyed('a') })).toMatchObject({
        status: 409,
        body: { code: 'idempotency_key_reused' },
      });
  });
  it('is free again after a refusal', async () => {
    const { token } = await bootstrapped();
    const taken = await call('POST', '/v1/projects', { token, body: { name: 'default' }, headers: keyed('a') });
    expect(taken).toMatchObject({ status: 409, body: { code: 'account_name_taken' } });
    expect((await call('POST', '/v1/projects', { token, body: { name: 'free' }, headers: keyed('a') })).status).toBe(
      201,
    );
  });
  it('goes on at once after a failure of ours', async () => {
    const { token } = await bootstrapped();
    const ask = () => call('POST', '/v1/projects', { token, body: { name: 'late' }, headers: keyed('a') });
    await env.DB.exec('ALTER TABLE projects RENAME TO projects_away');
    expect((await ask()).status).toBeGreaterThanOrEqual(500);
    await env.DB.exec('ALTER TABLE projects_away RENAME TO projects');
    const made = await ask();
    expect(made.status, made.text).toBe(201);
    expect((await ask()).text).toBe(made.text);
    expect(await projects(token)).toEqual(['default', 'late']);
  });
  it('belongs to who used it', async () => {
    const people = await makePeople();
    const ask = (token: string) => call('POST', '/v1/tokens', { token, body: { name: 'mine' }, headers: keyed('a') });
    expect((await ask(people.member.token)).status).toBe(201);
    expect((await ask(people.viewer.token)).status).toBe(201);
  });
  it('never shows a secret twice: it says what was made', async () => {
    const { token } = await bootstrapped();
    const ask = () => call('POST', '/v1/tokens', { token, body: { name: 'secret' }, headers: keyed('a') });
    const first = await ask();
    const again = await ask();
    expect(again).toMatchObject({ status: 409, body: { code: 'idempotency_secret_shown' } });
    expect(again.body['detail']).toContain(String(first.body['id']));
    expect(again.text).not.toContain(String(first.body['token']).slice(5));
  });
  it('makes the same thing after a cut between the write and the answer, with a secret that works', async () => {
    const { token, userId } = await bootstrapped();
    const body = { name: 'cut' };
    const bodyHash = createHash('sha256')
      .update(`POST /v1/tokens\n${JSON.stringify(body)}`)
      .digest('base64url');
    // What a request leaves behind that was cut after its write: a key that began, and a row with the id that it gave.
    const begun = await admissionObject(env, '1').begin({ actorId: userId, key: 'cut', bodyHash });
    if (begun.kind !== 'begun') throw new Error(begun.kind);
    const id = `tok_${begun.idBody}`;
    await env.DB.prepare(
      "INSERT INTO tokens (id, user_id, name, prefix, hash, scopes, created_at_ms) VALUES (?, ?, 'cut', 'cwt_lost', '1.lost', '[]', 1)",
    )
      .bind(id, userId)
      .run();
    const ask = () => call('POST', '/v1/tokens', { token, body, headers: keyed('cut') });
    expect(await ask()).toMatchObject({ status: 409, body: { code: 'idempotency_in_progress' } });
    passMs(11_000);
    const again = await ask();
    expect(again).toMatchObject({ status: 201, body: { id } });
    expect((await call('GET', '/v1/whoami', { token: String(again.body['token']) })).body).toMatchObject({
      tokenId: id,
    });
  });
});
