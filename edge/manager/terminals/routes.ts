/** HTTP of terminals: make, list and close them, and a socket to look at one and to type into it. */
import { z } from 'zod';
import { SessionId } from '../../../schema/api/session.ts';
import { NewTerminal, TerminalList } from '../../../schema/api/terminal.ts';
import { Terminal, TerminalId } from '../../../schema/api/terminal-parts.ts';
import {
  NewTerminalLink,
  TerminalLinkCreated,
  TerminalLinkId,
  TerminalLinkList,
} from '../../../schema/api/terminal-link.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { reply, route, slice } from '../../http/slice.ts';
import { atAgent } from '../sessions/ask-agent.ts';
import { listLinks, openLink, revokeLink, shareTerminal } from './links.ts';
import { closeTerminal, listTerminals, openTerminalSocket, startTerminal } from './service.ts';

const SessionParams = z.strictObject({ id: SessionId });
const TerminalParams = z.strictObject({ id: SessionId, terminalId: TerminalId });
const LinkParams = TerminalParams.extend({ linkId: TerminalLinkId });
const path = '/v1/sessions/{id}/terminals/{terminalId}';
const unreachable = [...atAgent, 'terminal_not_found'] as const;

export const terminals = slice('terminals', [
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/terminals',
      summary: 'The terminals of a session that were not closed.',
      permission: 'project:read',
      request: { params: SessionParams },
      responses: { 200: { description: 'All of them.', schema: TerminalList } },
      errors: [...unreachable],
    },
    async (ctx, { params }) => reply(200, { items: await listTerminals(ctx, params.id) }),
  ),
  route(
    {
      method: 'post',
      path: '/v1/sessions/{id}/terminals',
      summary: 'Makes a terminal with a shell, or another program, that goes on while nobody looks.',
      permission: 'project:write',
      // By its id, if the caller chooses it.
      idempotent: 'none',
      request: { params: SessionParams, body: NewTerminal },
      responses: { 201: { description: 'It runs.', schema: Terminal } },
      errors: [...unreachable, 'terminal_conflict', 'terminal_limit', 'process_limit'],
    },
    async (ctx, { params, body }) => reply(201, await startTerminal(ctx, params.id, body)),
  ),
  route(
    {
      method: 'get',
      path,
      summary:
        'A socket of the tunnel: one terminal, its screen and what follows; who may write in the project may type into it.',
      permission: 'project:read',
      request: { params: TerminalParams },
      responses: {
        101: { description: `The subprotocol ${clientProtocol}; close codes 4401, 4403, 4404, 4409, 4503.` },
      },
      errors: [...unreachable],
      upgrade: { protocol: clientProtocol },
    },
    (ctx, { params }) => openTerminalSocket(ctx, params.id, params.terminalId),
  ),
  route(
    {
      method: 'delete',
      path,
      summary: 'Hangs a terminal up, and kills what does not heed that.',
      permission: 'project:write',
      request: { params: TerminalParams },
      responses: { 200: { description: 'It has ended.', schema: Terminal } },
      errors: [...unreachable, 'terminal_conflict'],
    },
    async (ctx, { params }) => reply(200, await closeTerminal(ctx, params.id, params.terminalId)),
  ),
  route(
    {
      method: 'post',
      path: `${path}/links`,
      summary: 'Makes a link by which anybody who has it may look at the terminal, and do nothing else, for a while.',
      permission: 'project:write',
      idempotent: 'begin',
      secret: true,
      request: { params: TerminalParams, body: NewTerminalLink },
      responses: { 201: { description: 'Made; its token is shown here alone.', schema: TerminalLinkCreated } },
      errors: [...unreachable, 'terminal_link_limit'],
    },
    async (ctx, { params, body }) => reply(201, await shareTerminal(ctx, params.id, params.terminalId, body)),
  ),
  route(
    {
      method: 'get',
      path: `${path}/links`,
      summary: 'The links to a terminal that are good still.',
      permission: 'project:write',
      request: { params: TerminalParams },
      responses: { 200: { description: 'All of them.', schema: TerminalLinkList } },
      errors: ['session_not_found'],
    },
    async (ctx, { params }) => reply(200, { items: await listLinks(ctx, params.id, params.terminalId) }),
  ),
  route(
    {
      method: 'delete',
      path: `${path}/links/{linkId}`,
      summary: 'Revokes a link. Who looks by it sees nothing any more within 5 s.',
      permission: 'project:write',
      request: { params: LinkParams },
      responses: { 204: { description: 'It is good for nothing any more.' } },
      errors: ['session_not_found', 'terminal_link_not_found'],
    },
    async (ctx, { params }) => {
      await revokeLink(ctx, params.id, params.terminalId, params.linkId);
      return reply(204);
    },
  ),
  route(
    {
      method: 'get',
      path: '/v1/shared-terminals/{terminalId}',
      summary:
        'A socket of the tunnel for whoever has a link: the screen of one terminal, and what follows; nothing is taken.',
      permission: 'terminal:view',
      request: { params: z.strictObject({ terminalId: TerminalId }) },
      responses: {
        101: { description: `The subprotocol ${clientProtocol}; close codes 4401, 4403, 4404, 4409, 4503.` },
      },
      errors: [...unreachable],
      upgrade: { protocol: clientProtocol },
    },
    (ctx, { params }) => openLink(ctx, params.terminalId),
  ),
]);
