/** The sealer's storage in the SQLite of an admission object. Only SQL; no decisions. */
import type { Entry, SealedEntry, SealStore } from './sealer.ts';
import type { Window, WindowStore } from './refusal-windows.ts';

export interface AuditStorage {
  seal: SealStore;
  windows: WindowStore;
  /** Until when D1 may get entries of this chain that nobody told of. */
  expectedUntilMs(): number;
  expectUntil(ms: number): void;
}

/** Opens the tables; statements of one turn are one transaction. */
export function auditStorage({ sql }: DurableObjectStorage): AuditStorage {
  sql.exec(
    `CREATE TABLE IF NOT EXISTS audit_head (one INTEGER PRIMARY KEY, seq INTEGER NOT NULL, hash TEXT NOT NULL,
      batch TEXT NOT NULL, expected_until_ms INTEGER NOT NULL)`,
  );
  sql.exec('CREATE TABLE IF NOT EXISTS audit_entries (id TEXT PRIMARY KEY, entry TEXT NOT NULL) WITHOUT ROWID');
  sql.exec(
    `CREATE TABLE IF NOT EXISTS audit_windows (key TEXT PRIMARY KEY, until_ms INTEGER NOT NULL, count INTEGER NOT NULL,
      entry TEXT NOT NULL) WITHOUT ROWID`,
  );
  sql.exec("INSERT OR IGNORE INTO audit_head (one, seq, hash, batch, expected_until_ms) VALUES (1, 0, '', '[]', 0)");
  return {
    seal: sealStore(sql),
    windows: windowStore(sql),
    expectedUntilMs: () => Number(sql.exec('SELECT expected_until_ms AS ms FROM audit_head').one()['ms']),
    expectUntil(ms) {
      sql.exec('UPDATE audit_head SET expected_until_ms = ?', ms);
    },
  };
}

function sealStore(sql: SqlStorage): SealStore {
  return {
    head: () => sql.exec<{ seq: number; hash: string }>('SELECT seq, hash FROM audit_head').one(),
    batch: () => JSON.parse(sql.exec<{ batch: string }>('SELECT batch FROM audit_head').one().batch) as SealedEntry[],
    entries: (limit) =>
      sql
        .exec('SELECT id, entry AS text FROM audit_entries ORDER BY id LIMIT ?', limit)
        .toArray() as unknown as Entry[],
    add({ id, text }) {
      sql.exec('INSERT OR IGNORE INTO audit_entries (id, entry) VALUES (?, ?)', id, text);
    },
    assign(batch, { seq, hash }) {
      sql.exec('UPDATE audit_head SET seq = ?, hash = ?, batch = ?', seq, hash, JSON.stringify(batch));
      const ids = JSON.stringify(batch.map(({ id }) => id));
      sql.exec('DELETE FROM audit_entries WHERE id IN (SELECT value FROM json_each(?))', ids);
    },
    forgetBatch() {
      sql.exec("UPDATE audit_head SET batch = '[]'");
    },
  };
}

function windowStore(sql: SqlStorage): WindowStore {
  const columns = 'key, until_ms AS untilMs, count, entry';
  return {
    find: (key) =>
      sql.exec(`SELECT ${columns} FROM audit_windows WHERE key = ?`, key).toArray()[0] as Window | undefined,
    put({ key, untilMs, count, entry }) {
      sql.exec(
        'INSERT OR REPLACE INTO audit_windows (key, until_ms, count, entry) VALUES (?, ?, ?, ?)',
        key,
        untilMs,
        count,
        entry,
      );
    },
    drop(key) {
      sql.exec('DELETE FROM audit_windows WHERE key = ?', key);
    },
    over: (nowMs) =>
      sql
        .exec(`SELECT ${columns} FROM audit_windows WHERE until_ms <= ? LIMIT 1000`, nowMs)
        .toArray() as unknown as Window[],
    size: () => Number(sql.exec('SELECT count(*) AS rows FROM audit_windows').one()['rows']),
  };
}
