/** What people ask of kernels and terminals beside their streams, over the control socket of the agent as the API does it. */
import type { Kernel } from '../../schema/api/kernel-parts.ts';
import { newId, parseSessionId } from '../../schema/ids.ts';
import { type CallInput, type CallOp, type CallResult, callShapes } from '../../schema/protocol/calls.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { StreamOver } from '../../schema/protocol/stream.ts';
import type { Chance } from './chance.ts';
import { within } from './client.ts';
import type { VirtualTime } from './clock.ts';
import type { SimEdge } from './edge/edge.ts';

export interface CallPorts {
  time: VirtualTime;
  chance: Chance;
  edge: SimEdge;
}

export type KernelAct = CallInput<'kernel'>['act'];

/** A place of a session, and the kernel in it. */
export interface KernelPlace {
  sessionId: string;
  kernelId: string;
}

/** Does something with a kernel, and tells how it is then. @throws StreamOver with the code of a refusal */
export async function askKernel(
  { sessionId, kernelId }: KernelPlace,
  act: KernelAct,
  ports: CallPorts,
): Promise<Kernel> {
  return (await ask(sessionId, 'kernel', { kernelId, act }, ports)).kernel;
}

/** What the agent of a session answers; `given` without session and generation. @throws StreamOver with the code of a refusal */
export async function ask<Op extends CallOp>(
  sessionId: string,
  op: Op,
  given: object,
  { time, chance, edge }: CallPorts,
): Promise<CallResult<Op>> {
  const { groupNumber } = parseSessionId(sessionId)!;
  const route = await within(time, limits.callDeadlineMs, edge.ledger(groupNumber, edge.front).route(sessionId));
  if (!route?.agent?.reachable) throw new StreamOver({ code: 'agent_unreachable' });
  const { generation, agent } = route;
  const callId = newId('call', edge.clock.nowMs(), chance.port().bytes(10));
  const input = { sessionId, generation, ...given };
  const hub = edge.controlHub(agent.controlHub, edge.front);
  const asked = hub.call(agent.agentId, callId, op, input, limits.callDeadlineMs);
  const outcome = await within(time, 2 * limits.callDeadlineMs, asked);
  if (outcome === undefined) throw new StreamOver({ code: 'tunnel_deadline' });
  if (!outcome.ok) throw new StreamOver({ code: outcome.code });
  const result: unknown = callShapes[op].result.parse(outcome.result);
  return result as CallResult<Op>;
}
