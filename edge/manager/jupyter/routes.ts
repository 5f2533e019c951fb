/** HTTP of the Jupyter gateway: the same at `/jupyter` and, for the kernels of one session, below it. */
import { z } from 'zod';
import {
  JupyterChannelsQuery,
  JupyterKernel,
  JupyterKernels,
  JupyterKernelspec,
  JupyterKernelspecs,
  JupyterMe,
  JupyterSession,
  JupyterSessionPatch,
  JupyterSessions,
  JupyterStatus,
  JupyterVersion,
  NewJupyterKernel,
  NewJupyterSession,
} from '../../../schema/api/jupyter.ts';
import { KernelId } from '../../../schema/api/kernel-parts.ts';
import { SessionId } from '../../../schema/api/session.ts';
import { type ErrorCode, Refusal } from '../../../schema/errors.ts';
import { reply, route, type Route, slice } from '../../http/slice.ts';
import { atAgent } from '../sessions/ask-agent.ts';
import { openChannels } from './connect.ts';
import { v1Protocol } from './client-socket.ts';
import {
  endJupyterKernel,
  getJupyterKernelspec,
  interruptJupyterKernel,
  listJupyterKernels,
  listJupyterKernelspecs,
  restartJupyterKernel,
  showKernel,
  startJupyterKernel,
} from './kernels.ts';
import { OutputsQuery, openOutputs } from './outputs.ts';
import {
  createJupyterSession,
  deleteJupyterSession,
  getJupyterSession,
  listJupyterSessions,
  patchJupyterSession,
} from './sessions.ts';
import { statusOf, whoami } from './server.ts';
import { jupyterSurface } from './surface.ts';
import { terminalRoutesAt } from './terminal-routes.ts';

/** Of the REST API of jupyter-server that this is like. */
const version = '2.15.0';

const ofKernel: readonly ErrorCode[] = [...atAgent, 'kernel_not_found', 'kernel_spec_missing', 'kernel_spec_unusable'];
const atStart: readonly ErrorCode[] = [
  ...ofKernel,
  'project_required',
  'project_not_found',
  'group_not_found',
  'session_image_invalid',
  'session_too_large',
  'session_quota_exceeded',
  'session_name_taken',
  'kernel_limit',
  'process_limit',
  'jupyter_kernelspec_missing',
  'jupyter_start_waits',
];
const surface = jupyterSurface;
/** Ids and names of others are looked up, not judged: what is none is 404. */
const word = z.string().max(256);

