/** What `admin rebuild` puts right, one part at a time; beside it, what a restore says of who was shut out since. */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { expect, it } from 'vitest';
import type { RebuildReport } from '../../../schema/api/recovery.ts';
import { newSessionId } from '../../../schema/ids.ts';
import { bootstrapped, bootstrapSecret, call } from '../client.ts';

const batch = { type: 'batch', image: 'busybox', command: ['true'] };

async function twoSessions(token: string): Promise<[string, string]> {
  const ids: string[] = [];
  for (const name of ['first', 'second']) {
    const made = await call('POST', '/v1/sessions', { token, body: { ...batch, name } });
    if (made.status !== 201) throw new Error(made.text);
    ids.push(String(made.body['id']));
  }
  return ids as [string, string];
}

async function rebuild(token: string, dryRun = false): Promise<RebuildReport> {
  const answer = await call<RebuildReport>('POST', '/v1/admin/rebuild', { token, body: { dryRun } });
  if (answer.status !== 200) throw new Error(answer.text);
  return answer.body;
}

const nothing = {
  readModel: { written: 0, closed: 0 },
  ledgers: { begun: [], recalled: 0 },
  admission: { claimed: 0, released: 0, projects: [] },
};

const admissionOne = () => (env.ADMISSION as unknown as DurableObjectNamespace).getByName('1');
const sqlOfAdmission = (...statements: string[]) =>
  runInDurableObject(admissionOne(), (_, { storage }) => {
    for (const statement of statements) storage.sql.exec(statement);
  });
const rowsOf = async (sql: string) => (await env.DB.prepare(sql).all()).results;

it('finds nothing to do where nothing is wrong, also twice, and leaves a record', async () => {
  const { token } = await bootstrapped();
  await twoSessions(token);
  expect(await rebuild(token)).toMatchObject(nothing);
  expect(await rebuild(token, true)).toMatchObject({ dryRun: true, ...nothing });
  const audit = await call<{ items: { action: string }[] }>('GET', '/v1/audit?domain=system', { token });
  expect(audit.body.items.filter(({ action }) => action === 'storage.rebuild')).toHaveLength(2);
});

it('brings the read model to what the ledgers hold: rows that are missing, old, or of what nobody knows', async () => {
  const { token } = await bootstrapped();
  const [first, second] = await twoSessions(token);
  const unknown = newSessionId(Date.now() - 3_600_000, new Uint8Array(10), 1, 1);
  await env.DB.batch([
    env.DB.prepare('DELETE FROM sessions WHERE id = ?').bind(first),
    env.DB.prepare("UPDATE sessions SET version = 0, state = 'PENDING', reason = NULL WHERE id = ?").bind(second),
    env.DB.prepare(
      `INSERT INTO sessions SELECT ?, domain_id, project_id, owner_id, 'ghost', type, group_number, created_at_ms, 'RUNNING',
        9, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, spec, NULL FROM sessions WHERE id = ?`,
    ).bind(unknown, second),
  ]);
  expect(await rebuild(token, true)).toMatchObject({ readModel: { written: 2 } });
  expect(await rowsOf('SELECT id FROM sessions')).toHaveLength(2);
  expect(await rebuild(token)).toMatchObject({ readModel: { written: 2, closed: 1 } });
  await expect
    .poll(() => rowsOf('SELECT name, state FROM sessions ORDER BY name'), { timeout: 20_000 })
    .toEqual([
      { name: 'first', state: 'PENDING' },
      { name: 'ghost', state: 'TERMINATED' },
      { name: 'second', state: 'PENDING' },
    ]);
  await expect.poll(() => rebuild(token), { timeout: 20_000 }).toMatchObject(nothing);
});

