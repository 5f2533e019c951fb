/**
 * Sessions as people list them: a copy for reading, written by admission (PENDING) and by ledgers (RUNNING, out of reach,
 * end). No decision is taken from it. Every list order has its index, so that a page reads its page.
 */
import { sql } from 'drizzle-orm';
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { SessionState, SessionType } from '../api/session-parts.ts';
import type { SessionHistory, SessionResult, StateReason } from '../api/session.ts';
import type { KernelSpec } from '../protocol/intents.ts';
import type { z } from 'zod';

export const sessions = sqliteTable(
  'sessions',
  {
    /** Sorts by birth; lists show the newest first. */
    id: text('id').primaryKey(),
    domainId: text('domain_id').notNull(),
    projectId: text('project_id').notNull(),
    ownerId: text('owner_id').notNull(),
    name: text('name').notNull(),
    type: text('type').$type<SessionType>().notNull(),
    groupNumber: integer('group_number').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    state: text('state').$type<SessionState>().notNull(),
    /** A write with a lower version changes nothing. */
    version: integer('version').notNull(),
    generation: integer('generation').notNull(),
    reason: text('reason', { mode: 'json' }).$type<StateReason>(),
    agentId: text('agent_id'),
    agentName: text('agent_name'),
    imageDigest: text('image_digest'),
    startedAtMs: integer('started_at_ms'),
    endedAtMs: integer('ended_at_ms'),
    result: text('result', { mode: 'json' }).$type<z.infer<typeof SessionResult>>(),
    spec: text('spec', { mode: 'json' }).$type<KernelSpec>().notNull(),
    /** All transitions, written at the end. Last, because lists do not read it. */
    history: text('history', { mode: 'json' }).$type<SessionHistory['items']>(),
  },
  (table) => [
    index('sessions_by_domain').on(table.domainId, table.id),
    index('sessions_by_project').on(table.projectId, table.id),
    index('sessions_by_owner').on(table.projectId, table.ownerId, table.id),
    index('sessions_by_state').on(table.projectId, table.state, table.id),
    index('sessions_by_name').on(table.name, table.id),
    index('sessions_live')
      .on(table.projectId, table.id)
      .where(sql`ended_at_ms IS NULL`),
    index('sessions_all_live')
      .on(table.id)
      .where(sql`ended_at_ms IS NULL`),
  ],
);
export type SessionRow = typeof sessions.$inferSelect;
