/** A question about a session to its agent, as a call of the tunnel. */
import { isErrorCode, Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import { type CallOp, type CallResult, callShapes } from '../../../schema/protocol/calls.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { UserCtx } from '../../http/context.ts';
import { controlHubObject } from '../../platform/objects.ts';
import { streamTarget } from './streams.ts';

/** What may come of a question, or of a stream, in place of an answer: for the errors of routes. */
export const atAgent = [
  'session_not_found',
  'session_not_running',
  'session_ended',
  'session_output_gone',
  'agent_unreachable',
  'agent_disk_full',
  'agent_engine_unavailable',
  'tunnel_closed',
  'tunnel_deadline',
  'tunnel_op_unknown',
] as const;

/** What the agent of the session answers; `input` without session and generation. @throws Refusal, the agent's own among them */
export async function askAgent<Op extends CallOp>(
  ctx: UserCtx,
  sessionId: string,
  verb: 'project:read' | 'project:write',
  op: Op,
  input: object,
): Promise<CallResult<Op>> {
  const { claim } = await streamTarget(ctx, sessionId, verb, []);
  const { agentId, controlHub, generation } = claim;
  const callId = newId('call', ctx.clock.nowMs(), ctx.random.bytes(10));
  const hub = controlHubObject(ctx.env, controlHub);
  const outcome = await hub.call(agentId, callId, op, { sessionId, generation, ...input }, limits.callDeadlineMs);
  if (outcome.ok) {
    const result: unknown = callShapes[op].result.parse(outcome.result);
    return result as CallResult<Op>;
  }
  throw new Refusal(isErrorCode(outcome.code) ? outcome.code : 'internal', outcome.detail);
}
