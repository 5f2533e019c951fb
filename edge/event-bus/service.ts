/** The verbs of the event bus: follow what happens, or read what is kept of it. */
import { CausewayEvent, type EventCursor, type EventsQuery } from '../../schema/api/event.ts';
import { Refusal } from '../../schema/errors.ts';
import { redisKeys } from '../../schema/redis-scripts.ts';
import { stillAllowed } from '../http/access.ts';
import type { UserCtx } from '../http/context.ts';
import { systemTimers } from '../platform/clock.ts';
import { redisOf } from '../platform/redis.ts';
import { type EdgeRedis, RedisUnavailable } from '../platform/redis-door.ts';
import { isContinuous } from './continuity.ts';
import { EventFeed } from './feed.ts';
import { requireScope } from './scope.ts';
import { renderEvent, renderExpired, toEventStream } from './sse.ts';

/** Without a cursor, so many of the last events that the reader may see, out of so many entries. */
const keptShown = 100;
const keptLooked = 1_000;
/** With a cursor, so many entries at most; the last id goes on from there. */
const keptPages = 10;
const pageEntries = 100;

/** Events from the cursor on (else from now on) without an end. @throws Refusal `events_unavailable` and those of the scope */
export async function followEvents(
  ctx: UserCtx,
  query: EventsQuery,
  cursor: EventCursor | undefined,
): Promise<ReadableStream<Uint8Array>> {
  const scope = await requireScope(ctx, query);
  const redis = requireRedis(ctx);
  const feed = await orUnavailable(EventFeed.open({ redis, timers: systemTimers }, scope.domainId, cursor));
  return toEventStream({
    feed,
    sees: (event) => scope.sees(event),
    stillAllowed: stillAllowed(ctx, scope.projectId),
    waitUntil: (work) => ctx.waitUntil(work),
    timers: systemTimers,
  });
}

/** What is kept behind the cursor (at most 1,000 entries), else the last 100 events. */
export async function keptEvents(ctx: UserCtx, query: EventsQuery, cursor: EventCursor | undefined): Promise<string> {
  const scope = await requireScope(ctx, query);
  const redis = requireRedis(ctx);
  const stream = redisKeys.events(scope.domainId);
  const head = await orUnavailable(redis.head(redisKeys.generation, stream));
  const generation = head.generation ?? '';
  const entries = cursor
    ? await orUnavailable(readAfter(redis, stream, cursor.id))
    : await orUnavailable(redis.last(stream, keptLooked));
  const shown = entries.flatMap(({ id, value }) => {
    const event = CausewayEvent.parse(JSON.parse(value));
    return scope.sees(event) ? [renderEvent(event, { generation, id })] : [];
  });
  const expired = cursor && !isContinuous(cursor, head) ? renderExpired() : '';
  return expired + (cursor ? shown : shown.slice(-keptShown)).join('');
}

async function readAfter(redis: EdgeRedis, stream: string, from: string) {
  const entries = [];
  for (let page = 0; page < keptPages; page += 1) {
    const part = await redis.after(stream, entries.at(-1)?.id ?? from, pageEntries);
    entries.push(...part);
    if (part.length < pageEntries) break;
  }
  return entries;
}

function requireRedis(ctx: UserCtx): EdgeRedis {
  const redis = redisOf(ctx.env);
  if (redis) return redis;
  throw new Refusal('events_unavailable', 'This control plane runs without Redis, which carries events.', {
    retryAfterSeconds: 60,
  });
}

async function orUnavailable<Answer>(work: Promise<Answer>): Promise<Answer> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof RedisUnavailable)) throw error;
    throw new Refusal(
      'events_unavailable',
      'Redis does not answer. Nothing is lost by that: come back with Last-Event-ID.',
      {
        retryAfterSeconds: 5,
      },
    );
  }
}
