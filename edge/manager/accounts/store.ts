/** SQL of accounts. Takes a database, returns rows or undefined; decides nothing. */
import { and, asc, eq, gt, inArray, isNull, ne, sql } from 'drizzle-orm';
import type { ProjectRole } from '../../../schema/api/account.ts';
import {
  domains,
  groupGrants,
  memberships,
  projects,
  resourceGroups,
  tokens,
  users,
} from '../../../schema/db/accounts.ts';
import type { Database, Write } from '../../platform/database.ts';

export type DomainRow = typeof domains.$inferSelect;
export type ProjectRow = typeof projects.$inferSelect;
export type UserRow = typeof users.$inferSelect;
export type TokenRow = typeof tokens.$inferSelect;
export type GroupRow = typeof resourceGroups.$inferSelect;
export type GrantRow = typeof groupGrants.$inferSelect;

/** What is needed to make an actor of a token. */
export interface TokenOwner {
  token: TokenRow;
  user: UserRow;
  domain: DomainRow;
  /** The project that the token is narrowed to. */
  project: ProjectRow | null;
  memberships: { id: string; name: string; domainId: string; role: ProjectRole }[];
}

/** The token, its user and domain, and the user's memberships. (A batch would merge columns of the same name.) */
export async function findTokenOwner(db: Database, hashes: string[]): Promise<TokenOwner | undefined> {
  const [found, projectsOfUser] = await Promise.all([
    db
      .select({ token: tokens, user: users, domain: domains, project: projects })
      .from(tokens)
      .innerJoin(users, eq(users.id, tokens.userId))
      .innerJoin(domains, eq(domains.id, users.domainId))
      .leftJoin(projects, eq(projects.id, tokens.projectId))
      .where(inArray(tokens.hash, hashes))
      .limit(1),
    db
      .select({ id: projects.id, name: projects.name, domainId: projects.domainId, role: memberships.role })
      .from(tokens)
      .innerJoin(memberships, eq(memberships.userId, tokens.userId))
      .innerJoin(projects, eq(projects.id, memberships.projectId))
      .where(inArray(tokens.hash, hashes))
      .orderBy(asc(projects.id))
      .limit(1000),
  ]);
  return found[0] ? { ...found[0], memberships: projectsOfUser } : undefined;
}

export async function findUserByEmail(db: Database, email: string): Promise<UserRow | undefined> {
  return (await db.select().from(users).where(eq(users.email, email)).limit(1))[0];
}
export async function findUser(db: Database, id: string): Promise<UserRow | undefined> {
  return (await db.select().from(users).where(eq(users.id, id)).limit(1))[0];
}

/** Writes the token; the same id again gets the new hash (its first answer never arrived). */
export async function putToken(db: Database, write: Write, row: TokenRow): Promise<void> {
  const insert = db
    .insert(tokens)
    .values(row)
    .onConflictDoUpdate({
      target: tokens.id,
      set: { hash: row.hash, prefix: row.prefix, expiresAtMs: row.expiresAtMs },
      setWhere: sql`${tokens.userId} = ${row.userId} AND ${tokens.revokedAtMs} IS NULL`,
    });
  await write([insert.getSQL()]);
}
export async function markTokenRevoked(db: Database, write: Write, id: string, nowMs: number): Promise<void> {
  const update = db
    .update(tokens)
    .set({ revokedAtMs: nowMs })
    .where(and(eq(tokens.id, id), isNull(tokens.revokedAtMs)));
  await write([update.getSQL()]);
}
/** Ids of the tokens of a user that ended at this moment. */
export async function listTokensEndedAt(db: Database, userId: string, atMs: number): Promise<string[]> {
  const rows = await db
    .select({ id: tokens.id })
    .from(tokens)
    .where(and(eq(tokens.userId, userId), eq(tokens.revokedAtMs, atMs)));
  return rows.map(({ id }) => id);
}
export function listTokens(db: Database, userId: string, after: string, limit: number): Promise<TokenRow[]> {
  return db
    .select()
    .from(tokens)
    .where(and(eq(tokens.userId, userId), gt(tokens.id, after)))
    .orderBy(asc(tokens.id))
    .limit(limit);
}

/** Tokens of a project with this scope alone that are good at `nowMs`, oldest first, and whose they are. */
export function listTokensOfScope(
  db: Database,
  { projectId, scope, nowMs }: { projectId: string; scope: string; nowMs: number },
): Promise<{ token: TokenRow; email: string }[]> {
  return db
    .select({ token: tokens, email: users.email })
    .from(tokens)
    .innerJoin(users, eq(users.id, tokens.userId))
    .where(
      and(
        // The index holds tokens with scopes alone, and says so in these words.
        sql`${tokens.scopes} <> '[]'`,
        sql`${tokens.scopes} = ${JSON.stringify([scope])}`,
        eq(tokens.projectId, projectId),
        isNull(tokens.revokedAtMs),
        gt(tokens.expiresAtMs, nowMs),
        eq(users.active, true),
      ),
    )
    .orderBy(asc(tokens.id))
    .limit(1000);
}

