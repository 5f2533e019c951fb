/** The audit trail through the front door: what is done leaves a record, refusals a few, and a changed chain is found out. */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AuditRecord, AuditVerdict } from '../../../schema/api/audit.ts';
import { Admission } from '../../../edge/manager/admission/admission-object.ts';
import { hashOf } from '../../../edge/manager/audit/sealer.ts';
import { admissionObject } from '../../../edge/platform/objects.ts';
import { passMs } from '../boot-clock.ts';
import { call, password } from '../client.ts';
import { makePeople, makePerson, type People } from '../accounts/people.ts';
import { evict } from '../evict.ts';

let people: People;
let admin: string;
beforeEach(async () => {
  passMs(1000);
  people = await makePeople();
  admin = people.superadmin.token;
});
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
});

/** The whole chain, newest first. */
async function read(domain?: string, token = admin): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for (let cursor: string | undefined; ;) {
    const query = new URLSearchParams({ limit: '7', ...(domain ? { domain } : {}), ...(cursor ? { cursor } : {}) });
    const { status, text, body } = await call<{ items: unknown[]; next?: string }>(
      'GET',
      `/v1/audit?${query.toString()}`,
      {
        token,
      },
    );
    expect(status, text).toBe(200);
    records.push(...body.items.map((item) => AuditRecord.parse(item)));
    if (body.next === undefined) return records;
    cursor = body.next;
  }
}
async function verify(domain?: string, more = ''): Promise<AuditVerdict> {
  const { body, text } = await call('GET', `/v1/audit/verify?${domain ? `domain=${domain}` : ''}${more}`, {
    token: admin,
  });
  const parsed = AuditVerdict.safeParse(body);
  if (!parsed.success) throw new Error(text);
  return parsed.data;
}
const actionsOf = (records: readonly AuditRecord[]) => records.map(({ action }) => action);
/** What a request leaves behind when nobody waits for it. */
const settled = (chain: string, action: string) =>
  expect.poll(async () => actionsOf(await read(chain)), { timeout: 10_000 }).toContain(action);

describe('what is done', () => {
  it('is a record in the chain of its domain, with who, where from and what, and without secrets', async () => {
    const made = await call('POST', '/v1/users', {
      token: people.domainAdmin.token,
      body: { email: 'new@causeway.test', password },
    });
    const [record] = await read();
    expect(record).toMatchObject({
      action: 'user.create',
      outcome: 'done',
      objectId: made.body['id'],
      actor: { kind: 'user', id: people.domainAdmin.userId },
      requestId: made.headers.get('x-request-id'),
      details: { email: 'new@causeway.test', role: null },
    });
    expect(record?.actor.tokenId).toMatch(/^tok_/);
    expect(JSON.stringify(await read())).not.toContain(password);
  });
  it('is there for every kind of change', async () => {
    const user = `/v1/users/${people.viewer.userId}`;
    const member = `/v1/projects/${people.projectId}/members/${people.viewer.userId}`;
    await call('PATCH', user, { token: admin, body: { active: false } });
    await call('DELETE', member, { token: admin });
    const session = await call('POST', '/v1/sessions', {
      token: people.member.token,
      body: { type: 'batch', image: 'busybox', command: ['true'] },
    });
    await call('DELETE', `/v1/sessions/${String(session.body['id'])}`, { token: people.member.token });
    await call('POST', '/v1/auth/logout', { token: people.member.token });
    const records = await read();
    expect(actionsOf(records).slice(0, 5)).toEqual([
      'auth.logout',
      'session.delete',
      'session.create',
      'member.remove',
      'user.change',
    ]);
    expect(records.filter(({ action }) => action.startsWith('session.')).map(({ objectId }) => objectId)).toEqual([
      session.body['id'],
      session.body['id'],
    ]);
    expect(new Set(actionsOf(records))).toEqual(
      new Set([
        'auth.logout',
        'session.delete',
        'session.create',
        'member.remove',
        'user.change',
        'member.set',
        'token.create',
        'user.create',
        'project.create',
      ]),
    );
  });
  it('goes to the chain `system` when it is no domain`s', async () => {
    await call('POST', '/v1/domains', { token: admin, body: { name: 'other' } });
    await call('POST', '/v1/resource-groups', { token: admin, body: { name: 'more' } });
    await call('POST', '/v1/agents/join-tokens', { token: admin, body: { resourceGroup: 'more' } });
    expect(actionsOf(await read('system'))).toEqual([
      'join-token.create',
      'group.create',
      'domain.create',
      'bootstrap',
    ]);
  });
  it('is a sign-in of who signed in, by the token that it made', async () => {
    const body = { email: 'admin@causeway.test', password };
    const { token } = (await call('POST', '/v1/auth/login', { body })).body;
    const me = await call('GET', '/v1/whoami', { token: String(token) });
    const actor = { kind: 'user', id: people.superadmin.userId, tokenId: me.body['tokenId'] };
    expect((await read())[0]).toMatchObject({ action: 'auth.login', objectId: me.body['tokenId'], actor });
  });
  it('is nothing when nothing was changed', async () => {
    const before = (await read()).length;
    const member = `/v1/projects/${people.otherProjectId}/members/${people.viewer.userId}`;
    expect((await call('DELETE', member, { token: admin })).status).toBe(204);
    expect((await call('POST', '/v1/projects', { token: admin, body: { name: 'ours' } })).status).toBe(409);
    expect((await read()).length).toBe(before);
  });
  it('is one record for a request that is repeated by its key', async () => {
    const headers = { 'idempotency-key': 'once' };
    for (let time = 0; time < 3; time++)
      await call('POST', '/v1/projects', { token: admin, headers, body: { name: 'again' } });
    expect(actionsOf(await read()).filter((action) => action === 'project.create')).toHaveLength(3);
  });
});

