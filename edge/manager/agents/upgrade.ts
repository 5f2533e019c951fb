/**
 * Upgrades of agents as administrators order and watch them. The agent judges and does it all by itself; what is asked
 * here is answered by the machine, over its control socket, and kept nowhere.
 */
import type { z } from 'zod';
import { type NewUpgrade, UpgradeState } from '../../../schema/api/upgrade.ts';
import { isErrorCode, Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import { type CallInput, type CallOp, callShapes } from '../../../schema/protocol/calls.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Release } from '../../../schema/release.ts';
import type { UserCtx } from '../../http/context.ts';
import { database } from '../../platform/database.ts';
import { controlHubObject } from '../../platform/objects.ts';
import { audited, systemChain } from '../audit/record.ts';
import { findRelease } from '../releases/source.ts';
import { requireAgent } from './roster.ts';
import { type AgentRow, updateAgent } from './store.ts';
import { policyOf } from './upgrade-policy.ts';

/** Orders an agent to become the version that this control plane has for its kind of machine. */
export async function orderUpgrade(
  ctx: UserCtx,
  id: string,
  { allowDowngrade = false, respectPin = false }: NewUpgrade,
) {
  const { row } = await requireAgent(ctx, id);
  if (row.state === 'revoked') throw new Refusal('agent_revoked');
  if (respectPin && (await policyOf(ctx, row)).mode === 'pinned') throw new Refusal('agent_upgrade_pinned');
  const { version } = await releaseFor(ctx, row);
  const { running } = await ask(ctx, row, 'upgradeState', {});
  const details = { from: running, to: version, allowDowngrade };
  const write = audited(ctx, { chain: systemChain, action: 'agent.upgrade', objectId: id, details });
  // Before the machine hears of it: whether it did is unknown where its answer is lost.
  if (!(await updateAgent(database(ctx.env), write, id, { agentVersion: running }))) throw new Refusal('agent_revoked');
  return ask(ctx, row, 'upgrade', { version, allowDowngrade });
}

/** How far its last upgrade is, asked of the agent. */
export async function getUpgrade(ctx: UserCtx, id: string): Promise<UpgradeState> {
  const { row } = await requireAgent(ctx, id);
  return ask(ctx, row, 'upgradeState', {});
}

async function releaseFor(ctx: UserCtx, { host }: AgentRow): Promise<Release> {
  const arch = host.arch === 'aarch64' ? 'arm64' : 'x64';
  const found = await findRelease(ctx, arch);
  if (found) return found;
  throw new Refusal(
    'release_not_found',
    `There is no release for ${arch} machines. Make one: npm run release -- --arch ${arch}`,
  );
}

/** One call, as it is answered. @throws Refusal with the agent's own code */
async function ask<Op extends CallOp>(
  ctx: UserCtx,
  { id, controlHub }: AgentRow,
  op: Op,
  input: CallInput<Op>,
): Promise<z.output<(typeof callShapes)[Op]['result']>> {
  const callId = newId('call', ctx.clock.nowMs(), ctx.random.bytes(10));
  const outcome = await controlHubObject(ctx.env, controlHub).call(id, callId, op, input, limits.callDeadlineMs);
  if (outcome.ok) return callShapes[op].result.parse(outcome.result) as z.output<(typeof callShapes)[Op]['result']>;
  if (outcome.code === 'tunnel_op_unknown')
    throw new Refusal(
      'agent_upgrade_refused',
      'This agent is too old to upgrade itself: run install.sh on its machine once more.',
    );
  throw new Refusal(isErrorCode(outcome.code) ? outcome.code : 'internal', outcome.detail);
}
