/**
 * Before workerd stops on one machine its hubs close their sockets: an open WebSocket holds a draining workerd until its grace
 * ends, and is then cut without a close frame. Event streams end by themselves. In production the platform does this at each deploy.
 */
import { z } from 'zod';
import { Refusal } from '../../schema/errors.ts';
import type { Ctx } from '../http/context.ts';
import { reply, route, slice } from '../http/slice.ts';
import { machine as state } from '../platform/draining.ts';
import { controlHubObject, dataHubObject } from '../platform/objects.ts';

const Drained = z.object({ hubs: z.int().nonnegative() }).meta({ id: 'Drained' });

async function drain(ctx: Ctx): Promise<z.infer<typeof Drained>> {
  if (ctx.config.layout !== 'machine') throw new Refusal('route_not_found');
  state.isDraining = true;
  const hubs = [
    ...[...state.controlHubs].map((name) => controlHubObject(ctx.env, name)),
    ...[...state.dataHubs].map((name) => dataHubObject(ctx.env, name)),
  ];
  await Promise.all(hubs.map((hub) => hub.drain()));
  return { hubs: hubs.length };
}

/** The door by which the process of the edge says that it is about to stop. */
export const machine = slice('machine', [
  route(
    {
      method: 'post',
      path: '/internal/drain',
      summary: 'Closes every socket of this machine before its process stops.',
      permission: 'bootstrap',
      idempotent: 'none',
      responses: { 200: { description: 'Closed.', schema: Drained } },
      errors: ['route_not_found'],
    },
    async (ctx) => reply(200, await drain(ctx)),
  ),
]);
