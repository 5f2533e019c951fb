/** The verbs of kernels: each is one call of the agent of the session. @throws Refusal, the agent's own among them */
import type { NewKernel } from '../../../schema/api/kernel.ts';
import type { Kernel, Kernelspec } from '../../../schema/api/kernel-parts.ts';
import type { z } from 'zod';
import { newId } from '../../../schema/ids.ts';
import type { CallInput } from '../../../schema/protocol/calls.ts';
import type { UserCtx } from '../../http/context.ts';
import { askAgent } from '../sessions/ask-agent.ts';

/** The kernels of a session that were not shut down. */
export async function listKernels(ctx: UserCtx, sessionId: string): Promise<Kernel[]> {
  return (await askAgent(ctx, sessionId, 'project:read', 'kernels', {})).kernels;
}

/** The kernelspecs of a session's image. */
export async function listKernelspecs(ctx: UserCtx, sessionId: string): Promise<Kernelspec[]> {
  return (await askAgent(ctx, sessionId, 'project:read', 'kernelspecs', {})).specs;
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
  return (await askAgent(ctx, sessionId, 'project:write', 'kernel', { kernelId, act })).kernel;
}
