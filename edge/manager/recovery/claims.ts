/** Names and quota of one domain beside what the ledgers hold. */
import type { Ctx } from '../../http/context.ts';
import { admissionObject, ledgerObject } from '../../platform/objects.ts';
import type { AdmissionDomain, KnownClaim, LiveSession } from '../admission/rpc.ts';
import type { Truth } from './known.ts';

const claimsPerPage = 1000;

export async function mendClaims(ctx: Ctx, { id, number }: AdmissionDomain, truth: Truth, dryRun: boolean) {
  const domain = { id, number };
  const admission = admissionObject(ctx.env, String(number));
  const claims = await allClaims(ctx, String(number));
  const gone = await findGone(ctx, claims, truth);
  const held = new Set(claims.filter(({ place }) => place === 'handed').map(({ sessionId }) => sessionId));
  const live = [...truth.values()].filter(
    (session) => session.domainNumber === number && !session.isOver && !held.has(session.sessionId),
  );
  if (!dryRun && live.length + gone.length > 0) {
    await admission.reconcile(domain, live.map(toLive), gone);
    await releaseEnded(ctx, domain, live);
  }
  return { claimed: live.length, released: gone.length, projects: await admission.recount(dryRun) };
}

async function allClaims(ctx: Ctx, name: string): Promise<KnownClaim[]> {
  const claims: KnownClaim[] = [];
  for (;;) {
    const page = await admissionObject(ctx.env, name).claims(claims.at(-1)?.sessionId ?? '', claimsPerPage);
    if (page.length === 0) return claims;
    claims.push(...page);
  }
}

/** Claims of sessions that their ledgers have ended, or never had though they took them. What waits here is not asked for. */
async function findGone(ctx: Ctx, claims: readonly KnownClaim[], truth: Truth): Promise<string[]> {
  const gone: string[] = [];
  for (const { sessionId, groupNumber, place } of claims) {
    const known = truth.get(sessionId);
    if (place === 'over' || (known ? !known.isOver : place !== 'handed')) continue;
    // Handed over, or ended, since the ledgers were read.
    const now = await ledgerObject(ctx.env, groupNumber).get(sessionId);
    if (!now || now.endedAtMs !== undefined) gone.push(sessionId);
  }
  return gone;
}

/** A session that ended between the look at its ledger and its claim has been released before there was one. */
async function releaseEnded(
  ctx: Ctx,
  domain: AdmissionDomain,
  claimed: readonly (LiveSession & { version: number })[],
): Promise<void> {
  for (const { sessionId, groupNumber } of claimed) {
    const now = await ledgerObject(ctx.env, groupNumber).get(sessionId);
    if (now && now.endedAtMs === undefined) continue;
    const { generation = 1, version = 0 } = now ?? {};
    await admissionObject(ctx.env, String(domain.number)).release(domain, [{ sessionId, generation, version }]);
  }
}

function toLive({ sessionId, projectId, ownerId, name, groupNumber, createdAtMs, version }: LiveSession): LiveSession {
  return { sessionId, projectId, ownerId, name, groupNumber, createdAtMs, version };
}
