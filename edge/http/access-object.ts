/** The Durable Object `Access` "0".."15": a thin shell of `access-core.ts` over its own SQLite. */
import { DurableObject } from 'cloudflare:workers';
import { objectSchemas } from '../../schema/home-version.ts';
import { claimObjectSchema } from '../platform/object-schema.ts';
import { AccessCore, type AccessEntry, type AccessIntent, type AccessStore } from './access-core.ts';
import type { AccessRpc, Principal, Verdict } from './access-rpc.ts';

const sweepMs = 3_600_000;

export class Access extends DurableObject<Env> implements AccessRpc {
  readonly #core: AccessCore;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    claimObjectSchema(state.storage.sql, objectSchemas.Access);
    this.#core = new AccessCore(sqliteStore(state.storage));
  }

  check(principals: readonly Principal[]): Promise<{ version: number; verdicts: Verdict[] }> {
    const nowMs = Date.now();
    const verdicts = principals.slice(0, 10_000).map((principal) => this.#core.judge(principal, nowMs));
    return Promise.resolve({ version: this.#core.version, verdicts });
  }

  async intend(id: string, subject: string, restores: boolean): Promise<void> {
    this.#core.intend(id, subject, restores, Date.now());
    await this.#arm();
  }

  async finish(id: string, subject: string, outcome: 'changed' | 'revoked'): Promise<void> {
    this.#core.finish(id, subject, outcome, Date.now());
    await this.#arm();
  }

  override async alarm(): Promise<void> {
    if (this.#core.sweep(Date.now())) await this.#arm();
  }

  /** Wakes for the first of: an announced change that nobody finished, the hourly sweep. */
  async #arm(): Promise<void> {
    const wanted = Math.min(this.#core.nextIntentMs() ?? Number.POSITIVE_INFINITY, Date.now() + sweepMs);
    const armed = await this.ctx.storage.getAlarm();
    if (armed === null || armed > wanted) await this.ctx.storage.setAlarm(wanted);
  }
}

function sqliteStore({ sql }: DurableObjectStorage): AccessStore {
  // Statements of one turn are one transaction: an object's output waits for its writes.
  sql.exec(
    'CREATE TABLE IF NOT EXISTS meta (id INTEGER PRIMARY KEY, version INTEGER NOT NULL, floor INTEGER NOT NULL)',
  );
  sql.exec(
    `CREATE TABLE IF NOT EXISTS entries (subject TEXT PRIMARY KEY, changed_at INTEGER NOT NULL, revoked INTEGER NOT NULL,
      settled INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID`,
  );
  sql.exec(
    'CREATE TABLE IF NOT EXISTS intents (id TEXT PRIMARY KEY, subject TEXT NOT NULL, until_ms INTEGER NOT NULL) WITHOUT ROWID',
  );
  sql.exec('INSERT OR IGNORE INTO meta (id, version, floor) VALUES (1, 0, 0)');
  return {
    load() {
      const meta = sql.exec<{ version: number; floor: number }>('SELECT version, floor FROM meta').one();
      const rows = sql.exec('SELECT subject, changed_at, revoked, at_ms FROM entries').toArray();
      const intents = sql.exec('SELECT id, subject, until_ms FROM intents').toArray();
      return { ...meta, entries: rows.map(toEntry), intents: intents.map(toIntent) };
    },
    putIntent({ id, subject, untilMs }) {
      sql.exec('INSERT OR REPLACE INTO intents (id, subject, until_ms) VALUES (?, ?, ?)', id, subject, untilMs);
    },
    dropIntent(id) {
      sql.exec('DELETE FROM intents WHERE id = ?', id);
    },
    put({ subject, changedAt, revoked, atMs }, version) {
      // `settled` is of schema 1; every entry is, since D1 is written first.
      sql.exec(
        'INSERT OR REPLACE INTO entries (subject, changed_at, revoked, settled, at_ms) VALUES (?, ?, ?, 1, ?)',
        subject,
        changedAt,
        Number(revoked),
        atMs,
      );
      sql.exec('UPDATE meta SET version = ?', version);
    },
    forget(subjects, floor) {
      sql.exec('DELETE FROM entries WHERE subject IN (SELECT value FROM json_each(?))', JSON.stringify(subjects));
      sql.exec('UPDATE meta SET floor = ?', floor);
    },
  };
}

function toEntry(row: Record<string, SqlStorageValue>): AccessEntry {
  return {
    subject: String(row['subject']),
    changedAt: Number(row['changed_at']),
    revoked: row['revoked'] === 1,
    atMs: Number(row['at_ms']),
  };
}

function toIntent(row: Record<string, SqlStorageValue>): AccessIntent {
  return { id: String(row['id']), subject: String(row['subject']), untilMs: Number(row['until_ms']) };
}