describe('who reads', () => {
  it('sees the own domain; others and `system` are for superadmins and do not exist for the rest', async () => {
    const { token } = people.domainAdmin;
    expect((await read(undefined, token)).length).toBeGreaterThan(5);
    expect((await read('default', token)).length).toBeGreaterThan(5);
    await call('POST', '/v1/domains', { token: admin, body: { name: 'other' } });
    for (const domain of ['other', 'system', 'nothing'])
      expect(await call('GET', `/v1/audit?domain=${domain}`, { token })).toMatchObject({
        status: 404,
        body: { code: 'domain_not_found' },
      });
    expect(await read('other')).toEqual([]);
    expect((await call('GET', '/v1/audit?cursor=bm90LWEtbnVtYmVy', { token })).status).toBe(400);
  });
});

describe('the chain', () => {
  it('has numbers without gaps and a hash over each before it', async () => {
    const records = (await read()).toReversed();
    expect(records.map(({ seq }) => seq)).toEqual(records.map((_, at) => at + 1));
    for (const [at, { previousHash }] of records.entries()) expect(previousHash).toBe(records[at - 1]?.hash ?? '');
    expect(await verify()).toEqual({ ok: true, chain: '1', checked: records.length, upto: records.length });
    expect(await verify(undefined, '&from=5')).toMatchObject({ ok: true, checked: records.length - 4 });
  });
  it.each([
    ["UPDATE audit SET entry = replace(entry, 'done', 'none') WHERE chain = '1' AND seq = 5", 5, 'changed'],
    ["DELETE FROM audit WHERE chain = '1' AND seq = 5", 5, 'missing'],
    ["UPDATE audit SET hash = 'x' WHERE chain = '1' AND seq = 6", 6, 'changed'],
  ])('is found out: %s', async (damage, seq, why) => {
    await read();
    await env.DB.exec(damage);
    expect(await verify()).toMatchObject({ ok: false, upto: seq - 1, broken: { seq, why } });
  });
  it('is found out when its end was cut off', async () => {
    const { length } = await read();
    await env.DB.exec(`DELETE FROM audit WHERE chain = '1' AND seq > ${length - 2}`);
    expect(await verify()).toMatchObject({ ok: false, broken: { seq: length - 1, why: 'missing' } });
  });
  it('is found out when somebody wrote it anew', async () => {
    const { length } = await read();
    await env.DB.exec(`UPDATE audit SET chain = 'x' WHERE chain = '1'`);
    const { createHash } = await import('node:crypto');
    let hash = '';
    for (let seq = 1; seq <= length; seq++) {
      hash = createHash('sha256').update(`${hash}\n{}`).digest('base64url');
      await env.DB.prepare("INSERT INTO audit VALUES ('1', ?, '{}', ?)").bind(seq, hash).run();
    }
    expect(await verify()).toMatchObject({ ok: false, broken: { seq: length, why: 'unlinked' } });
  });
  it('is found out when its end was written anew, also where an answer ends just there', async () => {
    await read();
    const length = 10_000;
    const rows: { seq: number; hash: string }[] = [];
    for (let seq = 1; seq <= length; seq++) rows.push({ seq, hash: hashOf(rows.at(-1)?.hash ?? '', '{}') });
    await env.DB.exec("DELETE FROM audit WHERE chain = '1'");
    const insert = env.DB.prepare(
      "INSERT INTO audit SELECT '1', value ->> 'seq', '{}', value ->> 'hash' FROM json_each(?)",
    );
    for (let at = 0; at < length; at += 1000) await insert.bind(JSON.stringify(rows.slice(at, at + 1000))).run();
    await runInDurableObject(env.ADMISSION.getByName('1'), (_, { storage }) => {
      storage.sql.exec('UPDATE audit_head SET seq = ?, hash = ?', length, rows.at(-1)!.hash);
    });
    expect(await verify()).toEqual({ ok: true, chain: '1', checked: length, upto: length });
    const forged = '{"forged":true}';
    await env.DB.prepare("UPDATE audit SET entry = ?, hash = ? WHERE chain = '1' AND seq = ?")
      .bind(forged, hashOf(rows.at(-2)!.hash, forged), length)
      .run();
    expect(await verify()).toMatchObject({ ok: false, broken: { seq: length, why: 'unlinked' } });
  });
  it('is found out when somebody wrote on behind its end', async () => {
    const [last] = await read();
    const { seq, hash } = last!;
    await env.DB.prepare("INSERT INTO audit VALUES ('1', ?, '{}', ?)")
      .bind(seq + 1, hashOf(hash, '{}'))
      .run();
    expect(await verify()).toMatchObject({ ok: false, upto: seq, broken: { seq: seq + 1, why: 'unlinked' } });
  });
  it('is whole while others go on sealing', async () => {
    const { length } = await read();
    vi.spyOn(Admission.prototype, 'sealAudit').mockImplementationOnce(async function (this: Admission) {
      const head = await this.sealAudit();
      await env.DB.exec(
        "INSERT INTO audit_pending SELECT 'aud_zzz', '1', entry FROM audit WHERE chain = '1' AND seq = 1",
      );
      await this.sealAudit();
      return head;
    });
    expect(await verify()).toEqual({ ok: true, chain: '1', checked: length, upto: length });
    expect(await verify()).toMatchObject({ ok: true, upto: length + 1 });
  });
});

