/** What a ledger knows of itself, and what it still has to tell others. */
import { integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { CausewayEvent } from '../api/event.ts';

/** One row, number 1. */
export const ledgerMeta = sqliteTable('meta', {
  one: integer('one').primaryKey(),
  groupNumber: integer('group_number').notNull(),
  /** Unix seconds at birth or restore; the high part of every epoch. */
  incarnation: integer('incarnation').notNull(),
  epochCounter: integer('epoch_counter').notNull(),
  /** Set by a restore: what was issued after this moment may be unknown here. */
  snapshotAtMs: integer('snapshot_at_ms'),
  restoredAtMs: integer('restored_at_ms'),
  /** Takes no more sessions. */
  closing: integer('closing', { mode: 'boolean' }).notNull(),
});

/** What one transaction has to tell: events, sessions whose read model changed, ends for admission. */
export interface OutboxBody {
  events: CausewayEvent[];
  /** Session ids whose row in D1 is behind. */
  readModel: string[];
  releases: { domainId: string; domainNumber: number; sessionId: string; generation: number; version: number }[];
}

export const ledgerOutbox = sqliteTable('outbox', {
  seq: integer('seq').primaryKey(),
  atMs: integer('at_ms').notNull(),
  body: text('body', { mode: 'json' }).$type<OutboxBody>().notNull(),
});

/** One row, number 1: the last outbox row that each sink has. */
export const ledgerCursors = sqliteTable('cursors', {
  one: integer('one').primaryKey(),
  readModel: integer('read_model').notNull(),
  events: integer('events').notNull(),
  admission: integer('admission').notNull(),
});

export type LedgerMeta = Omit<typeof ledgerMeta.$inferSelect, 'one'>;
export type OutboxRow = typeof ledgerOutbox.$inferSelect;
export type Cursors = Omit<typeof ledgerCursors.$inferSelect, 'one'>;
