/** D1 tables of agents: the truth of enrolment. What an agent does now is its ledger's. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { HostInfo, Slots } from '../protocol/messages.ts';

export const joinTokens = sqliteTable('join_tokens', {
  id: text().primaryKey(),
  /** `<key version>.<HMAC>` of the token. */
  hash: text().notNull().unique(),
  groupNumber: integer('group_number').notNull(),
  autoApprove: integer('auto_approve', { mode: 'boolean' }).notNull(),
  createdBy: text('created_by').notNull(),
  createdAtMs: integer('created_at_ms').notNull(),
  expiresAtMs: integer('expires_at_ms').notNull(),
  /** The key that spent it; enrolling that key with it again answers the same. */
  usedByKey: text('used_by_key'),
  agentId: text('agent_id'),
});

export const agents = sqliteTable(
  'agents',
  {
    id: text().primaryKey(),
    groupNumber: integer('group_number').notNull(),
    name: text().notNull().unique(),
    /** Raw Ed25519 public key, base64url. */
    publicKey: text('public_key').notNull().unique(),
    /** Name of its control hub, fixed for its life. */
    controlHub: text('control_hub').notNull(),
    /** A suspension is the ledger's to know. */
    state: text({ enum: ['pending', 'active', 'revoked'] }).notNull(),
    draining: integer({ mode: 'boolean' }).notNull(),
    /** Slots that count at most; growth waits for an approval. */
    approved: text({ mode: 'json' }).$type<Slots>().notNull(),
    /** Raised by each approval: lifts a suspension in the ledger. */
    approval: integer().notNull(),
    /** Slots that it offered when it enrolled. */
    offered: text({ mode: 'json' }).$type<Slots>().notNull(),
    host: text({ mode: 'json' }).$type<HostInfo>().notNull(),
    agentVersion: text('agent_version').notNull(),
    joinedAtMs: integer('joined_at_ms').notNull(),
    revokedAtMs: integer('revoked_at_ms'),
  },
  (table) => [index('agents_by_group').on(table.groupNumber, table.id)],
);
