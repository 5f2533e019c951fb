/** SQL of what lies in object storage. Decides nothing. */
import type { HistoryRow } from '../scheduler/rpc.ts';

/** A row is written again only when it would expire so much earlier: not with each chunk. */
const renewAfterMs = 6 * 3_600_000;

/** Says that a session has something there until `expiresAtMs`. False when it was removed: nothing may be put there. */
export async function keepArchive(db: D1Database, sessionId: string, expiresAtMs: number): Promise<boolean> {
  const [, found] = await db.batch<{ purgedAtMs: number | null }>([
    db
      .prepare(
        `INSERT INTO log_archives (session_id, expires_at_ms) VALUES (?1, ?2)
         ON CONFLICT (session_id) DO UPDATE SET expires_at_ms = excluded.expires_at_ms
         WHERE purged_at_ms IS NULL AND expires_at_ms < excluded.expires_at_ms - ${renewAfterMs}`,
      )
      .bind(sessionId, expiresAtMs),
    db.prepare('SELECT purged_at_ms AS purgedAtMs FROM log_archives WHERE session_id = ?').bind(sessionId),
  ]);
  return found?.results[0]?.purgedAtMs === null;
}

/** Marks a session as removed: nothing more may be put there, and what is there has had its time. */
export async function purgeArchive(db: D1Database, sessionId: string, nowMs: number): Promise<void> {
  await db
    .prepare(
      `INSERT INTO log_archives (session_id, expires_at_ms, purged_at_ms) VALUES (?1, ?2, ?3)
       ON CONFLICT (session_id) DO UPDATE SET expires_at_ms = excluded.expires_at_ms, purged_at_ms = excluded.purged_at_ms`,
    )
    .bind(sessionId, nowMs - 1, nowMs)
    .run();
}

/** Sessions whose time is over, at most `limit`. */
export async function expiredArchives(db: D1Database, nowMs: number, limit: number): Promise<string[]> {
  const { results } = await db
    .prepare('SELECT session_id AS sessionId FROM log_archives WHERE expires_at_ms < ? ORDER BY expires_at_ms LIMIT ?')
    .bind(nowMs, limit)
    .all<{ sessionId: string }>();
  return results.map(({ sessionId }) => sessionId);
}

/** Forgets sessions, unless more was put there meanwhile; those that were removed `purgedMs` after that. */
export async function forgetArchives(
  db: D1Database,
  sessionIds: readonly string[],
  { nowMs, purgedMs }: { nowMs: number; purgedMs: number },
): Promise<void> {
  const those = 'session_id IN (SELECT value FROM json_each(?1)) AND expires_at_ms < ?2';
  const ids = JSON.stringify(sessionIds);
  await db.batch([
    db
      .prepare(`UPDATE log_archives SET expires_at_ms = purged_at_ms + ?3 WHERE ${those} AND purged_at_ms + ?3 >= ?2`)
      .bind(ids, nowMs, purgedMs),
    db.prepare(`DELETE FROM log_archives WHERE ${those}`).bind(ids, nowMs),
  ]);
}

/** The transitions of a session that its ledger has forgotten; undefined when D1 has none. */
export async function findPlacements(db: D1Database, sessionId: string): Promise<HistoryRow[] | undefined> {
  const row = await db
    .prepare('SELECT history FROM sessions WHERE id = ?')
    .bind(sessionId)
    .first<{ history: string | null }>();
  return row?.history ? (JSON.parse(row.history) as HistoryRow[]) : undefined;
}
