/** D1 table of sessions whose output lies in object storage, so that what has had its time is found without a search. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';

export const logArchives = sqliteTable(
  'log_archives',
  {
    sessionId: text('session_id').primaryKey(),
    /** Its objects go then, and the row with them. */
    expiresAtMs: integer('expires_at_ms').notNull(),
    /** Set when it was removed: its objects are gone, and nothing more is taken. */
    purgedAtMs: integer('purged_at_ms'),
  },
  (table) => [index('log_archives_by_expiry').on(table.expiresAtMs)],
);
