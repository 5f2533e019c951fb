/** The Durable Object `Throttle` "0".."15": fixed windows of attempts in its own SQLite, so that a restart forgives nothing. */
import { DurableObject } from 'cloudflare:workers';
import { objectSchemas } from '../../schema/home-version.ts';
import { claimObjectSchema } from '../platform/object-schema.ts';
import type { Attempts, ThrottleRpc } from './throttle-rpc.ts';

type Window = { attempts: number; ends_ms: number };

export class Throttle extends DurableObject<Env> implements ThrottleRpc {
  readonly #sql: SqlStorage;

  constructor(state: DurableObjectState, env: Env) {
    super(state, env);
    this.#sql = state.storage.sql;
    claimObjectSchema(this.#sql, objectSchemas.Throttle);
    this.#sql.exec(
      'CREATE TABLE IF NOT EXISTS windows (key TEXT PRIMARY KEY, attempts INTEGER NOT NULL, ends_ms INTEGER NOT NULL) WITHOUT ROWID',
    );
  }

  async take(key: string, limit: number, windowMs: number): Promise<Attempts> {
    const nowMs = Date.now();
    const open = this.#open(key, nowMs);
    const attempts = open?.attempts ?? 0;
    const endsMs = open?.ends_ms ?? nowMs + windowMs;
    if (attempts >= limit) return toAttempts(limit, attempts, endsMs, nowMs);
    this.#sql.exec(
      'INSERT OR REPLACE INTO windows (key, attempts, ends_ms) VALUES (?, ?, ?)',
      key,
      attempts + 1,
      endsMs,
    );
    if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(nowMs + windowMs);
    return { ...toAttempts(limit, attempts + 1, endsMs, nowMs), allowed: true };
  }

  look(key: string, limit: number, windowMs: number): Promise<Attempts> {
    const nowMs = Date.now();
    const open = this.#open(key, nowMs);
    return Promise.resolve(toAttempts(limit, open?.attempts ?? 0, open?.ends_ms ?? nowMs + windowMs, nowMs));
  }

  clear(key: string): Promise<void> {
    this.#sql.exec('DELETE FROM windows WHERE key = ?', key);
    return Promise.resolve();
  }

  override async alarm(): Promise<void> {
    this.#sql.exec('DELETE FROM windows WHERE ends_ms <= ?', Date.now());
    const [next] = this.#sql.exec<{ at: number | null }>('SELECT min(ends_ms) AS at FROM windows').toArray();
    if (next?.at != null) await this.ctx.storage.setAlarm(next.at);
  }

  #open(key: string, nowMs: number): Window | undefined {
    const query = 'SELECT attempts, ends_ms FROM windows WHERE key = ? AND ends_ms > ?';
    return this.#sql.exec<Window>(query, key, nowMs).toArray()[0];
  }
}

function toAttempts(limit: number, attempts: number, endsMs: number, nowMs: number): Attempts {
  const resetSeconds = Math.max(1, Math.ceil((endsMs - nowMs) / 1000));
  return { allowed: attempts < limit, remaining: Math.max(0, limit - attempts), resetSeconds };
}
