/** SQL of the audit trail in D1. Takes a database, returns rows; decides nothing. */
import { and, asc, desc, eq, gt, gte, lt, type SQL, sql } from 'drizzle-orm';
import type { AuditEntry } from '../../../schema/api/audit.ts';
import { audit, auditPending } from '../../../schema/db/audit.ts';
import { type Database, runTogether } from '../../platform/database.ts';
import type { Entry, Head, SealedEntry } from './sealer.ts';

export type AuditRow = typeof audit.$inferSelect;

/** Goes behind a mutation in its batch: an entry is written only when the statement before it changed a row. */
export function entryStatement(chain: string, entry: AuditEntry): SQL {
  return sql`INSERT INTO audit_pending (id, chain, entry) SELECT ${entry.id}, ${chain}, ${JSON.stringify(entry)}
    WHERE changes() > 0 ON CONFLICT DO NOTHING`;
}

export async function readPending(db: Database, chain: string, limit: number): Promise<Entry[]> {
  return db
    .select({ id: auditPending.id, text: auditPending.entry })
    .from(auditPending)
    .where(eq(auditPending.chain, chain))
    .orderBy(asc(auditPending.id))
    .limit(limit);
}

/** Puts a sealed batch into its chain, once. @throws Error when another row has a place of it */
export async function insertSealed(db: Database, chain: string, batch: readonly SealedEntry[]): Promise<void> {
  const rows = JSON.stringify(batch.map(({ seq, text, hash }) => ({ seq, text, hash })));
  const ids = JSON.stringify(batch.map(({ id }) => id));
  await runTogether(db, [
    sql`INSERT INTO audit (chain, seq, entry, hash)
      SELECT ${chain}, value ->> 'seq', value ->> 'text', value ->> 'hash' FROM json_each(${rows}) WHERE true
      ON CONFLICT DO NOTHING`,
    sql`DELETE FROM audit_pending WHERE id IN (SELECT value FROM json_each(${ids}))`,
  ]);
  const last = batch.at(-1);
  const [found] = await db
    .select({ hash: audit.hash })
    .from(audit)
    .where(and(eq(audit.chain, chain), eq(audit.seq, last?.seq ?? 0)));
  if (found?.hash !== last?.hash) throw new Error(`the audit chain ${chain} has another row at ${last?.seq}`);
}

export async function findHead(db: Database, chain: string): Promise<Head> {
  const [last] = await db
    .select({ seq: audit.seq, hash: audit.hash })
    .from(audit)
    .where(eq(audit.chain, chain))
    .orderBy(desc(audit.seq))
    .limit(1);
  return last ?? { seq: 0, hash: '' };
}

/** Ids of the entries behind a number. */
export async function listIdsAfter(db: Database, chain: string, seq: number): Promise<string[]> {
  const rows = await db
    .select({ id: sql<string>`${audit.entry} ->> 'id'` })
    .from(audit)
    .where(and(eq(audit.chain, chain), gt(audit.seq, seq)));
  return rows.map(({ id }) => id);
}

/** Newest first, before a number. */
export function listBefore(db: Database, chain: string, before: number, limit: number): Promise<AuditRow[]> {
  return db
    .select()
    .from(audit)
    .where(and(eq(audit.chain, chain), lt(audit.seq, before)))
    .orderBy(desc(audit.seq))
    .limit(limit);
}

/** Oldest first, from a number on. */
export function listFrom(db: Database, chain: string, from: number, limit: number): Promise<AuditRow[]> {
  return db
    .select()
    .from(audit)
    .where(and(eq(audit.chain, chain), gte(audit.seq, from)))
    .orderBy(asc(audit.seq))
    .limit(limit);
}
