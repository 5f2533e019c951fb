/**
 * After storage was put back to an older state: nobody who was shut out comes in again, ledgers begin anew above all that
 * they ever issued, and every copy is compared with the truth that it is a copy of.
 */
import type { RebuildReport, Restored } from '../../../schema/api/recovery.ts';
import type { Ctx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { expireCatalogue, getCatalogue } from '../accounts/catalogue.ts';
import { audited, systemChain } from '../audit/record.ts';
import { rebuildAll } from './rebuild.ts';
import { noteRebuild, putRevocations } from './store.ts';

/**
 * Says that everything is of `snapshotAtMs`. Each ledger begins a new incarnation before any agent can attach to the old
 * one; so the process that put the storage back calls this before others can reach the edge. May be said again.
 */
export async function restored(ctx: Ctx, { snapshotAtMs, revocations }: Restored): Promise<RebuildReport> {
  expireCatalogue();
  const write = audited(ctx, { chain: systemChain, action: 'storage.restored', details: { snapshotAtMs } });
  const revoked = await putRevocations(database(ctx.env), write, revocations);
  const { groups } = await getCatalogue(ctx, 0);
  for (const { number } of groups) await ledgerObject(ctx.env, number).restored(number, snapshotAtMs);
  return { dryRun: false, revoked, ...(await rebuildAll(ctx, false)) };
}

/** Compares everything, and puts right what differs; with `dryRun`, only says it. Idempotent, also beside live traffic. */
export async function rebuild(ctx: Ctx, dryRun: boolean): Promise<RebuildReport> {
  const report = await rebuildAll(ctx, dryRun);
  const { readModel, ledgers, admission } = report;
  const details = {
    dryRun,
    written: readModel.written,
    closed: readModel.closed,
    recalled: ledgers.recalled,
    claimed: admission.claimed,
    released: admission.released,
    recounted: admission.projects.length,
  };
  await noteRebuild(audited(ctx, { chain: systemChain, action: 'storage.rebuild', details }));
  return { dryRun, revoked: { tokens: 0, users: 0, agents: 0 }, ...report };
}
