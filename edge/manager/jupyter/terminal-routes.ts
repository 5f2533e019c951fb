/** HTTP of the gateway's terminals: the same at `/jupyter` and, for the terminals of one session, below it. */
import { z } from 'zod';
import { JupyterTerminal, JupyterTerminals, NewJupyterTerminal } from '../../../schema/api/jupyter.ts';
import { SessionId } from '../../../schema/api/session.ts';
import type { ErrorCode } from '../../../schema/errors.ts';
import { reply, route, type Route } from '../../http/slice.ts';
import { atAgent } from '../sessions/ask-agent.ts';
import { openJupyterTerminal } from './connect-terminal.ts';
import { jupyterSurface as surface } from './surface.ts';
import { endJupyterTerminal, listJupyterTerminals, showJupyterTerminal, startJupyterTerminal } from './terminals.ts';

const ofTerminal: readonly ErrorCode[] = [...atAgent, 'terminal_not_found'];
const atStart: readonly ErrorCode[] = [
  ...atAgent,
  'jupyter_session_required',
  'terminal_conflict',
  'terminal_limit',
  'process_limit',
];
/** Names of others are looked up, not judged: what is none is 404. */
const word = z.string().max(256);

/** Jupyter's routes of terminals below `base`. */
export function terminalRoutesAt(base: '/jupyter' | '/v1/sessions/{id}/jupyter'): Route[] {
  const isScoped = base !== '/jupyter';
  const where = isScoped ? ' of the session' : '';
  const scope = isScoped ? { id: SessionId } : {};
  const Scope = z.strictObject(scope);
  const OneTerminal = z.strictObject({ ...scope, name: word });
  const scopeOf = (params: Record<string, unknown>) => params['id'] as string | undefined;
  const nameIn = (params: Record<string, unknown>) => String(params['name']);
  const terminals = `${base}/api/terminals` as const;
  const terminal = `${terminals}/{name}` as const;
  return [
    route(
      {
        method: 'get',
        path: terminals,
        summary: `Jupyter: the terminals${where || ' of the sessions of kernels'} that run.`,
        permission: 'project:write',
        surface,
        request: { params: Scope },
        responses: { 200: { description: 'All of them.', schema: JupyterTerminals } },
        errors: atAgent,
      },
      async (ctx, { params }) => reply(200, await listJupyterTerminals(ctx, scopeOf(params))),
    ),
    route(
      {
        method: 'post',
        path: terminals,
        summary: isScoped
          ? 'Jupyter: opens a terminal in the session, or answers the one that runs under the name.'
          : 'Jupyter: opens a terminal in the session of the kernel that its user started last.',
        permission: 'project:write',
        surface,
        idempotent: 'none',
        request: { params: Scope, body: NewJupyterTerminal },
        responses: { 200: { description: 'It runs.', schema: JupyterTerminal } },
        errors: atStart,
      },
      async (ctx, { params, body }) => reply(200, await startJupyterTerminal(ctx, scopeOf(params), body)),
    ),
    route(
      {
        method: 'get',
        path: terminal,
        summary: `Jupyter: one terminal${where} that runs.`,
        permission: 'project:write',
        surface,
        request: { params: OneTerminal },
        responses: { 200: { description: 'The terminal.', schema: JupyterTerminal } },
        errors: ofTerminal,
      },
      async (ctx, { params }) => reply(200, await showJupyterTerminal(ctx, scopeOf(params), nameIn(params))),
    ),
    route(
      {
        method: 'delete',
        path: terminal,
        summary: `Jupyter: hangs up a terminal${where}.`,
        permission: 'project:write',
        surface,
        request: { params: OneTerminal },
        responses: { 204: { description: 'It has ended.' } },
        errors: [...ofTerminal, 'terminal_conflict'],
      },
      async (ctx, { params }) => {
        await endJupyterTerminal(ctx, scopeOf(params), nameIn(params));
        return reply(204);
      },
    ),
    route(
      {
        method: 'get',
        path: `${base}/terminals/websocket/{name}`,
        summary: `Jupyter: the screen of a terminal${where}, what follows, and what is typed, as terminado says it.`,
        permission: 'project:write',
        surface,
        request: { params: OneTerminal, query: z.looseObject({}) },
        responses: { 101: { description: 'Close codes 1007, 1008, 4401, 4403, 4404.' } },
        errors: [...ofTerminal, 'tunnel_stream_limit'],
        upgrade: {},
      },
      (ctx, { params }) => openJupyterTerminal(ctx, scopeOf(params), nameIn(params)),
    ),
  ];
}
