/** Events as they travel through outboxes, Redis and `GET /v1/events`. */
import { z } from 'zod';

export const CausewayEvent = z
  .object({
    eventId: z.string(),
    type: z.string(),
    domainId: z.string(),
    projectId: z.string().optional(),
    objectId: z.string(),
    version: z.int().nonnegative(),
    atMs: z.int().nonnegative(),
    data: z.record(z.string(), z.unknown()),
  })
  .meta({ id: 'Event' });
export type CausewayEvent = z.infer<typeof CausewayEvent>;

/** Where a reader of the stream stands: the id of each event, and what `Last-Event-ID` brings back. */
export interface EventCursor {
  /** Another generation means that events may be missing between here and what is kept. */
  generation: string;
  /** Id of the entry in Redis: milliseconds, a dash, a number. */
  id: string;
}

const cursorPattern = /^([a-z0-9]{1,32})\.([0-9]{1,16}-[0-9]{1,16})$/;

/** Parses `<generation>.<redisId>`; undefined when it is none. */
export function parseEventCursor(text: string): EventCursor | undefined {
  const [, generation, id] = cursorPattern.exec(text) ?? [];
  return generation === undefined || id === undefined ? undefined : { generation, id };
}

export function formatEventCursor({ generation, id }: EventCursor): string {
  return `${generation}.${id}`;
}

/** Negative when `a` is before `b`. Both are ids of entries. */
export function compareEntryIds(a: string, b: string): number {
  const [aMs = 0, aNumber = 0] = a.split('-').map(Number);
  const [bMs = 0, bNumber = 0] = b.split('-').map(Number);
  return aMs - bMs || aNumber - bNumber;
}

/** Query of `GET /v1/events`. */
export const EventsQuery = z.strictObject({
  /** One type, or all of an object's: `session.*`. */
  type: z
    .string()
    .max(64)
    .regex(/^[a-z][a-z0-9-]*\.([a-z][a-z0-9-]*|\*)$/, 'must be a type of event: session.state, or session.*')
    .optional(),
  /** Id, or name in the actor's domain. */
  project: z.string().min(1).max(64).optional(),
  /** For a superadmin: another domain, by id or name. */
  domain: z.string().min(1).max(64).optional(),
  /** `false`: what is kept (behind the cursor, else the last 100), and the end. */
  follow: z.enum(['true', 'false']).default('true'),
});
export type EventsQuery = z.infer<typeof EventsQuery>;
