/** What a Jupyter server says of itself and of who asks. */
import type { z } from 'zod';
import type { JupyterMe, JupyterStatus } from '../../../schema/api/jupyter.ts';
import type { UserCtx } from '../../http/context.ts';
import { listJupyterKernels } from './kernels.ts';

/** The actor, by the name in front of the @. */
export function whoami({ actor }: UserCtx): z.infer<typeof JupyterMe> {
  const name = actor.email.split('@')[0] ?? actor.email;
  return {
    identity: {
      username: actor.userId,
      name,
      display_name: name,
      initials: name.slice(0, 2).toUpperCase(),
      avatar_url: null,
      color: null,
    },
    permissions: {},
  };
}

/** In numbers. Nothing of it began with a process: what is asked for last is now. */
export async function statusOf(ctx: UserCtx, scope: string | undefined): Promise<z.infer<typeof JupyterStatus>> {
  const kernels = await listJupyterKernels(ctx, scope);
  const now = new Date(ctx.clock.nowMs()).toISOString();
  const active = kernels.map((kernel) => kernel.last_activity).sort();
  const connections = kernels.reduce((sum, kernel) => sum + kernel.connections, 0);
  return { started: active[0] ?? now, last_activity: active.at(-1) ?? now, connections, kernels: kernels.length };
}
