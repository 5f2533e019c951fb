/** SQL of recovery. Takes a database, returns rows or undefined; decides nothing. */
import { and, asc, eq, gt, sql } from 'drizzle-orm';
import { sessions, type SessionRow } from '../../../schema/db/sessions.ts';
import type { Revocations } from '../../../schema/api/recovery.ts';
import type { Database, Write } from '../../platform/database.ts';

/** Of what is listed as one parameter: about 1 MB at most, where SQLite takes 2. */
const itemsPerList = 10_000;

/** Shuts out what is listed, as far as it is in; the audit entry of `write` is written with it. Returns how many changed. */
export async function putRevocations(db: Database, write: Write, revocations: Revocations) {
  const tokens = toLists(revocations.tokens);
  const users = toLists(revocations.users);
  const agents = toLists(revocations.agents);
  const counted = {
    tokens: await countOf(
      db,
      tokens,
      (list) => sql`SELECT count(*) AS n FROM tokens WHERE revoked_at_ms IS NULL
        AND id IN (SELECT value ->> 'id' FROM json_each(${list}))`,
    ),
    users: await countOf(
      db,
      users,
      (list) => sql`SELECT count(*) AS n FROM users WHERE active = 1 AND id IN (SELECT value FROM json_each(${list}))`,
    ),
    agents: await countOf(
      db,
      agents,
      (list) => sql`SELECT count(*) AS n FROM agents WHERE state <> 'revoked'
        AND id IN (SELECT value ->> 'id' FROM json_each(${list}))`,
    ),
  };
  await write([
    // Changes a row in any case, so that the audit trail tells of the restore.
    sql`UPDATE domains SET name = name WHERE number = (SELECT min(number) FROM domains)`,
    ...tokens.map(
      (list) => sql`UPDATE tokens SET revoked_at_ms = r.value ->> 'atMs' FROM json_each(${list}) r
        WHERE tokens.id = r.value ->> 'id' AND revoked_at_ms IS NULL`,
    ),
    ...users.map(
      (list) => sql`UPDATE users SET active = 0, version = version + 1
        WHERE active = 1 AND id IN (SELECT value FROM json_each(${list}))`,
    ),
    ...agents.map(
      (list) => sql`UPDATE agents SET state = 'revoked', revoked_at_ms = r.value ->> 'atMs' FROM json_each(${list}) r
        WHERE agents.id = r.value ->> 'id' AND state <> 'revoked'`,
    ),
  ]);
  return counted;
}

function toLists(items: readonly unknown[]): string[] {
  const lists: string[] = [];
  for (let at = 0; at < items.length; at += itemsPerList)
    lists.push(JSON.stringify(items.slice(at, at + itemsPerList)));
  return lists;
}

async function countOf(
  db: Database,
  lists: readonly string[],
  query: (list: string) => ReturnType<typeof sql>,
): Promise<number> {
  let count = 0;
  for (const list of lists) count += (await db.get<{ n: number }>(query(list))).n;
  return count;
}

/** Writes the audit entry of `write`: a statement that changes nothing, but a row. */
export async function noteRebuild(write: Write): Promise<void> {
  await write([sql`UPDATE domains SET name = name WHERE number = (SELECT min(number) FROM domains)`]);
}

/** Versions of those sessions that the read model has. */
export async function findVersions(db: Database, ids: readonly string[]): Promise<Map<string, number>> {
  const rows = await db.select({ id: sessions.id, version: sessions.version }).from(sessions).where(isIn(ids));
  return new Map(rows.map(({ id, version }) => [id, version]));
}

/** Whole rows of those sessions that the read model has. */
export function listRows(db: Database, ids: readonly string[]): Promise<SessionRow[]> {
  return db.select().from(sessions).where(isIn(ids)).orderBy(asc(sessions.id));
}

/** One JSON parameter: a statement takes at most 100. */
const isIn = (ids: readonly string[]) => sql`${sessions.id} IN (SELECT value FROM json_each(${JSON.stringify(ids)}))`;

/** Ids of live rows of a group behind `after`. */
export async function listLive(db: Database, groupNumber: number, after: string, limit: number): Promise<string[]> {
  const rows = await db
    .select({ id: sessions.id })
    .from(sessions)
    .where(and(sql`ended_at_ms IS NULL`, gt(sessions.id, after), eq(sessions.groupNumber, groupNumber)))
    .orderBy(asc(sessions.id))
    .limit(limit);
  return rows.map(({ id }) => id);
}

/** Shows sessions as ended of which nobody knows any more how they ended. */
export async function closeForgotten(db: Database, ids: readonly string[], nowMs: number): Promise<void> {
  const reason = { code: 'forgotten', detail: 'it ended, and how was lost when storage was put back' };
  await db
    .update(sessions)
    .set({ state: 'TERMINATED', reason, endedAtMs: nowMs, version: sql`${sessions.version} + 1` })
    .where(and(isIn(ids), sql`ended_at_ms IS NULL`));
}
