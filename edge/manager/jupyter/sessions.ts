/**
 * What Jupyter's clients call sessions: a path and a name for a kernel, kept in D1. A kernel that is over takes them along
 * when somebody looks.
 */
import type {
  JupyterKernel,
  JupyterSession,
  JupyterSessionPatch,
  NewJupyterSession,
} from '../../../schema/api/jupyter.ts';
import type { JupyterSessionRow } from '../../../schema/db/jupyter.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { endJupyterKernel, listJupyterKernels, showKernel, startJupyterKernel } from './kernels.ts';
import { seeThrough } from './start.ts';
import { hexOf } from './voice.ts';
import {
  deleteRowsOfKernel,
  deleteSessionRow,
  findSessionRow,
  listSessionRows,
  putSessionRow,
  type SessionsOf,
} from './store.ts';

type Scope = string | undefined;

const placeOf = ({ actor }: UserCtx, scope: Scope): SessionsOf => ({ ownerId: actor.userId, scope: scope ?? '' });

function toSession({ id, path, name, type }: JupyterSessionRow, kernel: JupyterKernel): JupyterSession {
  return { id, path, name, type, kernel, ...(type === 'notebook' ? { notebook: { path, name } } : {}) };
}

const isGone = (error: unknown) => error instanceof Refusal && error.code === 'kernel_not_found';

export async function listJupyterSessions(ctx: UserCtx, scope: Scope): Promise<JupyterSession[]> {
  const rows = await listSessionRows(database(ctx.env), placeOf(ctx, scope));
  if (rows.length === 0) return [];
  const kernels = new Map((await listJupyterKernels(ctx, scope)).map((kernel) => [kernel.id, kernel]));
  const sessions = rows.map(async (row) => {
    const kernel = kernels.get(row.kernelId) ?? (await findKernel(ctx, scope, row));
    return kernel ? [toSession(row, kernel)] : [];
  });
  return (await Promise.all(sessions)).flat();
}

/** The kernel of a row; undefined, and the row is deleted, when it is over. */
async function findKernel(ctx: UserCtx, scope: Scope, row: JupyterSessionRow): Promise<JupyterKernel | undefined> {
  try {
    return await showKernel(ctx, scope, row.kernelId);
  } catch (error) {
    if (!isGone(error)) throw error;
    await deleteSessionRow(database(ctx.env), placeOf(ctx, scope), row.id);
    return undefined;
  }
}

export async function getJupyterSession(ctx: UserCtx, scope: Scope, id: string): Promise<JupyterSession> {
  const row = await findSessionRow(database(ctx.env), placeOf(ctx, scope), id);
  const kernel = row && (await findKernel(ctx, scope, row));
  if (!kernel) throw new Refusal('jupyter_session_not_found');
  return toSession(row, kernel);
}

/** Makes one, with a kernel that is there or a new one; of a path that has one, that. A page that is loaded again finds it. */
export function createJupyterSession(ctx: UserCtx, scope: Scope, wanted: NewJupyterSession): Promise<JupyterSession> {
  return seeThrough(ctx, findOrMake(ctx, scope, wanted));
}

async function findOrMake(ctx: UserCtx, scope: Scope, wanted: NewJupyterSession): Promise<JupyterSession> {
  const db = database(ctx.env);
  const place = placeOf(ctx, scope);
  const known = (await listSessionRows(db, place)).find(({ path }) => path === wanted.path);
  const kernelOfKnown = known && (await findKernel(ctx, scope, known));
  if (known && kernelOfKnown) return toSession(known, kernelOfKnown);
  const { path, name, type } = wanted;
  const kernel = await kernelOrNew(ctx, scope, { path, ...wanted.kernel });
  const row = {
    id: newUuid(ctx),
    ...place,
    kernelId: kernel.id,
    path,
    name: name ?? '',
    type,
    createdAtMs: ctx.clock.nowMs(),
  };
  await putSessionRow(db, row);
  return toSession(row, kernel);
}

type WantedKernel = NonNullable<NewJupyterSession['kernel']> & { path: string };

function kernelFor(ctx: UserCtx, scope: Scope, { id, name, env, path }: WantedKernel): Promise<JupyterKernel> {
  return id ? showKernel(ctx, scope, id) : startJupyterKernel(ctx, scope, { name, path, env });
}

/** As at jupyter-server a client that names a kernel which is over gets a new one: a page knows no better when it is opened again. */
async function kernelOrNew(ctx: UserCtx, scope: Scope, wanted: WantedKernel): Promise<JupyterKernel> {
  try {
    return await kernelFor(ctx, scope, wanted);
  } catch (error) {
    if (!wanted.id || !isGone(error)) throw error;
    return kernelFor(ctx, scope, { ...wanted, id: undefined });
  }
}

/** Clients take nothing but what looks like this. */
function newUuid({ random }: UserCtx): string {
  const hex = hexOf(random.bytes(16));
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

/** Renames it, or gives it another kernel; the one that it had is ended then. */
export async function patchJupyterSession(
  ctx: UserCtx,
  scope: Scope,
  id: string,
  patch: JupyterSessionPatch,
): Promise<JupyterSession> {
  const db = database(ctx.env);
  const row = await findSessionRow(db, placeOf(ctx, scope), id);
  if (!row) throw new Refusal('jupyter_session_not_found');
  const isOther = patch.kernel?.id ? patch.kernel.id !== row.kernelId : Boolean(patch.kernel?.name);
  const kernel = isOther
    ? await kernelFor(ctx, scope, { path: row.path, ...patch.kernel })
    : await findKernel(ctx, scope, row);
  if (!kernel) throw new Refusal('jupyter_session_not_found');
  const changed = {
    ...row,
    path: patch.path ?? row.path,
    name: patch.name ?? row.name,
    type: patch.type ?? row.type,
    kernelId: kernel.id,
  };
  await putSessionRow(db, changed);
  if (isOther) await endQuietly(ctx, scope, row.kernelId);
  return toSession(changed, kernel);
}

/** Ends it, and its kernel. */
export async function deleteJupyterSession(ctx: UserCtx, scope: Scope, id: string): Promise<void> {
  const db = database(ctx.env);
  const row = await findSessionRow(db, placeOf(ctx, scope), id);
  if (!row) throw new Refusal('jupyter_session_not_found');
  await endQuietly(ctx, scope, row.kernelId);
  await deleteRowsOfKernel(db, ctx.actor.userId, row.kernelId);
}

async function endQuietly(ctx: UserCtx, scope: Scope, kernelId: string): Promise<void> {
  try {
    await endJupyterKernel(ctx, scope, kernelId);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}
