/** Hands the truth of enrolment to the ledger of the agent's group. Idempotent; every verb that writes an agent ends with it. */
import type { Ctx } from '../../http/context.ts';
import { ledgerObject } from '../../platform/objects.ts';
import type { AgentRow } from './store.ts';

export async function tellLedger(ctx: Ctx, agent: AgentRow): Promise<void> {
  await ledgerObject(ctx.env, agent.groupNumber).putAgent(agent.groupNumber, {
    agentId: agent.id,
    name: agent.name,
    controlHub: agent.controlHub,
    approved: agent.approved,
    state: agent.state,
    draining: agent.draining,
    approval: agent.approval,
  });
}
