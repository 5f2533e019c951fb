/** Users of a domain: made, listed, changed by its administrators. What changes rights is told to `Access`. */
import type { z } from 'zod';
import type { NewUser, User, UserPatch } from '../../../schema/api/account.ts';
import type { PageQuery } from '../../../schema/api/page.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { requireMatch, stale } from '../../http/etag.ts';
import { parseCursor, toPage } from '../../http/page.ts';
import { database } from '../../platform/database.ts';
import { audited, chainOf } from '../audit/record.ts';
import { requireDomain } from './manage-domains.ts';
import { isAdminOf } from './manage-tokens.ts';
import { hashPassword } from './password.ts';
import { changeRights, noteEndedTokens } from './rights.ts';
import { findUser, insertUser, listUsers, updateUser, type UserRow } from './store.ts';

export function toUser(row: UserRow): User {
  return {
    id: row.id,
    email: row.email,
    domainId: row.domainId,
    ...(row.role === null ? {} : { role: row.role }),
    active: row.active,
    serviceAccount: row.passwordHash === null,
    createdAtMs: row.createdAtMs,
    version: row.version,
  };
}

function checkRole(ctx: UserCtx, role: string | null | undefined): void {
  if (role === 'superadmin' && ctx.actor.role !== 'superadmin')
    throw new Refusal('access_denied', 'Only a superadmin makes superadmins.');
}

export async function createUser(ctx: UserCtx, input: z.infer<typeof NewUser>): Promise<User> {
  checkRole(ctx, input.role);
  const domain = await requireDomain(ctx, input.domain);
  const row: UserRow = {
    id: ctx.newId('user'),
    domainId: domain.id,
    email: input.email.toLowerCase(),
    passwordHash: input.password === undefined ? null : await hashPassword(input.password, ctx.random),
    role: input.role ?? null,
    active: true,
    createdAtMs: ctx.clock.nowMs(),
    version: 1,
  };
  const { id: objectId, email, role } = row;
  const chain = await chainOf(ctx, domain.id);
  const write = audited(ctx, { chain, action: 'user.create', objectId, details: { email, role } });
  if (!(await insertUser(database(ctx.env), write, row)))
    throw new Refusal('account_name_taken', 'Another user has this email.');
  return toUser(row);
}

/** Users of the actor's reach, oldest first. */
export async function listReachedUsers(ctx: UserCtx, { limit, cursor }: PageQuery) {
  const domainId = ctx.actor.role === 'superadmin' ? undefined : ctx.actor.domainId;
  const after = cursor === undefined ? '' : parseCursor(cursor);
  return toPage(await listUsers(database(ctx.env), domainId, after, limit + 1), limit, ({ id }) => id, toUser);
}

/** A user of the actor's reach. @throws Refusal `user_not_found` */
async function requireUser(ctx: UserCtx, id: string): Promise<UserRow> {
  const user = await findUser(database(ctx.env), id);
  if (!user || (ctx.actor.role !== 'superadmin' && ctx.actor.domainId !== user.domainId))
    throw new Refusal('user_not_found');
  return user;
}

export async function getUser(ctx: UserCtx, id: string): Promise<User> {
  return toUser(await requireUser(ctx, id));
}

/** Changes a user, with `If-Match` only as it was read. Switched off, it is out everywhere within 5 s. */
export async function patchUser(ctx: UserCtx, id: string, patch: z.infer<typeof UserPatch>): Promise<User> {
  const db = database(ctx.env);
  const user = await requireUser(ctx, id);
  checkPatch(ctx, user, patch);
  requireMatch(ctx.request, user.version);
  const { active, role, password, revokeTokens } = patch;
  const change = {
    ...(active === undefined ? {} : { active }),
    ...(role === undefined ? {} : { role }),
    ...(password === undefined ? {} : { passwordHash: await hashPassword(password, ctx.random) }),
  };
  if (Object.keys(patch).length === 0) return toUser(user);
  const details = {
    ...(active === undefined ? {} : { active }),
    ...(role === undefined ? {} : { role }),
    ...(password === undefined ? {} : { password: 'reset' }),
    ...(revokeTokens === undefined ? {} : { revokeTokens }),
  };
  const chain = await chainOf(ctx, user.domainId);
  const write = audited(ctx, { chain, action: 'user.change', objectId: id, details });
  const nowMs = ctx.clock.nowMs();
  const more = {
    ...(ctx.request.headers.has('if-match') ? { ifVersion: user.version } : {}),
    ...(revokeTokens ? { endTokens: { nowMs } } : {}),
  };
  const outcome = active === false ? 'revoked' : 'changed';
  await changeRights(ctx, { userId: id, outcome, restores: active === true }, async () => {
    if (!(await updateUser(db, write, id, change, more))) throw stale();
  });
  if (revokeTokens) await noteEndedTokens(ctx, id, nowMs);
  return toUser({ ...user, ...change, version: user.version + 1 });
}

/** @throws Refusal `access_denied` when the actor may not change this user like that */
function checkPatch(ctx: UserCtx, user: UserRow, patch: z.infer<typeof UserPatch>): void {
  if (!isAdminOf(ctx.actor, user)) throw new Refusal('access_denied', 'Only a superadmin changes superadmins.');
  checkRole(ctx, patch.role);
  if (user.id === ctx.actor.userId && (patch.active === false || patch.role !== undefined))
    throw new Refusal('access_denied', 'Nobody takes rights from themselves; ask another administrator.');
  if (patch.password !== undefined && user.passwordHash === null)
    throw new Refusal('access_denied', 'A service account has no password; make it a token.');
}
