/** The people of tests: each kind of caller that the permission matrix knows, with a token. */
import { bootstrapped, call } from '../client.ts';

export interface Person {
  userId: string;
  token: string;
}
export interface People {
  superadmin: Person;
  domainAdmin: Person;
  member: Person;
  viewer: Person;
  projectAdmin: Person;
  /** Administers another project of the same domain. */
  outsider: Person;
  /** The project that member, viewer and projectAdmin are in. */
  projectId: string;
  otherProjectId: string;
}

async function made(path: string, token: string, body: unknown): Promise<Record<string, string>> {
  const answer = await call<Record<string, string>>('POST', path, { token, body });
  if (answer.status !== 201) throw new Error(`POST ${path} answered ${answer.status}: ${answer.text}`);
  return answer.body;
}

/** A service account with a token, as one test person. */
export async function makePerson(admin: string, name: string, role?: string): Promise<Person> {
  const user = await made('/v1/users', admin, {
    email: `${name}@causeway.test`,
    ...(role === undefined ? {} : { role }),
  });
  const token = await made(`/v1/users/${user['id']}/tokens`, admin, { name });
  return { userId: user['id']!, token: token['token']! };
}

export async function join(admin: string, projectId: string, { userId }: Person, role: string): Promise<void> {
  const answer = await call('PUT', `/v1/projects/${projectId}/members/${userId}`, { token: admin, body: { role } });
  if (answer.status !== 200) throw new Error(`member: ${answer.status} ${answer.text}`);
}

/** Everybody. */
export async function makePeople(): Promise<People> {
  const superadmin = await bootstrapped();
  const admin = superadmin.token;
  const project = await made('/v1/projects', admin, { name: 'ours' });
  const other = await made('/v1/projects', admin, { name: 'theirs' });
  const [domainAdmin, member, viewer, projectAdmin, outsider] = [
    await makePerson(admin, 'domain-admin', 'domain-admin'),
    await makePerson(admin, 'member'),
    await makePerson(admin, 'viewer'),
    await makePerson(admin, 'project-admin'),
    await makePerson(admin, 'outsider'),
  ];
  await join(admin, project['id']!, member, 'member');
  await join(admin, project['id']!, viewer, 'viewer');
  await join(admin, project['id']!, projectAdmin, 'project-admin');
  await join(admin, other['id']!, outsider, 'project-admin');
  return {
    superadmin,
    domainAdmin,
    member,
    viewer,
    projectAdmin,
    outsider,
    projectId: project['id']!,
    otherProjectId: other['id']!,
  };
}