it('counts names and quota anew from what lives', async () => {
  const { token } = await bootstrapped();
  const [first, second] = await twoSessions(token);
  await sqlOfAdmission(
    `DELETE FROM claims WHERE session_id = '${first}'`,
    'UPDATE usage SET live = 17, waiting = 3',
    `INSERT INTO claims SELECT 'ses_00000000000000000000000000_1_1', project_id, owner_id, 'over', group_number, 1, 'handed',
      NULL, 1, '[]', NULL, NULL, 0, 0 FROM claims WHERE session_id = '${second}'`,
  );
  const { admission } = await rebuild(token, true);
  expect(admission).toMatchObject({ claimed: 1, released: 1 });
  expect((await rebuild(token)).admission).toMatchObject({
    claimed: 1,
    released: 1,
    projects: [{ live: { before: 17, after: 2 }, waiting: { before: 3, after: 0 } }],
  });
  expect(await rebuild(token)).toMatchObject(nothing);
  const again = await call('POST', '/v1/sessions', { token, body: { ...batch, name: 'first' } });
  expect(again).toMatchObject({ status: 409, body: { code: 'session_name_taken' } });
  await call('DELETE', `/v1/sessions/${first}`, { token });
  await expect
    .poll(async () => (await call('POST', '/v1/sessions', { token, body: { ...batch, name: 'first' } })).status)
    .toBe(201);
});

it('lets nobody in again who was shut out after the snapshot, and goes on behind the audit records that D1 has', async () => {
  const { token, userId } = await bootstrapped();
  const made = await call<{ id: string; token: string }>('POST', '/v1/tokens', {
    token,
    body: { name: 'lost laptop' },
  });
  const user = await call<{ id: string }>('POST', '/v1/users', {
    token,
    body: { email: 'gone@causeway.test', password: 'a long enough password' },
  });
  expect(user.status, user.text).toBe(201);
  await call('GET', '/v1/audit/verify?domain=system', { token });
  await call('GET', '/v1/audit/verify', { token });
  // The object was put back to before the records that D1 has.
  const [{ hash }] = (await rowsOf("SELECT hash FROM audit WHERE chain = '1' AND seq = 1")) as [{ hash: string }];
  await sqlOfAdmission(`UPDATE audit_head SET seq = 1, hash = '${hash}', batch = '[]'`);
  const body = {
    snapshotAtMs: Date.now(),
    revocations: { tokens: [{ id: made.body.id, atMs: 5 }], users: [user.body.id, userId.slice(0, 10)], agents: [] },
  };
  const answer = await call<RebuildReport>('POST', '/v1/admin/restored', { token: bootstrapSecret, body });
  expect(answer, answer.text).toMatchObject({ status: 200, body: { revoked: { tokens: 1, users: 1, agents: 0 } } });
  const again = await call<RebuildReport>('POST', '/v1/admin/restored', { token: bootstrapSecret, body });
  expect(again.body.revoked).toEqual({ tokens: 0, users: 0, agents: 0 });
  expect((await call('GET', '/v1/whoami', { token })).status).toBe(200);
  expect(await rowsOf('SELECT active FROM users ORDER BY email')).toEqual([{ active: 1 }, { active: 0 }]);
  expect(await rowsOf('SELECT revoked_at_ms AS at FROM tokens WHERE revoked_at_ms IS NOT NULL')).toEqual([{ at: 5 }]);
  const verdict = await call('GET', '/v1/audit/verify', { token });
  expect(verdict.body).toMatchObject({ ok: true });
});

it('takes up however many were shut out: those of a year with a hundred a day', async () => {
  const { token } = await bootstrapped();
  const made = await call<{ id: string }>('POST', '/v1/tokens', { token, body: { name: 'of a job' } });
  const forgotten = Array.from({ length: 40_000 }, (_, at) => `tok_${String(at).padStart(26, '0')}`);
  const tokens = [...forgotten, made.body.id].map((id) => ({ id, atMs: 1_764_763_200_000 }));
  const body = { snapshotAtMs: Date.now(), revocations: { tokens, users: [], agents: [] } };
  const answer = await call<RebuildReport>('POST', '/v1/admin/restored', { token: bootstrapSecret, body });
  expect(answer, answer.text).toMatchObject({ status: 200, body: { revoked: { tokens: 1 } } });
  expect(await rowsOf('SELECT id FROM tokens WHERE revoked_at_ms IS NOT NULL')).toEqual([{ id: made.body.id }]);
});
