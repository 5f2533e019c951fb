/**
 * Statements of an object's storage, built by Drizzle once and run many times: building one costs ten times what SQLite
 * takes to run it. Columns are encoded here, so that null stays NULL whatever the column's type.
 */
import { eq, getTableColumns, type SQL, sql } from 'drizzle-orm';
import type { DrizzleSqliteDODatabase } from 'drizzle-orm/durable-sqlite';
import type { SQLiteColumn, SQLiteTable } from 'drizzle-orm/sqlite-core';

/** Of one table, for different sets of columns; what comes on top is built each time. */
const mostUpdates = 64;

type Columns = [string, SQLiteColumn][];

/** An insert of whole rows. */
export function preparedInsert<Table extends SQLiteTable>(
  db: DrizzleSqliteDODatabase,
  table: Table,
): (row: Table['$inferSelect']) => void {
  const columns: Columns = Object.entries(getTableColumns(table));
  const statement = db
    .insert(table)
    .values(holders(columns) as Table['$inferInsert'])
    .prepare();
  return (row) => void statement.run(encode(columns, row));
}

/** An insert of whole rows, each in place of one that has the same `key`. */
export function preparedUpsert<Table extends SQLiteTable>(
  db: DrizzleSqliteDODatabase,
  table: Table,
  key: SQLiteColumn,
): (row: Table['$inferSelect']) => void {
  const any: SQLiteTable = table;
  const columns: Columns = Object.entries(getTableColumns(any));
  const set = Object.fromEntries(columns.map(([name, { name: own }]) => [name, sql.raw(`excluded."${own}"`)]));
  const statement = db.insert(any).values(holders(columns)).onConflictDoUpdate({ target: key, set }).prepare();
  return (row) => void statement.run(encode(columns, row));
}

/** An update of some columns of the row with this `key`; a statement for each set of columns that changed together. */
export function preparedUpdate<Table extends SQLiteTable>(
  db: DrizzleSqliteDODatabase,
  table: Table,
  key: SQLiteColumn,
): (id: string, change: Partial<Table['$inferSelect']>) => void {
  const any: SQLiteTable = table;
  const columns: Columns = Object.entries(getTableColumns(any));
  const build = (changed: Columns) =>
    db
      .update(any)
      .set(holders(changed))
      .where(eq(key, sql.placeholder('of')))
      .prepare();
  const known = new Map<string, ReturnType<typeof build>>();
  return (id, change) => {
    const changed = columns.filter(([name]) => name in change);
    const names = changed.map(([name]) => name).join(' ');
    let statement = known.get(names);
    if (statement === undefined) {
      statement = build(changed);
      if (known.size < mostUpdates) known.set(names, statement);
    }
    statement.run({ ...encode(changed, change), of: id });
  };
}

function holders(columns: Columns): Record<string, SQL> {
  return Object.fromEntries(columns.map(([name]) => [name, sql`${sql.placeholder(name)}`]));
}

function encode(columns: Columns, row: object): Record<string, unknown> {
  const values = row as Record<string, unknown>;
  const encoded = columns.map(([name, column]) => {
    const value = values[name] ?? null;
    return [name, value === null ? null : column.mapToDriverValue(value)] as const;
  });
  return Object.fromEntries(encoded);
}