export interface FirstAccount {
  domainId: string;
  projectId: string;
  groupId: string;
  userId: string;
  email: string;
  passwordHash: string;
  token: TokenRow;
  nowMs: number;
}

/** The first administrator with domain, project and resource group `default`: all of it, or nothing when there is a user. */
export async function insertFirstAccount(db: Database, write: Write, first: FirstAccount): Promise<boolean> {
  const { domainId, projectId, groupId, userId, email, passwordHash, token, nowMs } = first;
  const empty = sql`NOT EXISTS (SELECT 1 FROM users)`;
  const ours = sql`EXISTS (SELECT 1 FROM users WHERE id = ${userId})`;
  await write([
    sql`INSERT INTO domains (id, name, created_at_ms) SELECT ${domainId}, 'default', ${nowMs} WHERE ${empty}`,
    sql`INSERT INTO projects (id, domain_id, name, created_at_ms) SELECT ${projectId}, ${domainId}, 'default', ${nowMs} WHERE ${empty}`,
    sql`INSERT INTO resource_groups (id, name, created_at_ms) SELECT ${groupId}, 'default', ${nowMs} WHERE ${empty}`,
    sql`INSERT INTO users (id, domain_id, email, password_hash, role, active, created_at_ms)
        SELECT ${userId}, ${domainId}, ${email}, ${passwordHash}, 'superadmin', 1, ${nowMs} WHERE ${empty}`,
    sql`INSERT INTO group_grants (group_number, domain_id, project_id)
        SELECT number, ${domainId}, '' FROM resource_groups WHERE id = ${groupId} AND ${ours}`,
    sql`INSERT INTO memberships (user_id, project_id, role) SELECT ${userId}, ${projectId}, 'project-admin' WHERE ${ours}`,
    sql`INSERT INTO tokens (id, user_id, name, prefix, hash, scopes, created_at_ms, expires_at_ms)
        SELECT ${token.id}, ${userId}, ${token.name}, ${token.prefix}, ${token.hash}, '[]', ${nowMs}, ${token.expiresAtMs} WHERE ${ours}`,
  ]);
  return (await findUser(db, userId)) !== undefined;
}

/** A token of anybody, with the domain and role of its owner. */
export async function findTokenAndOwner(
  db: Database,
  id: string,
): Promise<{ token: TokenRow; owner: Pick<UserRow, 'id' | 'domainId' | 'role'> } | undefined> {
  const rows = await db
    .select({ token: tokens, owner: { id: users.id, domainId: users.domainId, role: users.role } })
    .from(tokens)
    .innerJoin(users, eq(users.id, tokens.userId))
    .where(eq(tokens.id, id))
    .limit(1);
  return rows[0];
}

/** False when the email is another user's. The same id again changes nothing. */
export async function insertUser(db: Database, write: Write, row: UserRow): Promise<boolean> {
  await write([db.insert(users).values(row).onConflictDoNothing().getSQL()]);
  return (await findUser(db, row.id)) !== undefined;
}
/** Changes the user and ends its tokens but one, where that is asked. With `ifVersion`: only at that version, else false. */
export async function updateUser(
  db: Database,
  write: Write,
  id: string,
  change: Partial<Pick<UserRow, 'active' | 'role' | 'passwordHash'>>,
  more: { ifVersion?: number; endTokens?: { but?: string; nowMs: number } } = {},
): Promise<boolean> {
  const { ifVersion, endTokens } = more;
  const at = ifVersion === undefined ? undefined : eq(users.version, ifVersion);
  const update = db
    .update(users)
    .set({ ...change, version: sql`${users.version} + 1` })
    .where(and(eq(users.id, id), at));
  const live = and(eq(tokens.userId, id), isNull(tokens.revokedAtMs), ne(tokens.id, endTokens?.but ?? ''));
  // The user must be at the version that the first statement made.
  const changed = sql`EXISTS (SELECT 1 FROM users WHERE id = ${id} AND version = ${(ifVersion ?? 0) + 1})`;
  const end = db
    .update(tokens)
    .set({ revokedAtMs: endTokens?.nowMs ?? 0 })
    .where(ifVersion === undefined ? live : and(live, changed));
  return (await write([update.getSQL(), ...(endTokens === undefined ? [] : [end.getSQL()])])) > 0;
}
/** `domainId` undefined: of every domain. */
export function listUsers(
  db: Database,
  domainId: string | undefined,
  after: string,
  limit: number,
): Promise<UserRow[]> {
  const inDomain = domainId === undefined ? undefined : eq(users.domainId, domainId);
  return db
    .select()
    .from(users)
    .where(and(inDomain, gt(users.id, after)))
    .orderBy(asc(users.id))
    .limit(limit);
}

