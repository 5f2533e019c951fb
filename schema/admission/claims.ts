/** What an admission object holds: claims of live sessions, idempotency keys, quota. */
import { sql } from 'drizzle-orm';
import { index, integer, primaryKey, sqliteTable, text, uniqueIndex } from 'drizzle-orm/sqlite-core';
import type { CausewayEvent } from '../api/event.ts';
import type { SessionHistory, StateReason } from '../api/session.ts';
import type { ErrorCode } from '../errors.ts';
import type { KernelSpec } from '../protocol/intents.ts';

/** A live session's claim on its name and its project's quota, from admission to the release by its ledger. */
export const admissionClaims = sqliteTable(
  'claims',
  {
    /** Sorts by birth. */
    sessionId: text('session_id').primaryKey(),
    projectId: text('project_id').notNull(),
    ownerId: text('owner_id').notNull(),
    name: text('name').notNull(),
    groupNumber: integer('group_number').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    /**
     * `quota`: waits here for others to end; `leaving`: its ledger is being asked; `handed`: its ledger owns it; `over`:
     * cancelled here, D1 not told yet.
     */
    place: text('place').$type<'quota' | 'leaving' | 'handed' | 'over'>().notNull(),
    /** Why it waits here. */
    reason: text('reason', { mode: 'json' }).$type<StateReason>(),
    version: integer('version').notNull(),
    /** Transitions until the hand-over. */
    trail: text('trail', { mode: 'json' }).$type<SessionHistory['items']>().notNull(),
    /** Gone when its ledger and D1 have it. */
    spec: text('spec', { mode: 'json' }).$type<KernelSpec>(),
    /** An order to end it that came while its ledger was being asked, or the one that cancelled it with its row in D1. */
    stop: text('stop', { mode: 'json' }).$type<{ graceMs: number; force: boolean; reason: string; purge?: boolean }>(),
    /** 1 while D1 is behind. */
    unlisted: integer('unlisted').notNull(),
    /** 1 while something is to be told: the session to its ledger, its row to D1, a stop. */
    todo: integer('todo').notNull(),
  },
  (table) => [
    uniqueIndex('claims_name').on(table.projectId, table.name),
    index('claims_todo')
      .on(table.sessionId)
      .where(sql`todo = 1`),
  ],
);

/** Idempotency keys by day, so that old ones go in one stroke. */
export const admissionKeys = sqliteTable(
  'keys',
  {
    /** Days since 1970 of the first use. */
    day: integer('day').notNull(),
    actorId: text('actor_id').notNull(),
    key: text('key').notNull(),
    bodyHash: text('body_hash').notNull(),
    atMs: integer('at_ms').notNull(),
    /** What was made: a session, nothing where it was refused, or the body of ids of another creating POST. */
    made: text('made').notNull(),
    outcome: text('outcome', { mode: 'json' }).$type<
      | { kind: 'session' }
      | { kind: 'refused'; code: ErrorCode; detail: string }
      | { kind: 'running' }
      | { kind: 'secret'; id: string }
      | { kind: 'answer'; answer: { status: number; body?: unknown; headers?: Record<string, string> } }
    >(),
  },
  (table) => [primaryKey({ columns: [table.day, table.actorId, table.key] })],
);

/** Live sessions of each project, and how many of them wait for quota. */
export const admissionUsage = sqliteTable('usage', {
  projectId: text('project_id').primaryKey(),
  live: integer('live').notNull(),
  waiting: integer('waiting').notNull(),
});

/** Limits by project; the row with an empty id is for all others. */
export const admissionLimits = sqliteTable('limits', {
  projectId: text('project_id').primaryKey(),
  concurrentSessions: integer('concurrent_sessions'),
  liveSessions: integer('live_sessions'),
});

/** The domain that the object bound itself to. One row, number 1. */
export const admissionMeta = sqliteTable('meta', {
  one: integer('one').primaryKey(),
  domainId: text('domain_id').notNull(),
  domainNumber: integer('domain_number').notNull(),
});

/** Events that no ledger tells: sessions that wait or end here. */
export const admissionOutbox = sqliteTable('outbox', {
  seq: integer('seq').primaryKey(),
  atMs: integer('at_ms').notNull(),
  events: text('events', { mode: 'json' }).$type<CausewayEvent[]>().notNull(),
});

export type ClaimRow = typeof admissionClaims.$inferSelect;
export type KeyRow = typeof admissionKeys.$inferSelect;
export type UsageRow = typeof admissionUsage.$inferSelect;
