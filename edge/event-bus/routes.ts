/** HTTP of the event bus: what happens, as server-sent events. */
import { z } from 'zod';
import { EventsQuery, parseEventCursor } from '../../schema/api/event.ts';
import { Refusal } from '../../schema/errors.ts';
import { route, slice } from '../http/slice.ts';
import { followEvents, keptEvents } from './service.ts';

const mediaType = 'text/event-stream';

export const events = slice('events', [
  route(
    {
      method: 'get',
      path: '/v1/events',
      summary: 'What happens in a domain, as server-sent events; `Last-Event-ID` goes on behind an event.',
      permission: 'project:read',
      request: {
        query: EventsQuery,
        headers: z.strictObject({ 'last-event-id': z.string().max(64).optional() }),
      },
      responses: {
        200: {
          description:
            'Events, each with its cursor as `id`. `cursor_expired`: events may be missing, read the state anew. ' +
            '`end` {code}: the reason why the stream ends.',
          contentType: mediaType,
        },
      },
      errors: ['events_unavailable', 'project_not_found', 'domain_not_found'],
    },
    async (ctx, { query, headers }) => {
      const lastId = headers['last-event-id'];
      const cursor = lastId === undefined || lastId === '' ? undefined : parseEventCursor(lastId);
      if (lastId !== undefined && lastId !== '' && !cursor)
        throw new Refusal('request_header_invalid', 'Last-Event-ID is not the id of an event.', {
          issues: [{ path: 'last-event-id', message: 'must be the id of an event, as events --json shows it' }],
        });
      const read = query.follow === 'true' ? followEvents : keptEvents;
      return new Response(await read(ctx, query, cursor), {
        headers: { 'content-type': `${mediaType}; charset=utf-8` },
      });
    },
  ),
]);
