/** Asks an agent how it is, and measures how far away it is and how wrong its clock. An agent that does not answer is no error. */
import type { AgentShown } from '../../../schema/api/agent.ts';
import { newId } from '../../../schema/ids.ts';
import { callShapes } from '../../../schema/protocol/calls.ts';
import type { UserCtx } from '../../http/context.ts';
import { controlHubObject } from '../../platform/objects.ts';
import type { AgentRow } from './store.ts';

/** Somebody waits for the page. */
const deadlineMs = 2_000;

export async function diagnose(
  ctx: UserCtx,
  { id, controlHub }: AgentRow,
): Promise<Pick<AgentShown, 'diagnosis' | 'unanswered'>> {
  const callId = newId('call', ctx.clock.nowMs(), ctx.random.bytes(10));
  const askedAtMs = ctx.clock.nowMs();
  const outcome = await controlHubObject(ctx.env, controlHub).call(id, callId, 'describe', {}, deadlineMs);
  const answeredAtMs = ctx.clock.nowMs();
  if (!outcome.ok) return { unanswered: outcome.code };
  const said = callShapes.describe.result.safeParse(outcome.result);
  if (!said.success) return { unanswered: 'request_body_invalid' };
  return {
    diagnosis: {
      ...said.data,
      roundTripMs: Math.max(0, answeredAtMs - askedAtMs),
      clockOffsetMs: Math.round(said.data.nowMs - (askedAtMs + answeredAtMs) / 2),
    },
  };
}
