/** D1 tables of the audit trail: entries written with what they tell of, and the chains that a sealer makes of them. */
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core';

/** Written in the batch of the mutation; taken into its chain within a minute. */
export const auditPending = sqliteTable('audit_pending', {
  id: text().primaryKey(),
  /** Number of the domain, or `system`. */
  chain: text().notNull(),
  /** JSON of an `AuditEntry`. */
  entry: text().notNull(),
});

export const audit = sqliteTable(
  'audit',
  {
    chain: text().notNull(),
    /** From 1, without gaps. */
    seq: integer().notNull(),
    /** JSON of an `AuditEntry`, the very text that was hashed. */
    entry: text().notNull(),
    /** SHA-256 of the previous hash, a line feed and `entry`; base64url. */
    hash: text().notNull(),
  },
  (table) => [primaryKey({ columns: [table.chain, table.seq] })],
);
