/** The read model of one resource group beside its ledger: each learns from the other what it has at a lower version. */
import type { Ctx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { admissionObject, ledgerObject } from '../../platform/objects.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { KnownSession } from '../scheduler/rpc.ts';
import { knownSessions } from './known.ts';
import { closeForgotten, findVersions, listLive, listRows } from './store.ts';

const rowsPerRound = 100;

export async function mendReadModel(ctx: Ctx, groupNumber: number, dryRun: boolean) {
  const mended = { written: 0, closed: 0, recalled: 0 };
  const known = new Set<string>();
  for await (const page of knownSessions(ctx, groupNumber)) {
    for (const { sessionId } of page) known.add(sessionId);
    await mendPage(ctx, groupNumber, page, mended, dryRun);
  }
  for (let after = ''; ;) {
    const rows = await listLive(database(ctx.env), groupNumber, after, rowsPerRound);
    const last = rows.at(-1);
    if (!last) return mended;
    after = last;
    const strange = rows.filter((id) => !known.has(id));
    if (strange.length > 0) await mendStrange(ctx, groupNumber, strange, mended, dryRun);
  }
}

type Counts = { written: number; closed: number; recalled: number };

/** Sessions that the ledger holds. */
async function mendPage(
  ctx: Ctx,
  groupNumber: number,
  page: readonly KnownSession[],
  mended: Counts,
  dryRun: boolean,
): Promise<void> {
  const db = database(ctx.env);
  const versions = await findVersions(
    db,
    page.map(({ sessionId }) => sessionId),
  );
  const isBehind = ({ sessionId, version, isListed }: KnownSession) =>
    isListed && (versions.get(sessionId) ?? 0) < version;
  const behind = page.filter(isBehind).map(({ sessionId }) => sessionId);
  const ahead = page
    .filter(({ sessionId, version, isOver }) => !isOver && (versions.get(sessionId) ?? 0) > version)
    .map(({ sessionId }) => sessionId);
  mended.written += behind.length;
  if (dryRun) mended.recalled += ahead.length;
  else {
    if (behind.length > 0) await ledgerObject(ctx.env, groupNumber).relist(behind);
    const answers = await believe(ctx, groupNumber, ahead);
    mended.recalled += answers.filter((answer) => answer === 'believed').length;
  }
}

/** Live rows of which the ledger knows nothing: admission's, lost by the ledger, or long over. */
async function mendStrange(
  ctx: Ctx,
  groupNumber: number,
  ids: readonly string[],
  mended: Counts,
  dryRun: boolean,
): Promise<void> {
  const asked = await Promise.all(
    ids.map(async (id) => {
      const { domainNumber } = parseSessionId(id) ?? {};
      const held = await admissionObject(ctx.env, String(domainNumber)).get(id);
      return held ? [] : [id];
    }),
  );
  const strange = asked.flat();
  if (dryRun) {
    mended.recalled += strange.length;
    return;
  }
  const answers = await believe(ctx, groupNumber, strange);
  mended.recalled += answers.filter((answer) => answer === 'believed').length;
  const forgotten = strange.filter((_, at) => answers[at] === 'forgotten');
  if (forgotten.length > 0) await closeForgotten(database(ctx.env), forgotten, ctx.clock.nowMs());
  mended.closed += forgotten.length;
}

/** One answer for each id. */
async function believe(ctx: Ctx, groupNumber: number, ids: readonly string[]) {
  const answers: ('believed' | 'known' | 'forgotten')[] = [];
  for (let at = 0; at < ids.length; at += rowsPerRound) {
    const wanted = ids.slice(at, at + rowsPerRound);
    const rows = await listRows(database(ctx.env), wanted);
    const said = await ledgerObject(ctx.env, groupNumber).believe(rows);
    const byId = new Map(rows.map((row, index) => [row.id, said[index]!]));
    answers.push(...wanted.map((id) => byId.get(id) ?? 'known'));
  }
  return answers;
}
