/** A token may at most what its maker may, and less where it is narrowed. */
import { describe, expect, it } from 'vitest';
import { type Answer, call } from '../client.ts';
import { join, makePeople } from './people.ts';

interface Made {
  id: string;
  token: string;
}
const make = (token: string, body: Record<string, unknown>): Promise<Answer<Made>> =>
  call<Made>('POST', '/v1/tokens', { token, body: { name: 'new', ...body } });
const whoami = async (token: string) => (await call('GET', '/v1/whoami', { token })).body;
const batch = { type: 'batch', image: 'busybox', command: ['true'] };

describe('a token', () => {
  it('is stored as a keyed hash, listed by its prefix, and named', async () => {
    const { member } = await makePeople();
    const made = await make(member.token, {});
    expect(made.body.token).toMatch(/^cwt_[A-Za-z0-9_-]{51}$/);
    const list = await call<{ items: { name: string; prefix: string }[] }>('GET', '/v1/tokens', {
      token: member.token,
    });
    expect(list.body.items).toMatchObject([{ name: 'member' }, { name: 'new', prefix: made.body.token.slice(0, 10) }]);
  });
  it('is listed page by page', async () => {
    const { member } = await makePeople();
    for (let count = 0; count < 4; count++) await make(member.token, { name: `t${count}` });
    const names: string[] = [];
    for (let cursor: string | undefined = ''; cursor !== undefined;) {
      const query: string = cursor === '' ? '?limit=2' : `?limit=2&cursor=${cursor}`;
      const page = await call<{ items: { name: string }[]; next?: string }>('GET', `/v1/tokens${query}`, {
        token: member.token,
      });
      names.push(...page.body.items.map(({ name }) => name));
      cursor = page.body.next;
    }
    expect(names).toEqual(['member', 't0', 't1', 't2', 't3']);
  });
  it('narrowed to a project loses the other projects and every role above', async () => {
    const people = await makePeople();
    const narrowed = await make(people.superadmin.token, { project: people.projectId });
    const me = await whoami(narrowed.body.token);
    expect(me).not.toHaveProperty('role');
    expect(me['projects']).toMatchObject([{ id: people.projectId, role: 'project-admin' }]);
    for (const path of ['/v1/users', '/v1/domains', `/v1/projects/${people.otherProjectId}/members`])
      expect([403, 404]).toContain((await call('GET', path, { token: narrowed.body.token })).status);
  });
  it('narrowed to a role may at most that in each project', async () => {
    const people = await makePeople();
    const viewer = (await make(people.member.token, { role: 'viewer' })).body.token;
    expect((await whoami(viewer))['projects']).toMatchObject([{ role: 'viewer' }]);
    const create = (token: string) =>
      call('POST', '/v1/sessions', { token, body: { ...batch, project: people.projectId } });
    expect((await create(viewer)).status).toBe(403);
    expect((await create(people.member.token)).status).toBe(201);
  });
  it('never makes a stronger one', async () => {
    const people = await makePeople();
    const narrow = (await make(people.projectAdmin.token, { project: people.projectId, role: 'viewer' })).body.token;
    const child = await make(narrow, {});
    expect((await whoami(child.body.token))['projects']).toMatchObject([{ id: people.projectId, role: 'viewer' }]);
    expect(await make(narrow, { project: people.otherProjectId })).toMatchObject({ status: 404 });
    expect(await make(people.member.token, { project: people.projectId, role: 'project-admin' })).toMatchObject({
      status: 403,
    });
    expect(await make(people.member.token, { project: people.otherProjectId })).toMatchObject({ status: 404 });
    const capped = await make(narrow, { role: 'project-admin' });
    expect(capped.status).toBe(403);
  });
  it('that ends makes none that lives longer, when it is narrowed', async () => {
    const people = await makePeople();
    const short = (await make(people.member.token, { project: people.projectId, ttlSeconds: 60 })).body.token;
    const child = (await make(short, { ttlSeconds: 3600 })).body as unknown as { expiresAtMs: number };
    expect(child.expiresAtMs).toBeLessThanOrEqual(Date.now() + 60_000);
  });
  it('follows its user: what the user loses, the token loses', async () => {
    const people = await makePeople();
    const token = (await make(people.projectAdmin.token, { project: people.projectId })).body.token;
    await join(people.superadmin.token, people.projectId, people.projectAdmin, 'viewer');
    expect((await whoami(token))['projects']).toMatchObject([{ role: 'viewer' }]);
  });
  it('of somebody else can not be seen or revoked; an administrator may', async () => {
    const people = await makePeople();
    const { id } = (await make(people.member.token, {})).body;
    const path = `/v1/tokens/${id}`;
    const refused = await call('DELETE', path, { token: people.viewer.token });
    const missing = await call('DELETE', `/v1/tokens/tok_${'0'.repeat(26)}`, { token: people.viewer.token });
    expect(refused).toMatchObject({ status: 404, text: missing.text });
    expect((await call('DELETE', path, { token: people.domainAdmin.token })).status).toBe(204);
  });
  it('narrowed sees and revokes itself alone', async () => {
    const people = await makePeople();
    const narrow = (await make(people.member.token, { project: people.projectId })).body;
    const other = (await make(people.member.token, {})).body;
    const list = await call<{ items: { id: string }[] }>('GET', '/v1/tokens', { token: narrow.token });
    expect(list.body.items.map(({ id }) => id)).toEqual([narrow.id]);
    expect((await call('DELETE', `/v1/tokens/${other.id}`, { token: narrow.token })).status).toBe(404);
    expect((await call('DELETE', `/v1/tokens/${narrow.id}`, { token: narrow.token })).status).toBe(204);
    expect((await call('GET', '/v1/whoami', { token: narrow.token })).status).toBe(401);
  });
});
