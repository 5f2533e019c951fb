/**
 * Names and quota against the truth of the ledgers: after a restore of any part an object may hold claims of sessions that are
 * over, or lack those of sessions that live. What waits here alone is left as it is.
 */
import type { ClaimRow } from '../../../schema/admission/claims.ts';
import type { AdmissionStore } from './admission-store.ts';
import type { LiveSession, Recount } from './rpc.ts';

/** The claim of a session that its ledger holds. A name that another live session took meanwhile is not given twice. */
export function claimOf(store: AdmissionStore, session: LiveSession): ClaimRow {
  const { sessionId, projectId, ownerId, name, groupNumber, createdAtMs, version } = session;
  return {
    sessionId,
    projectId,
    ownerId,
    name: store.isNamed(projectId, name) ? `!${sessionId}` : name,
    groupNumber,
    createdAtMs,
    place: 'handed',
    reason: null,
    version,
    trail: [],
    spec: null,
    stop: null,
    unlisted: 0,
    todo: 0,
  };
}

/** Counts claims, and answers what was counted wrong; writes it down unless it is a dry run. */
export function recount(store: AdmissionStore, dryRun: boolean): Recount[] {
  const counted = new Map<string, { live: number; waiting: number }>();
  for (const { projectId } of store.usages()) counted.set(projectId, { live: 0, waiting: 0 });
  for (const { projectId, place } of store.claimsAfter('', Number.MAX_SAFE_INTEGER)) {
    if (place === 'over') continue;
    const usage = counted.get(projectId) ?? { live: 0, waiting: 0 };
    usage.live += 1;
    if (place === 'quota') usage.waiting += 1;
    counted.set(projectId, usage);
  }
  return [...counted].flatMap(([projectId, usage]) => {
    const { live, waiting } = store.usage(projectId);
    if (live === usage.live && waiting === usage.waiting) return [];
    if (!dryRun) store.putUsage({ projectId, ...usage });
    return [
      { projectId, live: { before: live, after: usage.live }, waiting: { before: waiting, after: usage.waiting } },
    ];
  });
}