describe('the sealer', () => {
  const stub = () => env.ADMISSION.getByName('1');
  const rows = () => env.DB.prepare("SELECT count(*) AS n FROM audit WHERE chain = '1'").first<number>('n');

  it('seals by the alarm of the admission object, also what a dead writer left in D1', async () => {
    const { length } = await read();
    await admissionObject(env, '1').expectAudit();
    await env.DB.exec(
      `INSERT INTO audit_pending SELECT 'aud_zzz', '1', replace(entry, '"action"', '"was"') FROM audit WHERE seq = 1 AND chain = '1'`,
    );
    await evict(stub());
    expect(await runDurableObjectAlarm(stub())).toBe(true);
    expect(await rows()).toBe(length + 1);
    expect(await env.DB.prepare('SELECT count(*) AS n FROM audit_pending WHERE chain = 1').first('n')).toBe(0);
    expect((await verify()).ok).toBe(true);
  });
  it('finishes after a death between giving a place and writing it, with the effect of one', async () => {
    const { length } = await read();
    await call('POST', '/v1/projects', { token: admin, body: { name: 'late' } });
    await env.DB.exec('ALTER TABLE audit RENAME TO audit_away');
    expect((await call('GET', '/v1/audit', { token: admin })).status).toBe(500);
    await env.DB.exec('ALTER TABLE audit_away RENAME TO audit');
    await evict(stub());
    expect((await read()).map(({ seq }) => seq)[0]).toBe(length + 1);
    expect((await verify()).ok).toBe(true);
  });
  it('repeats a write whose outcome is unknown without a second row', async () => {
    const { length } = await read();
    await call('POST', '/v1/projects', { token: admin, body: { name: 'late' } });
    const before = await runInDurableObject(stub(), (_, { storage }) =>
      storage.sql.exec('SELECT seq, hash FROM audit_head').one(),
    );
    await read();
    // The object dies before it forgets the batch.
    await runInDurableObject(stub(), async (_, { storage }) => {
      const row = await env.DB.prepare(
        "SELECT seq, entry AS text, hash FROM audit WHERE chain = '1' ORDER BY seq DESC",
      ).first();
      storage.sql.exec('UPDATE audit_head SET batch = ?', JSON.stringify([{ id: 'aud_x', ...row }]));
    });
    expect(before['seq']).toBe(length);
    expect((await read()).length).toBe(length + 1);
    expect((await verify()).ok).toBe(true);
  });
  it('goes on behind the chain of D1 when the object lost its storage', async () => {
    const { length } = await read();
    await runInDurableObject(stub(), (_, { storage }) => {
      storage.sql.exec("UPDATE audit_head SET seq = 0, hash = ''");
    });
    await call('POST', '/v1/projects', { token: admin, body: { name: 'after' } });
    expect((await read()).map(({ seq }) => seq)[0]).toBe(length + 1);
    expect((await verify()).ok).toBe(true);
  });
});

