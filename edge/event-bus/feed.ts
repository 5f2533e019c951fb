/**
 * The events of one domain for one reader, in order and without duplicates, from a cursor on: subscribe first and buffer,
 * then read the stream from the cursor, then what was buffered. Never polls. When the subscription ends, or the reader was
 * too slow for the buffer, it begins anew behind the last event it gave.
 */
import { z } from 'zod';
import { CausewayEvent, compareEntryIds, type EventCursor, parseEventCursor } from '../../schema/api/event.ts';
import type { Timers } from '../../schema/ports.ts';
import { eventChannel, redisKeys } from '../../schema/redis-scripts.ts';
import { type EdgeRedis, RedisUnavailable, type StreamHead } from '../platform/redis-door.ts';
import { beginning, isContinuous } from './continuity.ts';
import { Inbox } from './inbox.ts';

export interface FeedPorts {
  redis: EdgeRedis;
  timers: Timers;
}

/** `expired`: events between the reader's cursor and what follows may be missing. */
export type FeedItem = { kind: 'event'; event: CausewayEvent; cursor: EventCursor } | { kind: 'expired' };

/** As `publishScript` announces an event. */
const Announcement = z.object({ cursor: z.string(), event: z.unknown() });

const bufferBytes = 1024 * 1024;
const pageEntries = 100;
/** Event ids remembered against an event that stands in the stream twice. */
const rememberedIds = 1_000;
/** Pauses before another subscription; after the last one the reader is sent away, to come back with its cursor. */
const pausesMs = [100, 500, 1_000, 2_000, 4_000, 8_000, 8_000];

export class EventFeed {
  readonly #ports: FeedPorts;
  readonly #domainId: string;
  readonly #seen = new Set<string>();
  #inbox = new Inbox(bufferBytes);
  #closeSubscription: () => void = () => undefined;
  #isClosed = false;
  /** Behind the last event given, or passed over; undefined until the feed is open. */
  #cursor: EventCursor | undefined;
  /** Of what is kept, as last heard; undefined while there is none. */
  #generation: string | undefined;
  #mustExpire = false;

  private constructor(ports: FeedPorts, domainId: string, cursor: EventCursor | undefined) {
    this.#ports = ports;
    this.#domainId = domainId;
    this.#cursor = cursor;
  }

  /** Opens a feed from a cursor, or from now. @throws RedisUnavailable */
  static async open(ports: FeedPorts, domainId: string, cursor: EventCursor | undefined): Promise<EventFeed> {
    const feed = new EventFeed(ports, domainId, cursor);
    await feed.#attach();
    return feed;
  }

  /** Where the reader stands; undefined while nothing was ever published. */
  get cursor(): EventCursor | undefined {
    return this.#generation === undefined || this.#cursor?.id === beginning ? undefined : this.#cursor;
  }

  /** Ends the feed: what is being waited for comes to its end. */
  close(): void {
    this.#isClosed = true;
    this.#inbox.close('closed');
    this.#closeSubscription();
  }

  /** Everything from the cursor on, until closed. Ends by itself when Redis stays away. */
  async *items(): AsyncGenerator<FeedItem, void> {
    while (!this.#isClosed) {
      if (this.#mustExpire) {
        this.#mustExpire = false;
        yield { kind: 'expired' };
      }
      try {
        yield* this.#stored();
        yield* this.#announced();
      } catch (error) {
        // The stream could not be read: the same as a lost subscription.
        if (!(error instanceof RedisUnavailable)) throw error;
      }
      if (this.#isClosed || !(await this.#attachAgain())) return;
    }
  }

  async #attach(): Promise<void> {
    const inbox = new Inbox(bufferBytes);
    const { redis } = this.#ports;
    const subscription = await redis.subscribe(eventChannel(this.#domainId), (message) => inbox.push(message));
    void subscription.ended.then((reason) => inbox.close(reason));
    if (this.#isClosed) {
      subscription.close();
      return;
    }
    this.#closeSubscription();
    this.#closeSubscription = () => subscription.close();
    this.#inbox = inbox;
    try {
      this.#judge(await redis.head(redisKeys.generation, redisKeys.events(this.#domainId)));
    } catch (error) {
      subscription.close();
      throw error;
    }
  }

  /** Without a cursor the reader begins now; with one it may have missed something. */
  #judge(head: StreamHead): void {
    const id = this.#cursor?.id ?? head.newestId ?? beginning;
    // A reader of an empty stream can not have missed anything but its first generation.
    if (this.#cursor && this.#cursor.generation !== '' && !isContinuous(this.#cursor, head)) this.#mustExpire = true;
    this.#generation = head.generation;
    this.#cursor = { generation: head.generation ?? '', id };
  }

  async #attachAgain(): Promise<boolean> {
    for (const pauseMs of pausesMs) {
      await new Promise<void>((resolve) => this.#ports.timers.after(pauseMs, resolve));
      if (this.#isClosed) return false;
      try {
        await this.#attach();
        return !this.#isClosed;
      } catch {
        // The next pause is longer.
      }
    }
    return false;
  }

  /** What the stream keeps behind the cursor. */
  async *#stored(): AsyncGenerator<FeedItem, void> {
    const generation = this.#generation;
    if (generation === undefined) return;
    while (!this.#isClosed) {
      const entries = await this.#ports.redis.after(redisKeys.events(this.#domainId), this.#cursor?.id, pageEntries);
      for (const { id, value } of entries) yield* this.#give({ generation, id }, parse(value));
      if (entries.length < pageEntries) return;
    }
  }

  /** What was heard meanwhile, and what is heard from now on. */
  async *#announced(): AsyncGenerator<FeedItem, void> {
    for (;;) {
      const message = await this.#inbox.take();
      if (message === undefined || this.#isClosed) return;
      const { data: heard } = Announcement.safeParse(parse(message));
      const cursor = heard && parseEventCursor(heard.cursor);
      if (!cursor || (this.#cursor && compareEntryIds(cursor.id, this.#cursor.id) <= 0)) continue;
      const isOther = this.#generation !== undefined && this.#generation !== cursor.generation;
      this.#generation = cursor.generation;
      if (isOther) yield { kind: 'expired' };
      yield* this.#give(cursor, heard.event);
    }
  }

  *#give(cursor: EventCursor, value: unknown): Generator<FeedItem, void> {
    this.#cursor = cursor;
    const { data: event } = CausewayEvent.safeParse(value);
    if (!event || this.#seen.has(event.eventId)) return;
    this.#seen.add(event.eventId);
    if (this.#seen.size > rememberedIds) this.#seen.delete(this.#seen.values().next().value ?? '');
    yield { kind: 'event', event, cursor };
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}
