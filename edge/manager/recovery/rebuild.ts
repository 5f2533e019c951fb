/**
 * The comparison itself, in the order in which truth flows: agents' enrolment to ledgers, the read model to ledgers that lost
 * something, ledgers to the read model, ledgers to names and quota. What is under way meanwhile is asked of its owner once
 * more before anything is taken away.
 */
import type { RebuildReport } from '../../../schema/api/recovery.ts';
import type { Ctx } from '../../http/context.ts';
import { admissionObject, ledgerObject } from '../../platform/objects.ts';
import { getCatalogue } from '../accounts/catalogue.ts';
import { tellLedgers } from '../agents/roster.ts';
import { systemChain } from '../audit/record.ts';
import { mendClaims } from './claims.ts';
import { knownSessions, type Truth } from './known.ts';
import { mendReadModel } from './read-model.ts';

export type Mended = Omit<RebuildReport, 'dryRun' | 'revoked'>;

export async function rebuildAll(ctx: Ctx, dryRun: boolean): Promise<Mended> {
  const { groups, domains } = await getCatalogue(ctx, 0);
  const ledgers = { begun: await beginLost(ctx, groups, dryRun), agents: 0, recalled: 0 };
  if (!dryRun) {
    ledgers.agents = await tellLedgers(ctx);
    for (const name of [systemChain, ...domains.map(({ number }) => String(number))])
      await admissionObject(ctx.env, name).catchUpAudit();
  }
  const readModel = { written: 0, closed: 0 };
  for (const { number } of groups) {
    const mended = await mendReadModel(ctx, number, dryRun);
    readModel.written += mended.written;
    readModel.closed += mended.closed;
    ledgers.recalled += mended.recalled;
  }
  const truth: Truth = new Map();
  for (const { number } of groups)
    for await (const page of knownSessions(ctx, number))
      for (const session of page) truth.set(session.sessionId, { ...session, groupNumber: number });
  const admission: Mended['admission'] = { claimed: 0, released: 0, projects: [] };
  for (const domain of domains) {
    const mended = await mendClaims(ctx, domain, truth, dryRun);
    admission.claimed += mended.claimed;
    admission.released += mended.released;
    admission.projects.push(...mended.projects);
  }
  return { readModel, ledgers, admission };
}

/** Ledgers that have lost everything begin a new incarnation: above any epoch, and what agents hold is spared. */
async function beginLost(ctx: Ctx, groups: readonly { number: number; name: string }[], dryRun: boolean) {
  const begun: string[] = [];
  for (const { number, name } of groups) {
    const ledger = ledgerObject(ctx.env, number);
    if (await ledger.isBound()) continue;
    if (!dryRun) await ledger.restored(number, 0);
    begun.push(name);
  }
  return begun;
}