describe('refusals', () => {
  /** An address of its own: others are not to be slowed down by what fails here. */
  const flooding = { 'cf-connecting-ip': '198.51.100.77' };
  const refused = (records: readonly AuditRecord[]) => records.filter(({ outcome }) => outcome === 'refused');

  it('leave the first of a minute and then a count, in the chain of who was refused', async () => {
    const { token, userId } = people.viewer;
    for (let time = 0; time < 5; time++) expect((await call('GET', '/v1/users', { token })).status).toBe(403);
    await settled('default', 'GET /v1/users');
    const [first, ...more] = refused(await read());
    expect(first).toMatchObject({ code: 'access_denied', actor: { kind: 'user', id: userId } });
    expect(more).toEqual([]);
    vi.setSystemTime(Date.now() + 61_000);
    await expect
      .poll(async () => refused(await read()).map(({ count }) => count), { timeout: 10_000 })
      .toEqual([4, undefined]);
    expect((await verify()).ok).toBe(true);
  });
  it('of strangers go to `system`, by address and route', async () => {
    await call('GET', '/v1/whoami');
    await call('GET', '/v1/whoami', { token: 'cwt_wrong' });
    await call('POST', '/v1/auth/login', { body: { email: 'nobody@causeway.test', password: 'my real password' } });
    await settled('system', 'POST /v1/auth/login');
    await settled('system', 'GET /v1/whoami');
    const records = refused(await read('system'));
    expect(new Set(records.map(({ action, code }) => `${action} ${code}`))).toEqual(
      new Set(['GET /v1/whoami auth_missing', 'POST /v1/auth/login auth_login_failed']),
    );
    expect(JSON.stringify(records)).not.toMatch(/my real password|cwt_wrong/);
  });
  it('of a flood are gathered into few calls, none uncounted', async () => {
    const calls = vi.spyOn(Admission.prototype, 'refused');
    const fromMs = performance.now();
    for (let time = 0; time < 100; time++) await call('GET', '/v1/whoami', { headers: flooding });
    const counted = () => calls.mock.calls.flat(2).reduce((sum, { count }) => sum + count, 0);
    await expect.poll(counted, { timeout: 10_000 }).toBe(100);
    expect(calls.mock.calls.length).toBeLessThan(25 + (performance.now() - fromMs) / 1000);
  });
  it('are not what is merely missing or wrong', async () => {
    await call('GET', '/v1/sessions/ses_x', { token: admin });
    await call('POST', '/v1/projects', { token: admin, body: {} });
    const other = await makePerson(admin, 'late');
    expect((await call('GET', '/v1/users', { token: other.token })).status).toBe(403);
    await settled('default', 'GET /v1/users');
    expect(refused(await read()).map(({ action }) => action)).toEqual(['GET /v1/users']);
  });
});
