/** The event stream as text: ids, heartbeats, who may go on listening, and a reader that does not read. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { EventFeed } from '../../../edge/event-bus/feed.ts';
import { toEventStream } from '../../../edge/event-bus/sse.ts';
import { systemTimers } from '../../../edge/platform/clock.ts';
import { machine } from '../../../edge/platform/draining.ts';
import type { CausewayEvent, EventCursor } from '../../../schema/api/event.ts';
import type { Timers } from '../../../schema/ports.ts';
import { event, FakeRedis, SteppedTimers } from './fakes.ts';

let redis: FakeRedis;
beforeEach(() => {
  machine.isDraining = false;
  redis = new FakeRedis();
});
afterEach(() => {
  machine.isDraining = false;
});

interface Opened {
  /** All text so far. */
  text(): string;
  done: Promise<void>;
  running: Promise<unknown>;
  reader: ReadableStreamDefaultReader<Uint8Array>;
}

async function open(
  options: {
    cursor?: EventCursor;
    sees?: (event: CausewayEvent) => boolean;
    stillAllowed?: () => Promise<boolean>;
    isRead?: boolean;
    timers?: Timers;
  } = {},
): Promise<Opened> {
  const timers = options.timers ?? systemTimers;
  const feed = await EventFeed.open({ redis, timers }, 'dom_1', options.cursor);
  let running: Promise<unknown> = Promise.resolve();
  const body = toEventStream({
    feed,
    sees: options.sees ?? (() => true),
    stillAllowed: options.stillAllowed ?? (() => Promise.resolve(true)),
    waitUntil: (work) => void (running = work),
    timers,
  });
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  const read = async () => {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
    }
  };
  const done = options.isRead === false ? Promise.resolve() : read().catch(() => undefined);
  return { text: () => text, done, running, reader };
}

describe('an event', () => {
  it('has its cursor as id and itself as data, on one line', async () => {
    const stream = await open();
    redis.publish(7, { data: { text: 'two\nlines' } });
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.7-0\n'));
    const expected = JSON.stringify(event(7, { data: { text: 'two\nlines' } }));
    expect(stream.text()).toBe(`retry: 2000\n\nid: g.7-0\ndata: ${expected}\n\n`);
  });

  it('that the reader may not see is passed over, and its cursor comes with the next comment', async () => {
    const timers = new SteppedTimers();
    const stream = await open({ timers, sees: ({ projectId }) => projectId === 'prj_1' });
    redis.publish(1);
    redis.publish(2, { projectId: 'prj_2' });
    await timers.advance(15_000);
    expect(stream.text()).toContain('id: g.1-0\ndata: ');
    expect(stream.text()).not.toContain('prj_2');
    expect(stream.text()).toMatch(/: alive\nid: g\.2-0\n\n$/);
    await timers.advance(15_000);
    expect(stream.text()).toMatch(/: alive\n\n$/);
  });

  it('never polls: an idle stream asks Redis nothing', async () => {
    const timers = new SteppedTimers();
    redis.publish(1);
    const stream = await open({ timers });
    await timers.advance(10 * 60_000);
    expect(redis.asked).toEqual(['subscribe', 'head', 'after']);
    expect(stream.text().match(/: alive/g)).toHaveLength(40);
  });
});

describe('a reader', () => {
  it('whose rights are gone is told so within three seconds, though nothing happens', async () => {
    const timers = new SteppedTimers();
    let isAllowed = true;
    const stream = await open({ timers, stillAllowed: () => Promise.resolve(isAllowed) });
    await timers.advance(9_000);
    isAllowed = false;
    await timers.advance(3_000);
    await stream.done;
    expect(stream.text()).toMatch(/event: end\ndata: {"code":"auth_revoked"}\n\n$/);
    expect(redis.listeners).toBe(0);
  });

  it('whose rights are gone gets no event any more', async () => {
    const stream = await open({ stillAllowed: () => Promise.resolve(false) });
    redis.publish(1);
    await stream.done;
    expect(stream.text()).toBe('retry: 2000\n\nevent: end\ndata: {"code":"auth_revoked"}\n\n');
  });

  it('of whom nobody can tell is let go', async () => {
    const stream = await open({ stillAllowed: () => Promise.reject(new Error('the shard does not answer')) });
    redis.publish(1);
    await stream.done;
    expect(stream.text()).toContain('events_unavailable');
  });

  it('that goes away leaves no subscription and no timer behind', async () => {
    const stream = await open();
    redis.publish(1);
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.1-0'));
    await stream.reader.cancel();
    redis.publish(2);
    await stream.running;
    expect(redis.listeners).toBe(0);
  });

  it('that does not read holds no more than the buffer, and is cut off when its rights are gone', async () => {
    const timers = new SteppedTimers();
    let isAllowed = true;
    const stream = await open({ timers, isRead: false, stillAllowed: () => Promise.resolve(isAllowed) });
    const padding = 'x'.repeat(60_000);
    for (let n = 1; n <= 100; n += 1) redis.publish(n, { data: { padding } });
    await timers.advance(60_000);
    isAllowed = false;
    await timers.advance(3_000 + 2_000);
    await stream.running;
    expect(redis.listeners).toBe(0);
  });

  it('is sent away when the machine stops', async () => {
    const timers = new SteppedTimers();
    const stream = await open({ timers });
    machine.isDraining = true;
    await timers.advance(3_000);
    await stream.done;
    expect(stream.text()).toContain('{"code":"deploy_overlap"}');
  });
});

describe('a lost subscription', () => {
  it('is renewed behind the last event, without a hole and without repeating', async () => {
    const stream = await open();
    redis.publish(1);
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.1-0'));
    redis.cut();
    redis.publish(2);
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.2-0'), { timeout: 4_000 });
    redis.publish(3);
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.3-0'));
    expect(stream.text().match(/^id: .*/gm)).toEqual(['id: g.1-0', 'id: g.2-0', 'id: g.3-0']);
  });

  it('that can not be renewed ends the stream and says why', async () => {
    const timers = new SteppedTimers();
    const stream = await open({ timers });
    redis.isAway = true;
    redis.cut();
    await timers.advance(60_000);
    await stream.done;
    expect(stream.text()).toMatch(/event: end\ndata: {"code":"events_unavailable"}\n\n$/);
  });
});

describe('a cursor', () => {
  it('of another generation is answered with cursor_expired, then with what is kept behind it', async () => {
    redis.publish(5);
    redis.publish(6);
    const stream = await open({ cursor: { generation: 'older', id: '5-0' } });
    await vi.waitFor(() => expect(stream.text()).toContain('id: g.6-0'));
    expect(stream.text()).toMatch(/^retry: 2000\n\nevent: cursor_expired\ndata: {.*}\n\nid: g\.6-0\n/);
  });

  it('given by a stream that has lost everything is answered the same, and goes on with what comes', async () => {
    redis.generation = undefined;
    const stream = await open({ cursor: { generation: 'older', id: '5-0' } });
    redis.generation = 'new';
    redis.publish(6);
    await vi.waitFor(() => expect(stream.text()).toContain('id: new.6-0'));
    expect(stream.text().match(/cursor_expired/g)).toHaveLength(1);
  });
});
