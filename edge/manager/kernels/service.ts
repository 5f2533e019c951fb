/** The verbs of kernels: each is one call of the agent of the session. @throws Refusal, the agent's own among them */
import type { NewKernel } from '../../../schema/api/kernel.ts';
import type { Kernel, Kernelspec } from '../../../schema/api/kernel-parts.ts';
import type { z } from 'zod';
import { isErrorCode, Refusal } from '../../../schema/errors.ts';
import { newId } from '../../../schema/ids.ts';
import { type CallInput, type CallOp, callShapes } from '../../../schema/protocol/calls.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { UserCtx } from '../../http/context.ts';
import type { ProjectVerb } from '../../http/permission.ts';
import { controlHubObject } from '../../platform/objects.ts';
import { streamTarget } from '../sessions/streams.ts';

/** The kernels of a session that were not shut down. */
export async function listKernels(ctx: UserCtx, sessionId: string): Promise<Kernel[]> {
  const result = await ask(ctx, sessionId, 'project:read', 'kernels', {});
  return callShapes.kernels.result.parse(result).kernels;
}

/** The kernelspecs of a session's image. */
export async function listKernelspecs(ctx: UserCtx, sessionId: string): Promise<Kernelspec[]> {
  const result = await ask(ctx, sessionId, 'project:read', 'kernelspecs', {});
  return callShapes.kernelspecs.result.parse(result).specs;
}

/** Starts a kernel, once for an id. */
export function startKernel(ctx: UserCtx, sessionId: string, body: z.infer<typeof NewKernel>): Promise<Kernel> {
  const kernelId = body.id ?? newId('kernel', ctx.clock.nowMs(), ctx.random.bytes(10));
  if ('language' in body) return actOnKernel(ctx, sessionId, kernelId, { kind: 'start', language: body.language });
  const { spec, restarts } = body;
  const act = { kind: 'startSpec' as const, spec, ...(restarts === null ? {} : { restarts }) };
  return actOnKernel(ctx, sessionId, kernelId, act);
}

/** Does something with one kernel, and answers how it is then. */
export async function actOnKernel(
  ctx: UserCtx,
  sessionId: string,
  kernelId: string,
  act: CallInput<'kernel'>['act'],
): Promise<Kernel> {
  const result = await ask(ctx, sessionId, 'project:write', 'kernel', { kernelId, act });
  return callShapes.kernel.result.parse(result).kernel;
}

async function ask(ctx: UserCtx, sessionId: string, verb: ProjectVerb, op: CallOp, input: object): Promise<unknown> {
  const { claim } = await streamTarget(ctx, sessionId, verb === 'project:read' ? verb : 'project:write', []);
  const { agentId, controlHub, generation } = claim;
  const callId = newId('call', ctx.clock.nowMs(), ctx.random.bytes(10));
  const hub = controlHubObject(ctx.env, controlHub);
  const outcome = await hub.call(agentId, callId, op, { sessionId, generation, ...input }, limits.callDeadlineMs);
  if (outcome.ok) return outcome.result;
  throw new Refusal(isErrorCode(outcome.code) ? outcome.code : 'internal', outcome.detail);
}
