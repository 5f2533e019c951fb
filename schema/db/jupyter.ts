/** D1 tables of the Jupyter gateway: what its clients call a session, and the presets of its kernelspecs. */
import { index, integer, sqliteTable, text } from 'drizzle-orm/sqlite-core';
import type { ResourceRequest } from '../api/session.ts';

/** A name and a path that a Jupyter client gave to a kernel. The kernel itself is a session's. */
export const jupyterSessions = sqliteTable(
  'jupyter_sessions',
  {
    id: text().primaryKey(),
    ownerId: text('owner_id').notNull(),
    /** The session that the client was confined to; empty: none (`/jupyter`). */
    scope: text().notNull(),
    /** As its clients know it. */
    kernelId: text('kernel_id').notNull(),
    path: text().notNull(),
    name: text().notNull(),
    type: text().notNull(),
    createdAtMs: integer('created_at_ms').notNull(),
  },
  (table) => [index('jupyter_sessions_by_owner').on(table.ownerId, table.scope, table.id)],
);
export type JupyterSessionRow = typeof jupyterSessions.$inferSelect;

export const resourcePresets = sqliteTable('resource_presets', {
  name: text().primaryKey(),
  /** Null: a default one that was taken away. */
  resources: text({ mode: 'json' }).$type<ResourceRequest>(),
});
