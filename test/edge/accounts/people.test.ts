/** Domains, projects and users: who may make and change what. */
import { describe, expect, it } from 'vitest';
import { call } from '../client.ts';
import { makePeople, makePerson } from './people.ts';

describe('a user', () => {
  it('has an email of its own, whatever its case', async () => {
    const { superadmin } = await makePeople();
    const body = { email: 'Twin@causeway.test' };
    expect((await call('POST', '/v1/users', { token: superadmin.token, body })).status).toBe(201);
    expect(
      await call('POST', '/v1/users', { token: superadmin.token, body: { email: 'tWIN@causeway.test' } }),
    ).toMatchObject({
      status: 409,
      body: { code: 'account_name_taken' },
    });
  });
  it.each([['', 'a'.repeat(250) + '@b.test', 'a b@c.test', 'a@b@c.test', 'a\u0000@b.test', 'nobody']])(
    'needs an email that can be one',
    async (...emails) => {
      const { superadmin } = await makePeople();
      for (const email of emails)
        expect((await call('POST', '/v1/users', { token: superadmin.token, body: { email } })).status).toBe(400);
    },
  );
  it('is made a superadmin by superadmins alone, and in another domain too', async () => {
    const { domainAdmin, superadmin } = await makePeople();
    const admin = { email: 'root@causeway.test', role: 'superadmin' };
    expect((await call('POST', '/v1/users', { token: domainAdmin.token, body: admin })).status).toBe(403);
    expect((await call('POST', '/v1/users', { token: superadmin.token, body: admin })).status).toBe(201);
    const elsewhere = { email: 'x@causeway.test', domain: 'other' };
    await call('POST', '/v1/domains', { token: superadmin.token, body: { name: 'other' } });
    expect((await call('POST', '/v1/users', { token: domainAdmin.token, body: elsewhere })).status).toBe(404);
    expect((await call('POST', '/v1/users', { token: superadmin.token, body: elsewhere })).status).toBe(201);
  });
  it('above its administrator can not be changed, nor can anybody lock themselves out', async () => {
    const { domainAdmin, superadmin } = await makePeople();
    const patch = (token: string, id: string, body: unknown) => call('PATCH', `/v1/users/${id}`, { token, body });
    expect((await patch(domainAdmin.token, superadmin.userId, { active: false })).status).toBe(403);
    expect((await patch(superadmin.token, superadmin.userId, { active: false })).status).toBe(403);
    expect((await patch(superadmin.token, superadmin.userId, { role: null })).status).toBe(403);
    expect((await patch(domainAdmin.token, domainAdmin.userId, { role: 'superadmin' })).status).toBe(403);
    expect((await call('GET', '/v1/users', { token: superadmin.token })).status).toBe(200);
  });
  it('with a password gets no token from others', async () => {
    const { superadmin } = await makePeople();
    const made = await call('POST', '/v1/users', {
      token: superadmin.token,
      body: { email: 'human@causeway.test', password: 'a long enough password' },
    });
    const tokens = `/v1/users/${String(made.body['id'])}/tokens`;
    expect((await call('POST', tokens, { token: superadmin.token, body: { name: 'x' } })).status).toBe(403);
  });
  it('losing a role loses it at once', async () => {
    const { domainAdmin, superadmin } = await makePeople();
    expect((await call('GET', '/v1/users', { token: domainAdmin.token })).status).toBe(200);
    await call('PATCH', `/v1/users/${domainAdmin.userId}`, { token: superadmin.token, body: { role: null } });
    expect((await call('GET', '/v1/users', { token: domainAdmin.token })).status).toBe(403);
  });
});

