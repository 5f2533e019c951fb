/**
 * Sessions as a ledger keeps them. One row a session, rewritten column by column; what never changes (the spec) and what
 * overflows (old history) have tables of their own, so that a transition costs one row. Indexes are partial: a session
 * that is placed at once and runs touches none of them.
 */
import { sql } from 'drizzle-orm';
import { index, integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { SessionState } from '../api/session-parts.ts';
import type { SessionHistory, SessionResult, StateReason } from '../api/session.ts';
import type { KernelSpec } from '../protocol/intents.ts';
import type { z } from 'zod';

type HistoryRow = SessionHistory['items'][number];

export const ledgerSessions = sqliteTable(
  'sessions',
  {
    /** Sorts by birth: also the order of the queue. */
    sessionId: text('session_id').primaryKey(),
    domainId: text('domain_id').notNull(),
    domainNumber: integer('domain_number').notNull(),
    projectId: text('project_id').notNull(),
    ownerId: text('owner_id').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    state: text('state').$type<SessionState>().notNull(),
    /** While UNREACHABLE: the state that it returns to. */
    cameFrom: text('came_from').$type<SessionState>(),
    reason: text('reason', { mode: 'json' }).$type<StateReason>(),
    /** Of the current placement, or of the next one while PENDING. */
    generation: integer('generation').notNull(),
    version: integer('version').notNull(),
    /** Order of the next intent within the session. */
    seq: integer('seq').notNull(),
    /** Canonical text of the slots asked for: sessions of one shape fit or do not fit together. */
    shape: text('shape').notNull(),
    agentId: text('agent_id'),
    imageDigest: text('image_digest'),
    /** Starts that failed, and the agents where they did. */
    attempts: integer('attempts').notNull(),
    avoid: text('avoid', { mode: 'json' }).$type<string[]>().notNull(),
    /** TERMINATING on the way back to PENDING: why, and not before when. */
    again: text('again', { mode: 'json' }).$type<{ reason: StateReason; notBeforeMs: number; ended: boolean }>(),
    /** The strongest stop that was ordered. */
    stop: text('stop', { mode: 'json' }).$type<{ graceMs: number; force: boolean; reason: string }>(),
    /** Its home and output go with it, and it leaves the lists. */
    purge: integer('purge', { mode: 'boolean' }).notNull(),
    /** When the state has lasted too long. */
    deadlineMs: integer('deadline_ms'),
    /** 1 while the ledger itself must look after the session (it has a deadline). */
    moving: integer('moving').notNull(),
    /** Restartable: the run lease. */
    leaseMs: integer('lease_ms'),
    result: text('result', { mode: 'json' }).$type<z.infer<typeof SessionResult>>(),
    startedAtMs: integer('started_at_ms'),
    endedAtMs: integer('ended_at_ms'),
    /** Outbox row that tells of the end. */
    endSeq: integer('end_seq'),
    /** Slots that are still blocked somewhere. */
    holds: text('holds', { mode: 'json' }).$type<{ agentId: string; generation: number }[]>().notNull(),
    /** The last transitions; older ones are in `trails`. */
    trail: text('trail', { mode: 'json' }).$type<HistoryRow[]>().notNull(),
  },
  (table) => [
    index('sessions_pending')
      .on(table.shape, table.sessionId)
      .where(sql`state = 'PENDING'`),
    index('sessions_moving')
      .on(table.sessionId)
      .where(sql`moving = 1`),
    index('sessions_ended')
      .on(table.endedAtMs)
      .where(sql`ended_at_ms IS NOT NULL`),
  ],
);

export const ledgerSpecs = sqliteTable('specs', {
  sessionId: text('session_id').primaryKey(),
  spec: text('spec', { mode: 'json' }).$type<KernelSpec>().notNull(),
});

/** Transitions that no longer fit in a session's row, in chunks. */
export const ledgerTrails = sqliteTable(
  'trails',
  {
    sessionId: text('session_id').notNull(),
    firstVersion: integer('first_version').notNull(),
    rows: text('rows', { mode: 'json' }).$type<HistoryRow[]>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.sessionId, table.firstVersion] })],
);

/** Slots of an agent that a session holds, until the agent confirms that they are free. */
export const ledgerReservations = sqliteTable(
  'reservations',
  {
    agentId: text('agent_id').notNull(),
    sessionId: text('session_id').notNull(),
    generation: integer('generation').notNull(),
    shape: text('shape').notNull(),
  },
  (table) => [primaryKey({ columns: [table.agentId, table.sessionId, table.generation] })],
);

export type SessionRow = typeof ledgerSessions.$inferSelect;
export type ReservationRow = typeof ledgerReservations.$inferSelect;
