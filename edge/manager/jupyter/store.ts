/** SQL of what Jupyter's clients call sessions, always of one owner. */
import { and, asc, eq } from 'drizzle-orm';
import { jupyterSessions, type JupyterSessionRow } from '../../../schema/db/jupyter.ts';
import type { Database } from '../../platform/database.ts';

/** Whose, and the session of ours that they are confined to; empty: none. */
export interface SessionsOf {
  ownerId: string;
  scope: string;
}
/** Rows of one owner at one place; nobody has as many notebooks open. */
const maxRows = 1_000;

const isOf = ({ ownerId, scope }: SessionsOf) =>
  and(eq(jupyterSessions.ownerId, ownerId), eq(jupyterSessions.scope, scope));

/** In the order in which they were made. */
export function listSessionRows(db: Database, of: SessionsOf): Promise<JupyterSessionRow[]> {
  const { createdAtMs, id } = jupyterSessions;
  return db.select().from(jupyterSessions).where(isOf(of)).orderBy(asc(createdAtMs), asc(id)).limit(maxRows);
}

export async function findSessionRow(db: Database, of: SessionsOf, id: string): Promise<JupyterSessionRow | undefined> {
  return (
    await db
      .select()
      .from(jupyterSessions)
      .where(and(isOf(of), eq(jupyterSessions.id, id)))
      .limit(1)
  )[0];
}

export async function putSessionRow(db: Database, row: JupyterSessionRow): Promise<void> {
  const { path, name, type, kernelId } = row;
  await db
    .insert(jupyterSessions)
    .values(row)
    .onConflictDoUpdate({ target: jupyterSessions.id, set: { path, name, type, kernelId } });
}

export async function deleteSessionRow(db: Database, of: SessionsOf, id: string): Promise<void> {
  await db.delete(jupyterSessions).where(and(isOf(of), eq(jupyterSessions.id, id)));
}

/** Those of a kernel that is over. */
export async function deleteRowsOfKernel(db: Database, ownerId: string, kernelId: string): Promise<void> {
  await db
    .delete(jupyterSessions)
    .where(and(eq(jupyterSessions.ownerId, ownerId), eq(jupyterSessions.kernelId, kernelId)));
}
