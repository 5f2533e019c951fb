/** HTTP of kernels: code in, console out, over HTTP in slices or over a socket; and the kernels of a session themselves. */
import { z } from 'zod';
import { Execute, Executed, KernelList, KernelRestart, KernelspecList, NewKernel } from '../../../schema/api/kernel.ts';
import { Kernel, KernelId } from '../../../schema/api/kernel-parts.ts';
import { SessionId } from '../../../schema/api/session.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { atAgent } from '../sessions/ask-agent.ts';
import { socketRoute } from '../sessions/socket-route.ts';
import { execute } from './execute.ts';
import { actOnKernel, listKernels, listKernelspecs, startKernel } from './service.ts';

const SessionParams = z.strictObject({ id: SessionId });
const KernelParams = z.strictObject({ id: SessionId, kernelId: KernelId });
const path = '/v1/sessions/{id}/kernels/{kernelId}';
const unreachable = [...atAgent, 'kernel_not_found'] as const;
/** A code of 256 Ki characters, each at most as six bytes of JSON, and the commands of a batch. */
const bodyBytes = 5 * 1024 * 1024;

export const kernels = slice('kernels', [
  route(
    {
      method: 'post',
      path: '/v1/sessions/{id}/execute',
      summary:
        'Runs code in a kernel of the session, or goes on with a run: what it wrote, and whether more will come.',
      permission: 'project:write',
      // By its run id.
      idempotent: 'none',
      request: { params: SessionParams, body: Execute },
      responses: { 200: { description: 'A slice of the run.', schema: Executed } },
      errors: [
        ...unreachable,
        'kernel_language_missing',
        'kernel_spec_missing',
        'kernel_spec_unusable',
        'kernel_kind_wrong',
        'kernel_dead',
        'kernel_busy',
        'kernel_limit',
        'kernel_run_not_found',
        'kernel_run_conflict',
        'kernel_input_unasked',
        'process_limit',
      ],
      bodyLimitBytes: bodyBytes,
    },
    async (ctx, { params, body }) => reply(200, await execute(ctx, params.id, body)),
  ),
  socketRoute(
    'execute',
    'runs code in kernels of the session, or speaks to those of Jupyter in their own messages, and reads their output from any offset.',
    unreachable,
  ),
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/kernels',
      summary: 'The kernels of a session that were not shut down.',
      permission: 'project:read',
      request: { params: SessionParams },
      responses: { 200: { description: 'All of them.', schema: KernelList } },
      errors: [...unreachable],
    },
    async (ctx, { params }) => reply(200, { items: await listKernels(ctx, params.id) }),
  ),
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/kernelspecs',
      summary: 'The kernels of Jupyter that the image of a session brings along.',
      permission: 'project:read',
      request: { params: SessionParams },
      responses: { 200: { description: 'All of them.', schema: KernelspecList } },
      errors: [...unreachable, 'kernel_spec_unusable', 'process_limit'],
    },
    async (ctx, { params }) => reply(200, { items: await listKernelspecs(ctx, params.id) }),
  ),
  route(
    {
      method: 'post',
      path: '/v1/sessions/{id}/kernels',
      summary: 'Starts a kernel that keeps its state: an interpreter of the image, or a kernel of Jupyter in it.',
      permission: 'project:write',
      // By its id, if the caller chooses it.
      idempotent: 'none',
      request: { params: SessionParams, body: NewKernel },
      responses: { 201: { description: 'It runs, or is starting still after 10 s.', schema: Kernel } },
      errors: [
        ...unreachable,
        'kernel_language_missing',
        'kernel_spec_missing',
        'kernel_spec_unusable',
        'kernel_limit',
        'process_limit',
      ],
    },
    async (ctx, { params, body }) => reply(201, await startKernel(ctx, params.id, body)),
  ),
  route(
    {
      method: 'post',
      path: `${path}/interrupt`,
      summary: 'Interrupts the run under way, if there is one.',
      permission: 'project:write',
      idempotent: 'none',
      request: { params: KernelParams },
      responses: { 200: { description: 'It was sent the signal.', schema: Kernel } },
      errors: [...unreachable],
    },
    async (ctx, { params }) => reply(200, await actOnKernel(ctx, params.id, params.kernelId, { kind: 'interrupt' })),
  ),
  route(
    {
      method: 'post',
      path: `${path}/restart`,
      summary: 'Starts a kernel anew, without its state; runs that were under way or waited are over.',
      permission: 'project:write',
      idempotent: 'none',
      request: { params: KernelParams, body: KernelRestart },
      responses: { 200: { description: 'It runs, or is starting still after 10 s.', schema: Kernel } },
      errors: [...unreachable, 'process_limit'],
    },
    async (ctx, { params, body: { starts } }) => {
      const act = { kind: 'restart' as const, ...(starts === undefined ? {} : { starts }) };
      return reply(200, await actOnKernel(ctx, params.id, params.kernelId, act));
    },
  ),
  route(
    {
      method: 'delete',
      path,
      summary: 'Ends a kernel; what it ran can still be read.',
      permission: 'project:write',
      request: { params: KernelParams },
      responses: { 200: { description: 'It has ended.', schema: Kernel } },
      errors: [...unreachable],
    },
    async (ctx, { params }) => reply(200, await actOnKernel(ctx, params.id, params.kernelId, { kind: 'shutdown' })),
  ),
]);
