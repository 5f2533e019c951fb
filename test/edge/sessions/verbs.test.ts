/** The verbs of sessions through the front door: what is taken, what is refused and how, who sees what. */
import { listDurableObjectIds } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { beforeEach, describe, expect, it } from 'vitest';
import { newSessionId } from '../../../schema/ids.ts';
import { passMs } from '../boot-clock.ts';
import { bootstrapped, call } from '../client.ts';
import { makePeople } from '../accounts/people.ts';
import { BenchAgent } from '../scheduler/bench-agent.ts';

interface Session {
  id: string;
  name: string;
  state: string;
  resources: Record<string, number>;
  reason?: { code: string };
  endedAtMs?: number;
}
interface Problem {
  code: string;
  detail?: string;
  errors?: { path: string; message: string }[];
}

const batch = { type: 'batch', image: 'busybox', command: ['true'] };
const post = <Body = Session>(token: string, body: unknown, headers: Record<string, string> = {}) =>
  call<Body>('POST', '/v1/sessions', { token, body, headers });

/** The shape of a group is kept this long in the isolate, which all files share: each test begins behind it. */
const shapeKeptMs = 6_000;
beforeEach(() => passMs(shapeKeptMs));

describe('creating a session', () => {
  it('fills in what was left out, in integer base units', async () => {
    const { token } = await bootstrapped();
    const made = await post(token, batch);
    expect(made.status, made.text).toBe(201);
    expect(made.headers.get('location')).toBe(`/v1/sessions/${made.body.id}`);
    expect(made.body).toMatchObject({
      name: expect.stringMatching(/^batch-/) as string,
      resources: { cpu: 1000, mem: 1024 ** 3 },
      resourceGroup: 'default',
      stdin: false,
      tty: false,
      output: { onFull: 'block', blockMs: 600_000, spoolBytes: 64 * 1024 ** 2 },
    });
  });

  it.each([
    [
      { cpu: '0.5', mem: '512m' },
      { cpu: 500, mem: 512 * 1024 ** 2 },
    ],
    [
      { cpu: 2, mem: 1_000_000_000 },
      { cpu: 2000, mem: 1_000_000_000 },
    ],
    [
      { cpu: 0.1, mem: '1.5GiB' },
      { cpu: 100, mem: 1.5 * 1024 ** 3 },
    ],
    [{ 'cuda.device': 1 }, { cpu: 1000, mem: 1024 ** 3, 'cuda.device': 1 }],
  ])('understands resources %o', async (resources, expected) => {
    const { token } = await bootstrapped();
    const made = await post(token, { ...batch, resources });
    expect(made.status, made.text).toBe(201);
    expect(made.body.resources).toEqual(expected);
  });

  it.each([
    ['no type', { image: 'busybox' }],
    ['an unknown key', { ...batch, privileged: true }],
    ['a host path among resources', { ...batch, resources: { devices: ['/dev/sda'] } }],
    ['an empty command', { ...batch, command: [] }],
    ['NUL in an argument', { ...batch, command: ['a\0b'] }],
    ['a name of 300 bytes', { ...batch, name: 'a'.repeat(300) }],
    ['a name with control characters', { ...batch, name: 'a\nb' }],
    ['an environment name with a dash', { ...batch, env: { 'a-b': '1' } }],
    ['negative cpu', { ...batch, resources: { cpu: -1 } }],
    ['no cpu at all, which an engine takes for all of it', { ...batch, resources: { cpu: 0 } }],
    ['infinite memory', { ...batch, resources: { mem: 1e300 } }],
    ['memory in bananas', { ...batch, resources: { mem: '5bananas' } }],
    ['milli-cpu as text', { ...batch, resources: { cpu: '500m' } }],
    ['half a device', { ...batch, resources: { 'cuda.device': 0.5 } }],
    ['a restartable interactive session', { ...batch, type: 'interactive', restartable: {} }],
    ['a lease of a second', { ...batch, restartable: { leaseMs: 1000 } }],
    ['a time-out of a millisecond', { ...batch, timeoutMs: 1 }],
    ['malformed JSON', '{"type": "batch"'],
    ['a list', '[]'],
  ])('refuses %s with 400 and makes nothing', async (_, body) => {
    const { token } = await bootstrapped();
    const refused = await call<Problem>('POST', '/v1/sessions', {
      token,
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(refused.status, refused.text).toBe(400);
    expect(refused.body.code).toMatch(/^request_body_/);
    expect((await call<{ items: unknown[] }>('GET', '/v1/sessions', { token })).body.items).toEqual([]);
  });

  it.each([
    ['a path trick', '../../etc/passwd'],
    ['a path trick behind a registry', 'registry.test/../x'],
    ['an upper-case repository', 'library/Busybox'],
    ['a tag of 300 characters', `busybox:${'a'.repeat(300)}`],
    ['an empty tag', 'busybox:'],
    ['a digest that is too short', 'busybox@sha256:abcd'],
    ['a bare image id', 'a'.repeat(64)],
    ['a space', 'busy box'],
    ['a control character', 'busybox\u0007'],
    ['a scheme', 'https://registry.test/busybox'],
    ['an option', '--privileged'],
  ])('refuses %s as an image, and says why', async (_, image) => {
    const { token } = await bootstrapped();
    const refused = await post<Problem>(token, { ...batch, image });
    expect(refused.status, refused.text).toBe(400);
    expect(refused.body.code).toBe('session_image_invalid');
    expect(refused.body.detail).toBeTruthy();
  });

  it.each([
    'busybox',
    'busybox:1.37',
    'causeway/python',
    'localhost/x:y',
    'registry.test:5000/a/b_c/d-e:V1.2',
    `x@sha256:${'0'.repeat(64)}`,
  ])('takes %s as an image', async (image) => {
    const { token } = await bootstrapped();
    expect((await post(token, { ...batch, image })).status).toBe(201);
  });

  it('refuses what no agent of the group has in all, but lets it wait in a group without agents', async () => {
    const { token } = await bootstrapped();
    const huge = { ...batch, resources: { cpu: 1000 } };
    expect((await post(token, huge)).status).toBe(201);
    const agent = new BenchAgent(1);
    await agent.enrol();
    passMs(shapeKeptMs);
    const refused = await post<Problem>(token, huge);
    expect(refused.status).toBe(422);
    expect(refused.body).toMatchObject({
      code: 'session_too_large',
      detail: expect.stringContaining('1000 cpu, the most is 16 cpu') as string,
    });
  });

  it('refuses a specification beyond 64 KiB', async () => {
    const { token } = await bootstrapped();
    const refused = await post<Problem>(token, { ...batch, command: ['x'.repeat(70_000)] });
    expect(refused.status).toBe(413);
    expect(refused.body.code).toBe('request_body_too_large');
  });

  it('takes a name once among live sessions of a project', async () => {
    const { token } = await bootstrapped();
    const first = await post(token, { ...batch, name: 'mine' });
    const taken = await post<Problem>(token, { ...batch, name: 'mine' });
    expect(taken.status).toBe(409);
    expect(taken.body.code).toBe('session_name_taken');
    await call('DELETE', `/v1/sessions/${first.body.id}`, { token });
    await expect.poll(async () => (await post(token, { ...batch, name: 'mine' })).status).toBe(201);
  });

  it('makes one session of 50 parallel requests with one key, and refuses the key with another body', async () => {
    const { token } = await bootstrapped();
    const headers = { 'idempotency-key': 'once' };
    const answers = await Promise.all(Array.from({ length: 50 }, () => post(token, batch, headers)));
    expect(answers.every(({ status }) => status === 201)).toBe(true);
    expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
    expect(answers.filter(({ headers: each }) => each.get('idempotency-replayed') === 'true')).toHaveLength(49);
    const other = await post<Problem>(token, { ...batch, image: 'other' }, headers);
    expect(other.status).toBe(409);
    expect(other.body.code).toBe('idempotency_key_reused');
    expect((await call<{ items: unknown[] }>('GET', '/v1/sessions', { token })).body.items).toHaveLength(1);
  });

  it('is in the list and readable as soon as it was answered', async () => {
    const { token } = await bootstrapped();
    const { body } = await post(token, batch);
    const listed = await call<{ items: Session[] }>('GET', '/v1/sessions', { token });
    expect(listed.body.items).toMatchObject([{ id: body.id, state: 'PENDING' }]);
  });
});

describe('a session of somebody else', () => {
  it('is 404 byte for byte like one that never was', async () => {
    const people = await makePeople();
    const mine = await post(people.member.token, { ...batch, project: people.projectId });
    expect(mine.status, mine.text).toBe(201);
    const never = newSessionId(Date.now(), crypto.getRandomValues(new Uint8Array(10)), 1, 1);
    for (const [method, tail] of [
      ['GET', ''],
      ['GET', '/history'],
      ['DELETE', ''],
    ] as const) {
      const foreign = await call(method, `/v1/sessions/${mine.body.id}${tail}`, { token: people.outsider.token });
      const missing = await call(method, `/v1/sessions/${never}${tail}`, { token: people.outsider.token });
      expect([foreign.status, foreign.text]).toEqual([404, missing.text]);
      expect(missing.status).toBe(404);
    }
    expect((await call<Session>('GET', `/v1/sessions/${mine.body.id}`, { token: people.member.token })).status).toBe(
      200,
    );
  });

  it('touches no object when its numbers are not in the catalogue', async () => {
    const { token } = await bootstrapped();
    const guess = newSessionId(Date.now(), crypto.getRandomValues(new Uint8Array(10)), 4711, 4711);
    const before = (await listDurableObjectIds(env.LEDGER)).length + (await listDurableObjectIds(env.ADMISSION)).length;
    expect((await call<Problem>('GET', `/v1/sessions/${guess}`, { token })).body.code).toBe('session_not_found');
    const after = (await listDurableObjectIds(env.LEDGER)).length + (await listDurableObjectIds(env.ADMISSION)).length;
    expect(after).toBe(before);
  });

  it('may be read by a viewer and ended by its owner or a project-admin, not by another member', async () => {
    const people = await makePeople();
    const { token: admin } = people.superadmin;
    const { body } = await post(people.member.token, { ...batch, project: people.projectId });
    const path = `/v1/sessions/${body.id}`;
    expect((await call('GET', path, { token: people.viewer.token })).status).toBe(200);
    expect((await call('DELETE', path, { token: people.viewer.token })).status).toBe(403);
    expect((await post(people.viewer.token, { ...batch, project: people.projectId })).status).toBe(403);
    const { makePerson, join } = await import('../accounts/people.ts');
    const colleague = await makePerson(admin, 'colleague');
    await join(admin, people.projectId, colleague, 'member');
    expect((await call('DELETE', path, { token: colleague.token })).status).toBe(403);
    expect((await call('DELETE', path, { token: people.projectAdmin.token })).status).toBe(202);
  });
});

describe('ending a session', () => {
  it('cancels what waits and is idempotent', async () => {
    const { token } = await bootstrapped();
    const { body } = await post(token, batch);
    const path = `/v1/sessions/${body.id}`;
    const first = await call<Session>('DELETE', path, { token });
    expect([first.status, first.body.state]).toEqual([202, 'CANCELLED']);
    const second = await call<Session>('DELETE', path, { token });
    expect([second.status, second.body.state]).toEqual([200, 'CANCELLED']);
    expect(second.body.endedAtMs).toBeTypeOf('number');
    const history = await call<{ items: unknown[] }>('GET', `${path}/history`, { token });
    expect(history.body.items).toMatchObject([
      { state: 'PENDING' },
      { state: 'CANCELLED', reason: { code: 'stopped' } },
    ]);
  });

  it('leaves lists after a purge', async () => {
    const { token } = await bootstrapped();
    const { body } = await post(token, batch);
    expect((await call('DELETE', `/v1/sessions/${body.id}?purge=true`, { token })).status).toBe(202);
    await expect
      .poll(async () => (await call<{ items: unknown[] }>('GET', '/v1/sessions', { token })).body.items)
      .toEqual([]);
  });
});
