/** Applies the D1 migrations with the bookkeeping of `wrangler d1 migrations apply`, so that both can be used on one database. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Miniflare } from 'miniflare';

/** Applies what is new, in order of name, each file atomically with its record. Returns the names applied. */
export async function migrate(mf: Miniflare, binding: string, folder: string): Promise<string[]> {
  const db = await mf.getD1Database(binding);
  await db.exec(
    'CREATE TABLE IF NOT EXISTS d1_migrations(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)',
  );
  const { results } = await db.prepare('SELECT name FROM d1_migrations').all<{ name: string }>();
  const applied = new Set(results.map((row) => row.name));
  const fresh = filesIn(folder).filter((name) => !applied.has(name));
  for (const name of fresh) {
    const statements = readFileSync(join(folder, name), 'utf8')
      .split('--> statement-breakpoint')
      .map((statement) => statement.trim())
      .filter((statement) => statement !== '');
    await db.batch([
      ...statements.map((statement) => db.prepare(statement)),
      db.prepare('INSERT INTO d1_migrations(name) VALUES (?)').bind(name),
    ]);
  }
  return fresh;
}

function filesIn(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.sql'))
    .sort();
}
