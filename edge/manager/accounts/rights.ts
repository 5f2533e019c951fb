/**
 * The one way in which rights change: announced to the `Access` object of the user, written to D1, told. Whoever asks
 * `Access` in between reads D1 anew, so a death at any point leaves nobody with rights that D1 no longer gives for more
 * than the 3 s of a check. D1 is the truth; `Access` only says who must look again.
 */
import { errors, Refusal } from '../../../schema/errors.ts';
import type { UserCtx } from '../../http/context.ts';
import { shardOf } from '../../http/shards.ts';
import { database } from '../../platform/database.ts';
import { durably } from '../../platform/failpoint.ts';
import { accessObject } from '../../platform/objects.ts';
import { forgetActors } from './authenticate.ts';
import { listTokensEndedAt } from './store.ts';

export interface RightsChange {
  userId: string;
  /** The token that it is about; absent: the user with all tokens. */
  tokenId?: string;
  outcome: 'changed' | 'revoked';
  /** The subject comes in again. */
  restores?: boolean;
}

/** The process that serves us keeps it beside its state, for restores. */
function note(ctx: UserCtx, subject: string, revoked: boolean): void {
  ctx.log.info('revocation', { subject, revoked });
}

/** Notes the tokens of a user that one statement ended, at this moment. */
export async function noteEndedTokens(ctx: UserCtx, userId: string, atMs: number): Promise<void> {
  for (const id of await listTokensEndedAt(database(ctx.env), userId, atMs)) note(ctx, id, true);
}

/** Carries out `write` (to D1, idempotent) as a change of rights. */
export async function changeRights(ctx: UserCtx, change: RightsChange, write: () => Promise<void>): Promise<void> {
  const { userId, tokenId, outcome, restores = false } = change;
  const subject = tokenId ?? userId;
  const id = ctx.requestId;
  const access = accessObject(ctx.env, shardOf(userId));
  await durably(ctx.failpoints, 'accounts.intend', () => access.intend(id, subject, restores));
  try {
    await durably(ctx.failpoints, 'accounts.rights', write);
    await durably(ctx.failpoints, 'accounts.tell', () => access.finish(id, subject, outcome));
    if (outcome === 'revoked' || restores) note(ctx, subject, outcome === 'revoked');
  } catch (error) {
    // Refused: nothing was written. Anything else may have been, and the announcement stands until its end.
    if (error instanceof Refusal && errors[error.code].status < 500) await access.finish(id, subject, 'changed');
    throw error;
  } finally {
    forgetActors(subject);
  }
}