/** False when a project of the domain has the name. The same id again changes nothing. */
export async function insertProject(db: Database, write: Write, row: ProjectRow): Promise<boolean> {
  await write([db.insert(projects).values(row).onConflictDoNothing().getSQL()]);
  return (await findProject(db, row.id)) !== undefined;
}
export function listProjects(
  db: Database,
  where: { domainId?: string; ids?: readonly string[] },
  after: string,
  limit: number,
): Promise<ProjectRow[]> {
  const inDomain = where.domainId === undefined ? undefined : eq(projects.domainId, where.domainId);
  const named =
    where.ids === undefined
      ? undefined
      : sql`${projects.id} IN (SELECT value FROM json_each(${JSON.stringify(where.ids)}))`;
  return db
    .select()
    .from(projects)
    .where(and(inDomain, named, gt(projects.id, after)))
    .orderBy(asc(projects.id))
    .limit(limit);
}

export function listMembers(
  db: Database,
  projectId: string,
  after: string,
  limit: number,
): Promise<{ userId: string; email: string; role: ProjectRole }[]> {
  return db
    .select({ userId: users.id, email: users.email, role: memberships.role })
    .from(memberships)
    .innerJoin(users, eq(users.id, memberships.userId))
    .where(and(eq(memberships.projectId, projectId), gt(memberships.userId, after)))
    .orderBy(asc(memberships.userId))
    .limit(limit);
}
export async function putMember(
  db: Database,
  write: Write,
  row: { userId: string; projectId: string; role: ProjectRole },
): Promise<void> {
  const insert = db
    .insert(memberships)
    .values(row)
    .onConflictDoUpdate({ target: [memberships.userId, memberships.projectId], set: { role: row.role } });
  await write([insert.getSQL()]);
}
export async function deleteMember(db: Database, write: Write, userId: string, projectId: string): Promise<void> {
  const gone = db.delete(memberships).where(and(eq(memberships.userId, userId), eq(memberships.projectId, projectId)));
  await write([gone.getSQL()]);
}

/** The row, or undefined when another domain has the name. The same id again changes nothing. */
export async function insertDomain(
  db: Database,
  write: Write,
  row: Omit<DomainRow, 'number'>,
): Promise<DomainRow | undefined> {
  await write([db.insert(domains).values(row).onConflictDoNothing().getSQL()]);
  return (await db.select().from(domains).where(eq(domains.id, row.id)).limit(1))[0];
}

/** Changes nothing of a group; for what an audit entry must stand beside though its effect is elsewhere. */
export async function touchGroup(write: Write, id: string): Promise<void> {
  await write([sql`UPDATE resource_groups SET name = name WHERE id = ${id}`]);
}

/** The group with who may use it, or undefined when another has the name. The same id again changes nothing. */
export async function insertGroup(
  db: Database,
  write: Write,
  row: Omit<GroupRow, 'number'>,
  grants: readonly Omit<GrantRow, 'groupNumber'>[],
): Promise<GroupRow | undefined> {
  await write([
    sql`INSERT INTO resource_groups (id, name, created_at_ms) VALUES (${row.id}, ${row.name}, ${row.createdAtMs})
      ON CONFLICT DO NOTHING`,
    sql`INSERT INTO group_grants (group_number, domain_id, project_id)
      SELECT resource_groups.number, value ->> 'domainId', value ->> 'projectId'
      FROM resource_groups, json_each(${JSON.stringify(grants)}) WHERE resource_groups.id = ${row.id}
      ON CONFLICT DO NOTHING`,
  ]);
  return (await db.select().from(resourceGroups).where(eq(resourceGroups.id, row.id)).limit(1))[0];
}

/** Everything that ids of sessions and agents refer to. */
export async function loadCatalogue(
  db: Database,
): Promise<{ domains: DomainRow[]; groups: GroupRow[]; grants: GrantRow[] }> {
  const [allDomains, groups, grants] = await db.batch([
    db.select().from(domains),
    db.select().from(resourceGroups),
    db.select().from(groupGrants),
  ]);
  return { domains: allDomains, groups, grants };
}

export async function findProject(db: Database, id: string): Promise<ProjectRow | undefined> {
  return (await db.select().from(projects).where(eq(projects.id, id)).limit(1))[0];
}
export async function findProjectNamed(db: Database, domainId: string, name: string): Promise<ProjectRow | undefined> {
  const rows = await db
    .select()
    .from(projects)
    .where(and(eq(projects.domainId, domainId), eq(projects.name, name)))
    .limit(1);
  return rows[0];
}
