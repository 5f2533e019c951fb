/** Changing one's own password: by the old one, throttled like signing in. An administrator resets one by `PATCH`. */
import type { z } from 'zod';
import type { NewPassword } from '../../../schema/api/account.ts';
import { type RateLimit, Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { stale } from '../../http/etag.ts';
import { database } from '../../platform/database.ts';
import { audited, chainOf } from '../audit/record.ts';
import { beginAttempt } from './attempts.ts';
import { isNarrowed } from './manage-tokens.ts';
import { hashPassword, isPassword } from './password.ts';
import { changeRights, noteEndedTokens } from './rights.ts';
import { findUser, updateUser, type UserRow } from './store.ts';

/**
 * Repeated with the same passwords it is done already, so an answer that was lost is simply asked for again.
 * @throws Refusal `auth_password_wrong`, `auth_throttled`, `access_denied`, `request_precondition_failed`
 */
export async function changePassword(ctx: UserCtx, input: z.infer<typeof NewPassword>): Promise<RateLimit> {
  const { actor } = ctx;
  if (isNarrowed(actor)) throw new Refusal('access_denied', 'This token is narrowed; sign in to change the password.');
  const db = database(ctx.env);
  const attempt = await beginAttempt(ctx, actor.email);
  const user = await findUser(db, actor.userId);
  if (user?.passwordHash == null) throw new Refusal('access_denied', 'A service account has no password.');
  const isRight = await isPassword(input.password, user.passwordHash);
  const isDone = !isRight && (await isPassword(input.newPassword, user.passwordHash));
  if (!isRight && !isDone) throw new Refusal('auth_password_wrong', undefined, { rateLimit: attempt.limit });
  // Repeated to end tokens: those that were made since the first time, too.
  if (isRight || input.revokeTokens) await store(ctx, input, user);
  return attempt.forgive();
}

/** Only of the user as it was read: a hash takes a while, and an administrator may have reset the password meanwhile. */
async function store(
  ctx: UserCtx,
  input: z.infer<typeof NewPassword>,
  { domainId, version: ifVersion }: UserRow,
): Promise<void> {
  const { userId, tokenId } = ctx.actor;
  const db = database(ctx.env);
  const passwordHash = await hashPassword(input.newPassword, ctx.random);
  const revokeTokens = input.revokeTokens ?? false;
  const chain = await chainOf(ctx, domainId);
  const note = { chain, action: 'password.change', objectId: userId, details: { revokeTokens } };
  const nowMs = ctx.clock.nowMs();
  const write = async () => {
    const endTokens = { but: tokenId, nowMs };
    const more = { ifVersion, ...(revokeTokens ? { endTokens } : {}) };
    if (!(await updateUser(db, audited(ctx, note), userId, { passwordHash }, more))) throw stale();
  };
  if (!revokeTokens) return write();
  await changeRights(ctx, { userId, outcome: 'changed' }, write);
  await noteEndedTokens(ctx, userId, nowMs);
}
