/** Every kind of caller, and one object of each kind that routes are about. */
import { env } from 'cloudflare:workers';
import { makeToken } from '../../../edge/manager/accounts/tokens.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { systemRandom } from '../../../edge/platform/random.ts';
import { toViewScope } from '../../../schema/api/terminal-link.ts';
import { newId } from '../../../schema/ids.ts';
import { bootstrapSecret, call } from '../client.ts';
import { makePeople, makePerson, type People, type Person } from '../accounts/people.ts';
import { Host, newJoinToken } from '../agents/host.ts';

/** Whoever comes to a route; from `viewer` on, in rising order of what their roles let them call. */
export const callers = [
  'nobody',
  'bad token',
  'agent',
  'supervisor',
  'metrics token',
  'terminal link',
  'viewer',
  'member',
  'project admin',
  'admin of another project',
  'domain admin',
  'admin of another domain',
  'superadmin',
] as const;
export type Caller = (typeof callers)[number];

export interface World extends People {
  foreignAdmin: Person;
  metricsToken: string;
  /** Of a member of the project, to a terminal of its session. */
  linkToken: string;
  host: Host;
  /** A member that samples take out of the project. */
  leaver: Person;
  sessionId: string;
}

async function need(method: string, path: string, token: string, body: unknown): Promise<Record<string, string>> {
  const answer = await call<Record<string, string>>(method, path, { token, body });
  if (answer.status !== 201) throw new Error(`${method} ${path} answered ${answer.status}: ${answer.text}`);
  return answer.body;
}

export async function makeWorld(): Promise<World> {
  const people = await makePeople();
  const admin = people.superadmin.token;
  await need('POST', '/v1/domains', admin, { name: 'foreign' });
  const foreign = await need('POST', '/v1/users', admin, {
    email: 'foreign@causeway.test',
    role: 'domain-admin',
    domain: 'foreign',
  });
  const foreignToken = await need('POST', `/v1/users/${foreign['id']}/tokens`, admin, { name: 'foreign' });
  const metrics = await need('POST', '/v1/tokens', admin, { name: 'metrics', scopes: ['metrics:read'] });
  const host = await Host.make();
  const enrolled = await host.enrol((await newJoinToken(admin)).token);
  if (enrolled.status !== 200) throw new Error(enrolled.text);
  const session = await need('POST', '/v1/sessions', people.member.token, {
    project: people.projectId,
    type: 'batch',
    image: 'busybox',
    command: ['true'],
  });
  return {
    ...people,
    foreignAdmin: { userId: foreign['id']!, token: foreignToken['token']! },
    metricsToken: metrics['token']!,
    linkToken: await makeLink(people, session['id']!),
    host,
    leaver: await makePerson(admin, 'leaver'),
    sessionId: session['id']!,
  };
}

/** The terminal of the link, which no agent has. */
export const linkedTerminal = `trm_${'0'.repeat(26)}`;

/** As the service writes it for a terminal that runs. */
async function makeLink({ projectId, member }: People, sessionId: string): Promise<string> {
  const { text, prefix, hash } = makeToken(readConfig(env).keys, systemRandom);
  const nowMs = Date.now();
  const scopes = JSON.stringify([toViewScope(sessionId, linkedTerminal)]);
  await env.DB.prepare(
    `INSERT INTO tokens (id, user_id, name, prefix, hash, project_id, role, scopes, created_at_ms, expires_at_ms)
      VALUES (?, ?, 'view', ?, ?, ?, 'viewer', ?, ?, ?)`,
  )
    .bind(
      newId('token', nowMs, systemRandom.bytes(10)),
      member.userId,
      prefix,
      hash,
      projectId,
      scopes,
      nowMs,
      nowMs + 3_600_000,
    )
    .run();
  return text;
}

/** What a caller puts into `authorization`. */
export async function credentialOf(world: World, caller: Caller): Promise<string | undefined> {
  const token = tokenOf(world, caller);
  if (token !== undefined) return `Bearer ${token}`;
  if (caller === 'agent') return world.host.credential();
  return caller === 'bad token' ? `Bearer cwt_${'x'.repeat(43)}` : undefined;
}

export function tokenOf(world: World, caller: Caller): string | undefined {
  switch (caller) {
    case 'nobody':
    case 'bad token':
    case 'agent':
      return undefined;
    case 'supervisor':
      return bootstrapSecret;
    case 'metrics token':
      return world.metricsToken;
    case 'terminal link':
      return world.linkToken;
    case 'viewer':
      return world.viewer.token;
    case 'member':
      return world.member.token;
    case 'project admin':
      return world.projectAdmin.token;
    case 'admin of another project':
      return world.outsider.token;
    case 'domain admin':
      return world.domainAdmin.token;
    case 'admin of another domain':
      return world.foreignAdmin.token;
    case 'superadmin':
      return world.superadmin.token;
  }
}
