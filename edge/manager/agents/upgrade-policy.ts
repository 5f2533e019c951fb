/** When agents upgrade themselves: set for an agent or for its resource group, asked by the agent now and then. */
import { inArray, sql } from 'drizzle-orm';
import type { UpgradePlan, UpgradePolicy } from '../../../schema/api/upgrade.ts';
import { upgradePolicies } from '../../../schema/db/upgrades.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { AgentActor, Ctx, UserCtx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { findGroup, findGroupNamed } from '../accounts/catalogue.ts';
import { audited, systemChain } from '../audit/record.ts';
import { findRelease } from '../releases/source.ts';
import { requireAgent } from './roster.ts';
import { type AgentRow, findAgent } from './store.ts';

/** Sets the policy of an agent; null: its group's from now on. */
export async function setAgentPolicy(ctx: UserCtx, id: string, policy: UpgradePolicy | null): Promise<void> {
  const { row } = await requireAgent(ctx, id);
  if (row.state === 'revoked') throw new Refusal('agent_revoked');
  await put(ctx, 'agent.upgrade-policy', id, policy);
}

/** Sets the policy of a resource group; null: `manual`. */
export async function setGroupPolicy(ctx: UserCtx, id: string, policy: UpgradePolicy | null): Promise<void> {
  const group = await findGroupNamed(ctx, id);
  if (!group) throw new Refusal('group_not_found');
  await put(ctx, 'group.upgrade-policy', group.id, policy);
}

async function put(ctx: UserCtx, action: string, objectId: string, policy: UpgradePolicy | null): Promise<void> {
  const write = audited(ctx, { chain: systemChain, action, objectId, details: { policy: JSON.stringify(policy) } });
  await write([
    policy === null
      ? sql`DELETE FROM upgrade_policies WHERE subject_id = ${objectId}`
      : sql`INSERT INTO upgrade_policies (subject_id, policy) VALUES (${objectId}, ${JSON.stringify(policy)})
          ON CONFLICT (subject_id) DO UPDATE SET policy = excluded.policy`,
  ]);
}

/** The policy that holds for an agent: its own, its group's, or `manual`. */
export async function policyOf(ctx: Ctx, { id, groupNumber }: AgentRow): Promise<UpgradePolicy> {
  const group = await findGroup(ctx, groupNumber);
  const subjects = [id, ...(group ? [group.id] : [])];
  const rows = await database(ctx.env)
    .select()
    .from(upgradePolicies)
    .where(inArray(upgradePolicies.subjectId, subjects));
  const own = rows.find(({ subjectId }) => subjectId === id) ?? rows[0];
  return own?.policy ?? { mode: 'manual' };
}

/** What the agent that asks should do by itself. */
export async function planUpgrade(ctx: Ctx<AgentActor>): Promise<UpgradePlan> {
  const row = await findAgent(database(ctx.env), ctx.actor.agentId);
  if (!row) throw new Refusal('agent_not_found');
  const policy = await policyOf(ctx, row);
  if (policy.mode === 'manual' || policy.mode === 'pinned') return { policy };
  const release = await findRelease(ctx, row.host.arch === 'aarch64' ? 'arm64' : 'x64');
  return { policy, ...(release === undefined ? {} : { version: release.version }) };
}
