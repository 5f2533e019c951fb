/**
 * Revocation within 5 s, without a registry. Sixteen `Access` objects, by user, know the revocations and role changes of
 * the last 24 h. Whoever is about to pass a byte, and whose last check is older than 3 s, asks first:
 * - the corridor for each token of a request (done for every route);
 * - a stream (SSE, log, file): `const allowed = stillAllowed(ctx)`, then `if (!(await allowed())) end` before each write;
 * - a hub, once for all its sockets: `await checkAccess(env, principals)`, then close with 4401 (`revoked`) or 4409
 *   (`changed`: the client dials again and its rights are read anew). `principalOf(ctx.actor, projectId)` makes the
 *   principal that a socket's claim carries.
 */
import { limits } from '../../schema/protocol/limits.ts';
import { accessObject } from '../platform/objects.ts';
import type { Principal, SocketPrincipal, Verdict } from './access-rpc.ts';
import type { UserActor, UserCtx } from './context.ts';
import { shardOf } from './shards.ts';

/** Who a socket or stream of this actor is checked as. */
export function principalOf(actor: UserActor, projectId: string): SocketPrincipal {
  return { ...principalOfToken(actor), projectId };
}

function principalOfToken({ userId, tokenId, accessVersion, tokenExpiresAtMs }: UserActor): Principal {
  return {
    userId,
    tokenId,
    accessVersion,
    ...(tokenExpiresAtMs === undefined ? {} : { expiresAtMs: tokenExpiresAtMs }),
  };
}

/** One verdict for each principal, in order; one call for each shard that occurs. Rejects when a shard can not be asked. */
export async function checkAccess(env: Env, principals: readonly Principal[]): Promise<Verdict[]> {
  const shards = Map.groupBy(principals.keys(), (index) => shardOf(principals[index]!.userId));
  const verdicts: Verdict[] = [];
  await Promise.all(
    Array.from(shards, async ([shard, indexes]) => {
      const asked = await accessObject(env, shard).check(indexes.map((index) => principals[index]!));
      for (const [at, index] of indexes.entries()) verdicts[index] = asked.verdicts[at]!;
    }),
  );
  return verdicts;
}

/**
 * For streams over HTTP: a function that tells whether the actor may still receive, and asks at most every 3 s, counted from
 * the check that let the request in. A change of rights ends the stream too: the client comes back with its cursor and is
 * judged anew. Without a project: a stream that is not one project's.
 */
export function stillAllowed(
  ctx: Pick<UserCtx, 'env' | 'clock' | 'actor'>,
  projectId?: string,
): () => Promise<boolean> {
  const principal = { ...principalOfToken(ctx.actor), ...(projectId === undefined ? {} : { projectId }) };
  let checkedMs = ctx.clock.bootMs() - Math.max(0, ctx.clock.nowMs() - ctx.actor.checkedAtMs);
  let allowed = true;
  return async () => {
    if (!allowed || ctx.clock.bootMs() - checkedMs < limits.accessCheckMs) return allowed;
    checkedMs = ctx.clock.bootMs();
    const [verdict] = await checkAccess(ctx.env, [principal]);
    allowed = verdict === 'ok';
    return allowed;
  };
}
