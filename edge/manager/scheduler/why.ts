/** Why a session waits: what blocks it, its place in the queue, and who comes nearest to having room. Pure. */
import type { StateReason } from '../../../schema/api/session.ts';
import type { Slots } from '../../../schema/protocol/messages.ts';
import { describeAmount, holds } from './slots.ts';

export interface AgentView {
  name: string;
  total: Slots;
  /** What is free, when the agent takes sessions now. */
  free: Slots | undefined;
  /** Why it takes none. */
  closed: 'unreachable' | 'draining' | 'inactive' | undefined;
}

/** The reason that a waiting session shows. `before`: how many wait that are older. */
export function whyPending(want: Slots, agents: readonly AgentView[], before: number): StateReason {
  const place = before === 0 ? 'It is next in the queue.' : `${before} wait before it.`;
  if (agents.length === 0)
    return {
      code: 'no_agents',
      detail: `The resource group has no agent. Join one: causeway agent token create. ${place}`,
    };
  const large = agents.filter((agent) => holds(agent.total, want));
  if (large.length === 0) {
    const { missing } = nearest(want, agents, (agent) => agent.total);
    return { code: 'larger_than_agents', detail: `No agent has this much: ${missing}. ${place}` };
  }
  const open = large.filter((agent) => agent.free !== undefined);
  if (open.length === 0) {
    const closed = large[0]?.closed ?? 'inactive';
    return {
      code: closed === 'draining' ? 'agents_draining' : 'agents_unreachable',
      detail: `No agent that is large enough takes sessions now; ${large[0]?.name} is ${closed}. ${place}`,
    };
  }
  const { agent, missing, name } = nearest(want, open, (each) => each.free ?? {});
  if (name === undefined) return { code: 'queued', detail: `Waiting for its turn. ${place}` };
  return { code: `busy_${name}`, detail: `${place} The nearest fit is ${agent.name}: ${missing}.` };
}

/** The agent that lacks the smallest share of what is asked for, and what it lacks most. */
function nearest(want: Slots, agents: readonly AgentView[], of: (agent: AgentView) => Slots) {
  let best: { agent: AgentView; worst: number; name: string | undefined } | undefined;
  for (const agent of agents) {
    const has = of(agent);
    let worst = 0;
    let name: string | undefined;
    for (const [slot, amount] of Object.entries(want)) {
      const lack = amount === 0 ? 0 : (amount - (has[slot] ?? 0)) / amount;
      if (lack <= worst) continue;
      worst = lack;
      name = slot;
    }
    if (!best || worst < best.worst) best = { agent, worst, name };
  }
  const { agent, name } = best ?? { agent: agents[0]!, name: undefined };
  const missing =
    name === undefined
      ? ''
      : `needs ${describeAmount(name, want[name] ?? 0)}, has ${describeAmount(name, of(agent)[name] ?? 0)}`;
  return { agent, name, missing };
}
