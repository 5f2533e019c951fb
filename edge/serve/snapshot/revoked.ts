/** Who is shut out by the D1 of a state directory: tokens, users, agents. Reads the file as it is, also of a dead edge. */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { stateFiles } from './copy.ts';

export interface Revoked {
  tokens: { id: string; atMs: number }[];
  users: string[];
  agents: { id: string; atMs: number }[];
}

/** Undefined when there is no D1. @throws Error when it can not be read */
export function readRevoked(state: string): Revoked | undefined {
  const file = stateFiles(state).find((path) => path.startsWith('d1/') && !path.endsWith('metadata.sqlite'));
  if (file === undefined) return undefined;
  const database = new DatabaseSync(join(state, file));
  const all = (sql: string) => database.prepare(sql).all();
  const dated = (row: Record<string, unknown>) => ({ id: String(row['id']), atMs: Number(row['at'] ?? 0) });
  try {
    return {
      tokens: all('SELECT id, revoked_at_ms AS at FROM tokens WHERE revoked_at_ms IS NOT NULL').map(dated),
      users: all('SELECT id FROM users WHERE active = 0').map((row) => String(row['id'])),
      agents: all("SELECT id, revoked_at_ms AS at FROM agents WHERE state = 'revoked'").map(dated),
    };
  } finally {
    database.close();
  }
}