describe('a project', () => {
  it('has a name of its own in its domain, and members of that domain alone', async () => {
    const { superadmin, projectId } = await makePeople();
    const { token } = superadmin;
    await call('POST', '/v1/domains', { token, body: { name: 'other' } });
    expect((await call('POST', '/v1/projects', { token, body: { name: 'ours' } })).status).toBe(409);
    expect((await call('POST', '/v1/projects', { token, body: { name: 'ours', domain: 'other' } })).status).toBe(201);
    const foreigner = await call('POST', '/v1/users', { token, body: { email: 'f@causeway.test', domain: 'other' } });
    const path = `/v1/projects/${projectId}/members/${String(foreigner.body['id'])}`;
    expect(await call('PUT', path, { token, body: { role: 'member' } })).toMatchObject({
      status: 404,
      body: { code: 'user_not_found' },
    });
  });
  it('is listed to whoever is in it, with its members', async () => {
    const people = await makePeople();
    const names = async (token: string) =>
      (await call<{ items: { name: string }[] }>('GET', '/v1/projects', { token })).body.items.map(({ name }) => name);
    expect(await names(people.viewer.token)).toEqual(['ours']);
    expect(await names(people.outsider.token)).toEqual(['theirs']);
    expect(await names(people.domainAdmin.token)).toEqual(['default', 'ours', 'theirs']);
    const members = await call<{ items: { role: string }[] }>('GET', `/v1/projects/${people.projectId}/members`, {
      token: people.viewer.token,
    });
    expect(members.body.items.map(({ role }) => role).toSorted()).toEqual(['member', 'project-admin', 'viewer']);
  });
  it('that is not named is the only one of the user, else asked for', async () => {
    const people = await makePeople();
    const body = { type: 'batch', image: 'busybox', command: ['true'] };
    expect((await call('POST', '/v1/sessions', { token: people.member.token, body })).status).toBe(201);
    await call('PUT', `/v1/projects/${people.otherProjectId}/members/${people.member.userId}`, {
      token: people.superadmin.token,
      body: { role: 'member' },
    });
    const asked = await call('POST', '/v1/sessions', { token: people.member.token, body });
    expect(asked).toMatchObject({ status: 400, body: { code: 'project_required' } });
    expect(asked.body['detail']).toContain('ours');
    for (const project of [people.otherProjectId, 'theirs'])
      expect(
        (await call('POST', '/v1/sessions', { token: people.member.token, body: { ...body, project } })).status,
      ).toBe(201);
  });
});

describe('a resource group', () => {
  it('is seen and used by whom it was given to', async () => {
    const people = await makePeople();
    const { token } = people.superadmin;
    await call('POST', '/v1/resource-groups', { token, body: { name: 'gpu', projects: [people.otherProjectId] } });
    const names = async (who: string) =>
      (await call<{ items: { name: string }[] }>('GET', '/v1/resource-groups', { token: who })).body.items.map(
        ({ name }) => name,
      );
    expect(await names(people.member.token)).toEqual(['default']);
    expect(await names(people.outsider.token)).toEqual(['default', 'gpu']);
    const body = { type: 'batch', image: 'busybox', command: ['true'], resourceGroup: 'gpu' };
    expect(await call('POST', '/v1/sessions', { token: people.member.token, body })).toMatchObject({
      status: 404,
      body: { code: 'group_not_found' },
    });
    expect((await call('POST', '/v1/sessions', { token: people.outsider.token, body })).status).toBe(201);
  });
  it('keeps its number for ever', async () => {
    const { superadmin } = await makePeople();
    const make = async (name: string) =>
      (await call('POST', '/v1/resource-groups', { token: superadmin.token, body: { name } })).body['number'];
    expect([await make('a'), await make('b')]).toEqual([2, 3]);
    expect(await make('a')).toBeUndefined();
    expect(Number(await make('c'))).toBeGreaterThan(3);
  });
  it('is unknown to a service account of no project', async () => {
    const { superadmin } = await makePeople();
    const alone = await makePerson(superadmin.token, 'alone');
    const groups = await call<{ items: unknown[] }>('GET', '/v1/resource-groups', { token: alone.token });
    expect(groups.body.items).toEqual([]);
  });
});
