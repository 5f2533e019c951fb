/** The door to D1: truth of the catalogue, read model of sessions. */
import type { SQL } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/d1';
import { SQLiteAsyncDialect } from 'drizzle-orm/sqlite-core';

/** Drizzle over the D1 binding. Cheap: makes no request. */
export function database(env: Env) {
  return drizzle(env.DB);
}
export type Database = ReturnType<typeof database>;

/** Carries out statements in one transaction; returns how many rows the first of them changed. */
export type Write = (statements: readonly SQL[]) => Promise<number>;

const dialect = new SQLiteAsyncDialect();

/**
 * Carries out statements of `sql` in one round trip and one transaction: all or none. (Drizzle's own batch takes no raw
 * SQL.) Returns how many rows the first of them changed.
 */
export async function runTogether(db: Database, statements: readonly SQL[]): Promise<number> {
  const prepared = statements.map((statement) => {
    const { sql, params } = dialect.sqlToQuery(statement);
    return db.$client.prepare(sql).bind(...params);
  });
  const [first] = await db.$client.batch(prepared);
  return first?.meta.changes ?? 0;
}
