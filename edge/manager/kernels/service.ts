/** The verbs of kernels: each is one call of the agent of the session. @throws Refusal, the agent's own among them */
import type { Kernel } from '../../../schema/api/kernel-parts.ts';
import { newId } from '../../../schema/ids.ts';
import type { CallInput } from '../../../schema/protocol/calls.ts';
import type { UserCtx } from '../../http/context.ts';
import { askAgent } from '../sessions/ask-agent.ts';

/** The kernels of a session that were not shut down. */
export async function listKernels(ctx: UserCtx, sessionId: string): Promise<Kernel[]> {
  return (await askAgent(ctx, sessionId, 'project:read', 'kernels', {})).kernels;
}

/** Starts a kernel, once for an id. */
export function startKernel(
  ctx: UserCtx,
  sessionId: string,
  { id, language }: { id?: string | undefined; language: Kernel['language'] },
) {
  const kernelId = id ?? newId('kernel', ctx.clock.nowMs(), ctx.random.bytes(10));
  return actOnKernel(ctx, sessionId, kernelId, { kind: 'start', language });
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
