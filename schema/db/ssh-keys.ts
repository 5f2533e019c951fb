/** D1 table of uploaded public keys of SSH. */
import { integer, primaryKey, sqliteTable, text } from 'drizzle-orm/sqlite-core';

export const sshKeys = sqliteTable(
  'ssh_keys',
  {
    userId: text('user_id').notNull(),
    /** `SHA256:` and base64 without padding, as OpenSSH shows it. */
    fingerprint: text().notNull(),
    id: text().notNull(),
    name: text().notNull(),
    /** Type and base64, without a comment. */
    publicKey: text('public_key').notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
    expiresAtMs: integer('expires_at_ms'),
  },
  (table) => [primaryKey({ columns: [table.userId, table.fingerprint] })],
);
export type SshKeyRow = typeof sshKeys.$inferSelect;
