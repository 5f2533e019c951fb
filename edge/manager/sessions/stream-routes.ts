/** HTTP of a session's bytes: output as bytes, events or a socket; processes over a socket; files in and out. */
import { z } from 'zod';
import { SessionId } from '../../../schema/api/session.ts';
import {
  areLines,
  filePartBytes,
  SessionFilesPutQuery,
  SessionFilesQuery,
  SessionLogsQuery,
} from '../../../schema/api/session-stream.ts';
import { Refusal } from '../../../schema/errors.ts';
import { clientProtocol } from '../../../schema/protocol/limits.ts';
import { checkUpgrade } from '../../http/corridor.ts';
import { reply, route, slice } from '../../http/slice.ts';
import type { UserCtx } from '../../http/context.ts';
import { renderItem, toEvents } from './log-events.ts';
import { lineEvents, lineObjects, lineTexts } from './log-lines.ts';
import { type OpenedLogs, parseLogCursor } from './opened-logs.ts';
import { socketRoute } from './socket-route.ts';
import { openDownload, openLogs, openSocket, toBody, toLines, toOutput, uploadPart } from './streams.ts';

const SessionParams = z.strictObject({ id: SessionId });
const tar = 'application/x-tar';
const ndjson = 'application/x-ndjson';
const unreachable = ['session_not_found', 'session_not_running', 'agent_unreachable', 'tunnel_closed'] as const;

/** How output is answered: lines where they are chosen or marked, or asked for as JSON; else bytes as they were written. */
function formOf(query: SessionLogsQuery, accept: string): { contentType: string; open: Opener } {
  if (accept.includes('text/event-stream')) {
    const render = areLines(query) ? lineEvents() : renderItem;
    return { contentType: 'text/event-stream', open: (ctx, logs) => toEvents(ctx, logs, render) };
  }
  if (accept.includes(ndjson)) return { contentType: ndjson, open: (ctx, logs) => toLines(ctx, logs, lineObjects()) };
  if (!areLines(query)) return { contentType: 'application/octet-stream', open: toOutput };
  const render = lineTexts(query.timestamps === 'true');
  return { contentType: 'text/plain; charset=utf-8', open: (ctx, logs) => toLines(ctx, logs, render) };
}
type Opener = (ctx: UserCtx, logs: OpenedLogs) => ReadableStream<Uint8Array>;

export const sessionStreams = slice('session-streams', [
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/logs',
      summary: 'Kept output of a process and what follows: bytes, server-sent events, or a socket of the tunnel.',
      permission: 'project:read',
      request: {
        params: SessionParams,
        query: SessionLogsQuery,
        headers: z.strictObject({
          'last-event-id': z.string().max(64).optional(),
          accept: z.string().max(512).optional(),
        }),
      },
      responses: {
        200: {
          description:
            'Bytes as they were written. `causeway-stdout-from` and `-stderr-from` tell the first offsets. Where bytes ' +
            'are missing the answer breaks off: ask on from there, and the header tells where they go on. With `since`, ' +
            '`until`, `grep` or `timestamps` lines of text; as `application/x-ndjson` lines as objects, with their times. `causeway-log-source` tells ' +
            'whether its agent sent it, or it lay in object storage.',
          contentType: 'application/octet-stream',
        },
      },
      errors: [
        ...unreachable,
        'session_generation_stale',
        'session_output_gone',
        'process_not_found',
        'session_logs_pattern_invalid',
      ],
    },
    async (ctx, { params, query, headers }) => {
      if (ctx.request.headers.get('upgrade') !== null) {
        checkUpgrade(ctx.request, clientProtocol);
        return openSocket(ctx, params.id, 'logs', query.generation);
      }
      const cursor = headers['last-event-id'] === undefined ? undefined : parseLogCursor(headers['last-event-id']);
      if (headers['last-event-id'] !== undefined && !cursor)
        throw new Refusal('request_header_invalid', 'Last-Event-ID is not an id of these events.');
      const { contentType, open } = formOf(query, headers.accept ?? '');
      const lines = contentType === ndjson || areLines(query);
      const logs = await openLogs(ctx, params.id, { query, lines, cursor });
      return new Response(open(ctx, logs), {
        headers: {
          'content-type': contentType,
          'causeway-generation': String(logs.generation),
          'causeway-log-source': logs.source,
          'causeway-stdout-from': String(logs.from.stdout),
          'causeway-stderr-from': String(logs.from.stderr),
        },
      });
    },
  ),
  socketRoute('exec', 'starts processes in the session, attaches to them, feeds and reads them.', [
    ...unreachable,
    'session_ended',
  ]),
  socketRoute('ssh', 'its streams are connections to the SSH server of the session.', [
    ...unreachable,
    'session_ended',
  ]),
  socketRoute('ports', 'its streams are connections to ports of the session, from within it.', [
    ...unreachable,
    'session_ended',
    'port_unreachable',
    'port_limit',
  ]),
  route(
    {
      method: 'get',
      path: '/v1/sessions/{id}/files',
      summary: 'A tar archive of a path below /home/work, also after the end while the home is kept.',
      permission: 'project:read',
      request: { params: SessionParams, query: SessionFilesQuery },
      responses: { 200: { description: 'The archive.', contentType: tar } },
      errors: [...unreachable, 'session_file_not_found', 'session_file_unsafe'],
    },
    async (ctx, { params, query }) => {
      const body = toBody(ctx, await openDownload(ctx, params.id, query.path));
      return new Response(body, { headers: { 'content-type': tar } });
    },
  ),
  route(
    {
      method: 'put',
      path: '/v1/sessions/{id}/files',
      summary: 'One part of a tar archive (at most 64 MiB); the last one unpacks it below /home/work.',
      permission: 'project:write',
      request: { params: SessionParams, query: SessionFilesPutQuery, body: 'stream' },
      responses: { 204: { description: 'The part is on the agent’s disk; after the last, all of it is unpacked.' } },
      errors: [
        ...unreachable,
        'session_file_offset',
        'session_file_unsafe',
        'session_file_not_found',
        'session_file_archive_unsafe',
      ],
      bodyLimitBytes: filePartBytes,
    },
    async (ctx, { params, query, body }) => {
      await uploadPart(ctx, params.id, query, body);
      return reply(204);
    },
  ),
]);
