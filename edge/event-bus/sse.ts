/**
 * Events as a text/event-stream: each with its cursor as `id:`, so that `Last-Event-ID` goes on behind it; `cursor_expired`
 * where something may be missing; a comment every 15 s, with the cursor when it went on without an event to show. It ends
 * when the reader may no longer listen (asked every 3 s and before each event), when the machine stops, or with the reader.
 */
import { type CausewayEvent, type EventCursor, formatEventCursor } from '../../schema/api/event.ts';
import type { ErrorCode } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { machine } from '../platform/draining.ts';
import type { EventFeed, FeedItem } from './feed.ts';

export interface EventStreamPorts {
  feed: EventFeed;
  /** Whether the reader may see an event. */
  sees(event: CausewayEvent): boolean;
  /** Whether the reader may still listen at all. Rejects when nobody can tell. */
  stillAllowed(): Promise<boolean>;
  waitUntil(work: Promise<unknown>): void;
  timers: Timers;
}

const heartbeatMs = 15_000;

/** How long a reader has to take its last event. */
const lastWordsMs = 2_000;

/** How long a client waits before it comes back, in milliseconds. */
const retryMs = 2_000;

export function renderEvent(event: CausewayEvent, cursor: EventCursor): string {
  return `id: ${formatEventCursor(cursor)}\ndata: ${JSON.stringify(event)}\n\n`;
}

export function renderExpired(): string {
  return 'event: cursor_expired\ndata: {"detail":"Events may be missing here: read the state anew."}\n\n';
}

function renderEnd(code: ErrorCode): string {
  return `event: end\ndata: ${JSON.stringify({ code })}\n\n`;
}

/** The body of the answer. Everything is let go of when it ends, whoever ends it. */
export function toEventStream(ports: EventStreamPorts): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const stream = new EventStream(ports, writable.getWriter());
  ports.waitUntil(stream.run());
  return readable;
}

class EventStream {
  readonly #ports: EventStreamPorts;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #encoder = new TextEncoder();
  #writing = 0;
  #shownCursor = '';
  #end: ErrorCode | 'gone' | undefined;

  constructor(ports: EventStreamPorts, writer: WritableStreamDefaultWriter<Uint8Array>) {
    this.#ports = ports;
    this.#writer = writer;
  }

  async run(): Promise<void> {
    const stopChecks = this.#every(limits.accessCheckMs, () => void this.#check());
    const stopHeartbeats = this.#every(heartbeatMs, () => void this.#beat());
    this.#writer.closed.catch(() => this.#finish('gone'));
    try {
      await this.#write(`retry: ${retryMs}\n\n`);
      for await (const item of this.#ports.feed.items()) {
        if (this.#end !== undefined) break;
        const text = this.#render(item);
        if (text === '') continue;
        await this.#check();
        if (this.#end !== undefined) break;
        await this.#write(text);
      }
      if (this.#end !== 'gone') await this.#write(renderEnd(this.#end ?? 'events_unavailable'));
      await this.#writer.close();
    } catch {
      // The reader is gone.
      await this.#writer.abort().catch(() => undefined);
    } finally {
      stopChecks();
      stopHeartbeats();
      this.#ports.feed.close();
    }
  }

  #render(item: FeedItem): string {
    if (item.kind === 'expired') return renderExpired();
    if (!this.#ports.sees(item.event)) return '';
    this.#shownCursor = formatEventCursor(item.cursor);
    return renderEvent(item.event, item.cursor);
  }

  async #check(): Promise<void> {
    if (machine.isDraining) this.#finish('deploy_overlap');
    const allowed = await this.#ports.stillAllowed().catch(() => undefined);
    if (allowed !== true) this.#finish(allowed === undefined ? 'events_unavailable' : 'auth_revoked');
  }

  /** Not while something waits to be read: a reader that does not read needs no sign of life. */
  async #beat(): Promise<void> {
    if (this.#writing > 0 || this.#end !== undefined) return;
    const cursor = this.#ports.feed.cursor;
    const text = cursor && formatEventCursor(cursor);
    const id = text === undefined || text === this.#shownCursor ? '' : `id: ${text}\n`;
    this.#shownCursor = text ?? '';
    await this.#write(`: alive\n${id}\n`).catch(() => this.#finish('gone'));
  }

  /** Ends the feed, and with it the loop. */
  #finish(end: ErrorCode | 'gone'): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#ports.feed.close();
    // A reader that does not read would hold its last words up, and itself.
    this.#ports.timers.after(lastWordsMs, () => void this.#writer.abort().catch(() => undefined));
  }

  /** Runs `task` again and again, until the returned function is called. */
  #every(delayMs: number, task: () => void): () => void {
    const again = () => {
      cancel = this.#ports.timers.after(delayMs, again);
      task();
    };
    let cancel = this.#ports.timers.after(delayMs, again);
    return () => cancel();
  }

  async #write(text: string): Promise<void> {
    this.#writing += 1;
    try {
      await this.#writer.write(this.#encoder.encode(text));
    } finally {
      this.#writing -= 1;
    }
  }
}
