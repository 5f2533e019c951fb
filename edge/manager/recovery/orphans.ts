/** Sessions that machines hold and a restored control plane has forgotten: shown, and ended when somebody says so. */
import type { OrphanList } from '../../../schema/api/recovery.ts';
import { Refusal } from '../../../schema/errors.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { Ctx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { findGroup, getCatalogue } from '../accounts/catalogue.ts';
import { audited, systemChain } from '../audit/record.ts';
import { noteRebuild } from './store.ts';

export async function listOrphans(ctx: Ctx): Promise<OrphanList> {
  const { groups } = await getCatalogue(ctx, 0);
  const held = await Promise.all(groups.map(({ number }) => ledgerObject(ctx.env, number).orphans()));
  return { items: held.flat() };
}

/** Its containers go; its home and output stay for their time. @throws Refusal `session_not_found` for what is no orphan */
export async function endOrphan(ctx: Ctx, sessionId: string): Promise<void> {
  const { groupNumber } = parseSessionId(sessionId) ?? {};
  const group = groupNumber === undefined ? undefined : await findGroup(ctx, groupNumber);
  if (!group || !(await ledgerObject(ctx.env, group.number).endOrphan(sessionId)))
    throw new Refusal('session_not_found');
  await noteRebuild(audited(ctx, { chain: systemChain, action: 'orphan.end', objectId: sessionId }));
}