function routesAt(base: '/jupyter' | '/v1/sessions/{id}/jupyter'): Route[] {
  const isScoped = base !== '/jupyter';
  const where = isScoped ? ' of the session' : '';
  const paramsWith = (shape: Record<string, z.ZodType>) =>
    z.strictObject({ ...(isScoped ? { id: SessionId } : {}), ...shape });
  const Scope = paramsWith({});
  const OneKernel = paramsWith({ kernelId: word });
  const OneSession = paramsWith({ sessionId: word });
  const OneSpec = paramsWith({ name: word });
  const OneResource = paramsWith({ name: word, resource: word });
  const scopeOf = (params: Record<string, unknown>) => params['id'] as string | undefined;
  const at = (params: Record<string, unknown>, name: string) => String(params[name]);
  const kernels = `${base}/api/kernels` as const;
  const kernel = `${kernels}/{kernelId}` as const;
  const sessions = `${base}/api/sessions` as const;
  const session = `${sessions}/{sessionId}` as const;
  return [
    route(
      {
        method: 'get',
        path: `${base}/api`,
        summary: `Jupyter: the version of the REST API${where}.`,
        permission: 'authenticated',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'The version.', schema: JupyterVersion } },
      },
      () => reply(200, { version }),
    ),
    route(
      {
        method: 'get',
        path: `${base}/api/me`,
        summary: `Jupyter: who asks${where}.`,
        permission: 'authenticated',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'The identity.', schema: JupyterMe } },
      },
      (ctx) => reply(200, whoami(ctx)),
    ),
    route(
      {
        method: 'get',
        path: `${base}/api/status`,
        summary: `Jupyter: how many kernels there are${where}.`,
        permission: 'project:write',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'In numbers.', schema: JupyterStatus } },
        errors: ofKernel,
      },
      async (ctx, { params }) => reply(200, await statusOf(ctx, scopeOf(params))),
    ),
    route(
      {
        method: 'get',
        path: `${base}/api/kernelspecs`,
        summary: `Jupyter: the kernels that can be started${where}.`,
        permission: 'project:write',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'Their kernelspecs.', schema: JupyterKernelspecs } },
        errors: [...ofKernel, 'project_required', 'project_not_found', 'group_not_found'],
      },
      async (ctx, { params }) => reply(200, await listJupyterKernelspecs(ctx, scopeOf(params))),
    ),
    route(
      {
        method: 'get',
        path: `${base}/api/kernelspecs/{name}`,
        summary: `Jupyter: one kernelspec${where}.`,
        permission: 'project:write',
        surface,
        request: { params: OneSpec },
        responses: { 200: { description: 'The kernelspec.', schema: JupyterKernelspec } },
        errors: [...ofKernel, 'project_required', 'project_not_found', 'group_not_found', 'jupyter_kernelspec_missing'],
      },
      async (ctx, { params }) => reply(200, await getJupyterKernelspec(ctx, scopeOf(params), at(params, 'name'))),
    ),
    route(
      {
        method: 'get',
        path: `${base}/kernelspecs/{name}/{resource}`,
        summary: `Jupyter: a file of a kernelspec${where}. There are none: clients show a picture of their own.`,
        permission: 'project:write',
        surface,
        request: { params: OneResource },
        responses: { 200: { description: 'Never.' } },
        errors: ['jupyter_kernelspec_missing'],
      },
      () => {
        throw new Refusal('jupyter_kernelspec_missing', 'Kernelspecs have no files here.');
      },
    ),
    route(
      {
        method: 'get',
        path: kernels,
        summary: `Jupyter: the kernels${where} that run or are being started.`,
        permission: 'project:write',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'All of them.', schema: JupyterKernels } },
        errors: ofKernel,
      },
      async (ctx, { params }) => reply(200, await listJupyterKernels(ctx, scopeOf(params))),
    ),
    route(
      {
        method: 'post',
        path: kernels,
        summary: isScoped
          ? 'Jupyter: starts a kernel of the session.'
          : 'Jupyter: starts a kernel, and a session for it; answers when that has found its place.',
        permission: 'project:write',
        surface,
        idempotent: 'none',
        request: { params: Scope, body: NewJupyterKernel },
        responses: { 201: { description: 'It is being started.', schema: JupyterKernel } },
        errors: atStart,
      },
      async (ctx, { params, body }) => {
        const started = await startJupyterKernel(ctx, scopeOf(params), body);
        return reply(201, started, { location: `${new URL(ctx.request.url).pathname}/${started.id}` });
      },
    ),
    route(
      {
        method: 'get',
        path: kernel,
        summary: `Jupyter: one kernel${where}.`,
        permission: 'project:write',
        surface,
        request: { params: OneKernel },
        responses: { 200: { description: 'The kernel.', schema: JupyterKernel } },
        errors: ofKernel,
      },
      async (ctx, { params }) => reply(200, await showKernel(ctx, scopeOf(params), at(params, 'kernelId'))),
    ),
    route(
      {
        method: 'delete',
        path: kernel,
        summary: isScoped
          ? 'Jupyter: ends a kernel of the session.'
          : 'Jupyter: ends a kernel, and the session that was made for it.',
        permission: 'project:write',
        surface,
        request: { params: OneKernel },
        responses: { 204: { description: 'It is being ended.' } },
        errors: ofKernel,
      },
      async (ctx, { params }) => {
        await endJupyterKernel(ctx, scopeOf(params), at(params, 'kernelId'));
        return reply(204);
      },
    ),
    route(
      {
        method: 'post',
        path: `${kernel}/interrupt`,
        summary: `Jupyter: interrupts a kernel${where}.`,
        permission: 'project:write',
        surface,
        idempotent: 'none',
        request: { params: OneKernel },
        responses: { 204: { description: 'It was told.' } },
        errors: ofKernel,
      },
      async (ctx, { params }) => {
        await interruptJupyterKernel(ctx, scopeOf(params), at(params, 'kernelId'));
        return reply(204);
      },
    ),
    route(
      {
        method: 'post',
        path: `${kernel}/restart`,
        summary: `Jupyter: starts a kernel${where} anew, without its state.`,
        permission: 'project:write',
        surface,
        idempotent: 'none',
        request: { params: OneKernel },
        responses: { 200: { description: 'It runs.', schema: JupyterKernel } },
        errors: [...ofKernel, 'kernel_limit', 'process_limit'],
      },
      async (ctx, { params }) => reply(200, await restartJupyterKernel(ctx, scopeOf(params), at(params, 'kernelId'))),
    ),
    route(
      {
        method: 'get',
        path: `${kernel}/channels`,
        summary: `Jupyter: the messages of a kernel${where}, with the subprotocol ${v1Protocol} or without one.`,
        permission: 'project:write',
        surface,
        request: { params: OneKernel, query: JupyterChannelsQuery },
        responses: { 101: { description: 'Close codes 1009 (a message over 30 MiB), 4401, 4403, 4404.' } },
        errors: [...ofKernel, 'tunnel_stream_limit'],
        upgrade: {},
      },
      (ctx, { params, query }) => openChannels(ctx, scopeOf(params), at(params, 'kernelId'), query.session_id),
    ),
    route(
      {
        method: 'get',
        path: sessions,
        summary: `Jupyter: names of kernels${where}, which its clients call sessions.`,
        permission: 'project:write',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'All of them.', schema: JupyterSessions } },
        errors: ofKernel,
      },
      async (ctx, { params }) => reply(200, await listJupyterSessions(ctx, scopeOf(params))),
    ),
    route(
      {
        method: 'post',
        path: sessions,
        summary: `Jupyter: gives a kernel${where} a name, and starts it when it is not there.`,
        permission: 'project:write',
        surface,
        idempotent: 'none',
        request: { params: Scope, body: NewJupyterSession },
        responses: { 201: { description: 'The session.', schema: JupyterSession } },
        errors: atStart,
      },
      async (ctx, { params, body }) => {
        const made = await createJupyterSession(ctx, scopeOf(params), body);
        return reply(201, made, { location: `${new URL(ctx.request.url).pathname}/${made.id}` });
      },
    ),
    route(
      {
        method: 'get',
        path: session,
        summary: `Jupyter: one name of a kernel${where}.`,
        permission: 'project:write',
        surface,
        request: { params: OneSession },
        responses: { 200: { description: 'The session.', schema: JupyterSession } },
        errors: [...ofKernel, 'jupyter_session_not_found'],
      },
      async (ctx, { params }) => reply(200, await getJupyterSession(ctx, scopeOf(params), at(params, 'sessionId'))),
    ),
    route(
      {
        method: 'patch',
        path: session,
        summary: `Jupyter: changes the name, the path or the kernel${where} of a session of Jupyter.`,
        permission: 'project:write',
        surface,
        request: { params: OneSession, body: JupyterSessionPatch },
        responses: { 200: { description: 'The session.', schema: JupyterSession } },
        errors: [...atStart, 'jupyter_session_not_found'],
      },
      async (ctx, { params, body }) =>
        reply(200, await patchJupyterSession(ctx, scopeOf(params), at(params, 'sessionId'), body)),
    ),
    route(
      {
        method: 'delete',
        path: session,
        summary: `Jupyter: takes away a name of a kernel${where}, and ends the kernel.`,
        permission: 'project:write',
        surface,
        request: { params: OneSession },
        responses: { 204: { description: 'Gone.' } },
        errors: [...ofKernel, 'jupyter_session_not_found'],
      },
      async (ctx, { params }) => {
        await deleteJupyterSession(ctx, scopeOf(params), at(params, 'sessionId'));
        return reply(204);
      },
    ),
    ...terminalRoutesAt(base),
  ];
}

const outputs = route(
  {
    method: 'get',
    path: '/v1/sessions/{id}/kernels/{kernelId}/outputs',
    summary: 'All that a kernel of Jupyter said since a place in its log, as records of its messages.',
    permission: 'project:read',
    request: { params: z.strictObject({ id: SessionId, kernelId: KernelId }), query: OutputsQuery },
    responses: {
      200: {
        description:
          'Records: a u32 (big endian), then so many bytes of a message in the framing of v1.kernel.websocket.jupyter.org. ' +
          '`causeway-starts` and `causeway-from` tell where they begin; where some are missing the answer breaks off.',
        contentType: 'application/octet-stream',
      },
    },
    errors: [...ofKernel, 'kernel_kind_wrong'],
  },
  (ctx, { params, query }) => openOutputs(ctx, params.id, params.kernelId, query),
);

export const jupyter = slice('jupyter', [...routesAt('/jupyter'), ...routesAt('/v1/sessions/{id}/jupyter'), outputs]);
