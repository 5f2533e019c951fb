/** Agents of a resource group, the orders that they have not acknowledged yet, and the images that they have. */
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { Intent } from '../protocol/intents.ts';
import type { InventoryItem, Slots, ToEdgeHello } from '../protocol/messages.ts';

export const ledgerAgents = sqliteTable('agents', {
  agentId: text('agent_id').primaryKey(),
  name: text('name').notNull(),
  controlHub: text('control_hub').notNull(),
  approved: text('approved', { mode: 'json' }).$type<Slots>().notNull(),
  /** What its last hello offered; above `approved` it does not count. */
  offered: text('offered', { mode: 'json' }).$type<Slots>(),
  state: text('state').$type<'pending' | 'active' | 'suspended' | 'revoked'>().notNull(),
  draining: integer('draining', { mode: 'boolean' }).notNull(),
  /** Number of the last approval; one that the ledger suspended needs a higher one. */
  approval: integer('approval').notNull(),
  reason: text('reason'),
  /** Of the control socket that was accepted last. */
  epoch: integer('epoch'),
  /** Join counter accepted last, by which attempt, in which incarnation of the ledger. */
  joinCounter: integer('join_counter').notNull(),
  attemptId: text('attempt_id'),
  joinIncarnation: integer('join_incarnation').notNull(),
  journalId: text('journal_id'),
  ackedIndex: integer('acked_index').notNull(),
  reachable: integer('reachable', { mode: 'boolean' }).notNull(),
  /** First moment of the present silence, while it is still taken for reachable. */
  silentSinceMs: integer('silent_since_ms'),
  /** The hub confirmed that sockets of `epoch` and before are closed. Leases run out counted from here. */
  fencedAtMs: integer('fenced_at_ms'),
  /** 1 until the hub confirmed. */
  fencing: integer('fencing', { mode: 'boolean' }).notNull(),
  connectedAtMs: integer('connected_at_ms'),
  lastSeenAtMs: integer('last_seen_at_ms'),
  /** What its last accepted hello said; null before the first one of this version of the edge. */
  agentVersion: text('agent_version'),
});

/** An order without its spec, which is read from `specs` when it is sent. Sorted by issue within an agent. */
export const ledgerIntents = sqliteTable(
  'intents',
  {
    agentId: text('agent_id').notNull(),
    intentId: text('intent_id').notNull(),
    sessionId: text('session_id').notNull(),
    generation: integer('generation').notNull(),
    seq: integer('seq').notNull(),
    order: text('order', { mode: 'json' })
      .$type<Exclude<Intent['order'], { kind: 'create' }> | { kind: 'create' }>()
      .notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (table) => [primaryKey({ columns: [table.agentId, table.intentId] })],
);

export const ledgerImages = sqliteTable('images', {
  agentId: text('agent_id').primaryKey(),
  images: text('images', { mode: 'json' }).$type<ToEdgeHello['images']>().notNull(),
});

/** What agents hold of sessions that a restored ledger does not know: spared until somebody decides. */
export const ledgerOrphans = sqliteTable('orphans', {
  agentId: text('agent_id').primaryKey(),
  items: text('items', { mode: 'json' }).$type<InventoryItem[]>().notNull(),
});

export type AgentRow = typeof ledgerAgents.$inferSelect;
export type IntentRow = typeof ledgerIntents.$inferSelect;
export type AgentImages = ToEdgeHello['images'];
