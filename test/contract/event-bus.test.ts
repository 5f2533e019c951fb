/** From an outbox through Redis to a listener, over the real gateway: order, no loss, no duplicates, whatever is cut. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EventFeed, type FeedItem } from '../../edge/event-bus/feed.ts';
import { EventPublisher, newsMs } from '../../edge/event-bus/publish.ts';
import { type EdgeRedis, edgeRedis } from '../../edge/platform/redis-door.ts';
import type { CausewayEvent, EventCursor } from '../../schema/api/event.ts';
import { eventStreamMaxLength, redisKeys } from '../../schema/redis-scripts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { type RedisKind, startTestRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

const clock = { nowMs: () => Date.now(), bootMs: () => performance.now() };
const random = { bytes: (count: number) => crypto.getRandomValues(new Uint8Array(count)), fraction: Math.random };
const timers = { after: (delayMs: number, task: () => void) => (setTimeout(task, delayMs), () => undefined) };
const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
const domainId = 'dom_1';
/** Where nothing is meant to fail: machines that run tests are busy. */
const patienceMs = 10_000;

function event(n: number, more: Partial<CausewayEvent> = {}): CausewayEvent {
  const eventId = `evt_${String(n).padStart(6, '0')}`;
  return {
    eventId,
    type: 'session.state',
    domainId,
    objectId: 'ses_1',
    version: n,
    atMs: Date.now(),
    data: { n },
    ...more,
  };
}

const list = (from: number, count: number) => Array.from({ length: count }, (_, at) => event(from + at));

function publisher(redis: EdgeRedis | undefined, nowMs = clock.nowMs): EventPublisher {
  return new EventPublisher({ redis, clock: { ...clock, nowMs }, random, log });
}

/** As an outbox does: what is not settled is given again. A busy machine may miss the budget of a request. */
async function publishAll(sink: EventPublisher, events: CausewayEvent[], behind = 0): Promise<void> {
  let left = events;
  await until(
    async () => {
      left = left.slice(await sink.publish(left, behind));
      return left.length === 0;
    },
    { what: 'everything to be published', everyMs: 50 },
  );
}

interface Heard {
  readonly items: FeedItem[];
  /** `3`, `4`, `expired` ... in order. */
  numbers(): (number | string)[];
  cursor(): EventCursor | undefined;
  close(): Promise<void>;
}

async function listen(redis: EdgeRedis, cursor?: EventCursor, pace?: () => Promise<void>): Promise<Heard> {
  const feed = await EventFeed.open({ redis, timers }, domainId, cursor);
  const items: FeedItem[] = [];
  const done = (async () => {
    for await (const item of feed.items()) {
      items.push(item);
      await pace?.();
    }
  })();
  return {
    items,
    numbers: () => items.map((item) => (item.kind === 'event' ? item.event.version : item.kind)),
    cursor: () => items.flatMap((item) => (item.kind === 'event' ? [item.cursor] : [])).at(-1),
    close: () => {
      feed.close();
      return done;
    },
  };
}

const range = (from: number, count: number) => Array.from({ length: count }, (_, at) => from + at);

describe.each<RedisKind>(['server', 'memory'])('events through redis on %s', (kind) => {
  let test: TestRedis;
  let redis: EdgeRedis;
  beforeAll(async () => {
    test = await startTestRedis(kind);
  });
  beforeEach(async () => {
    await test.client().flushall();
    redis = edgeRedis({ url: test.url, token: test.token }, clock, patienceMs);
  });
  afterAll(() => test.stop());

  it('brings each event once and in order to everybody who listens', async () => {
    const listeners = await Promise.all([listen(redis), listen(redis)]);
    const sink = publisher(redis);
    await publishAll(sink, list(1, 250));
    await publishAll(sink, list(200, 100));
    for (const each of listeners) {
      await until(() => each.items.length >= 299, { what: 'all events' });
      expect(each.numbers()).toEqual(range(1, 299));
      await each.close();
    }
  });

  it('begins now without a cursor, and behind it with one', async () => {
    const sink = publisher(redis);
    await publishAll(sink, list(1, 5));
    const first = await listen(redis);
    await publishAll(sink, list(6, 5));
    await until(() => first.items.length >= 5, { what: 'five events' });
    expect(first.numbers()).toEqual(range(6, 5));
    const middle = first.items[1];
    await first.close();
    await publishAll(sink, list(11, 300));
    const second = await listen(redis, middle?.kind === 'event' ? middle.cursor : undefined);
    await until(() => second.items.length >= 303, { what: 'the rest' });
    expect(second.numbers()).toEqual(range(8, 303));
    await second.close();
  });

  it('loses and doubles nothing while it opens in the middle of a storm', async () => {
    const sink = publisher(redis);
    await publishAll(sink, [event(0)]);
    const anchor = await listen(redis, { generation: (await head())!, id: '0-1' });
    let next = 1;
    const stop = new AbortController();
    const storm = (async () => {
      while (!stop.signal.aborted && next < 1_500) {
        await publishAll(sink, list(next, 7));
        next += 7;
      }
    })();
    const listeners: Heard[] = [];
    for (let n = 0; n < 8; n += 1) {
      await until(() => anchor.items.length > 10 + n * 20, { what: 'the storm to go on' });
      listeners.push(await listen(redis, anchor.cursor()));
    }
    stop.abort();
    await storm;
    for (const each of [anchor, ...listeners]) {
      await until(() => each.numbers().at(-1) === next - 1, { what: 'the last event' });
      const numbers = each.numbers() as number[];
      expect(numbers.filter((n) => typeof n === 'number')).toEqual(
        range(
          numbers.find((n) => n >= 0)!,
          next - numbers.find((n) => n >= 0)!,
        ),
      );
      await each.close();
    }
  });

  it('says that the cursor has expired when the generation changed, and goes on behind it with what is kept', async () => {
    const sink = publisher(redis);
    await publishAll(sink, list(1, 3));
    const kept = {
      generation: (await head())!,
      id: (await redis.head(redisKeys.generation, redisKeys.events(domainId))).newestId!,
    };
    await test.client().flushall();
    // Ids of Redis tell time in milliseconds.
    const flushedMs = Date.now();
    await until(() => Date.now() > flushedMs + 2, { what: 'the clock', everyMs: 1 });
    await publishAll(sink, list(4, 3));
    const heard = await listen(redis, kept);
    await until(() => heard.items.length >= 4, { what: 'what is kept' });
    expect(heard.numbers()).toEqual(['expired', 4, 5, 6]);
    await heard.close();
  });

  it('says so when what follows the cursor was trimmed away', async () => {
    const sink = publisher(redis);
    await publishAll(sink, list(1, 3));
    const { newestId } = await redis.head(redisKeys.generation, redisKeys.events(domainId));
    await publishAll(sink, list(4, 6));
    await test.client().xtrim(redisKeys.events(domainId), { strategy: 'MAXLEN', threshold: 2, exactness: '=' });
    const heard = await listen(redis, { generation: (await head())!, id: newestId! });
    await until(() => heard.items.length >= 3, { what: 'what is kept' });
    expect(heard.numbers()).toEqual(['expired', 8, 9]);
    await heard.close();
  });

  it('tells one who listens when the generation changes under it', async () => {
    const sink = publisher(redis);
    await publishAll(sink, list(1, 2));
    const heard = await listen(redis);
    await publishAll(sink, list(3, 1));
    await until(() => heard.items.length === 1, { what: 'an event' });
    await publishAll(sink, [event(4, { atMs: Date.now() - newsMs - 1 }), event(5)]);
    await until(() => heard.items.length >= 3, { what: 'the next event' });
    expect(heard.numbers()).toEqual([3, 'expired', 5]);
    await heard.close();
  });

  it('serves a reader that is slower than the events from the stream, whole and in order', async () => {
    const sink = publisher(redis);
    let isHeld = true;
    const heard = await listen(redis, undefined, () =>
      until(() => !isHeld, { what: 'the reader to go on' }).then(() => undefined),
    );
    const padding = 'x'.repeat(20_000);
    for (let n = 1; n <= 300; n += 10) {
      await publishAll(
        sink,
        range(n, 10).map((version) => event(version, { data: { padding } })),
      );
    }
    isHeld = false;
    await until(() => heard.items.length >= 300, { what: 'all events' });
    expect(heard.numbers()).toEqual(range(1, 300));
    await heard.close();
  });

  it('keeps domains apart, and the order of each', async () => {
    const heard = await listen(redis);
    const mixed = range(1, 300).map((n) => event(n, n % 3 === 0 ? { domainId: 'dom_2' } : {}));
    await publishAll(publisher(redis), mixed);
    await until(() => heard.items.length >= 200, { what: 'the events of one domain' });
    expect(heard.numbers()).toEqual(range(1, 300).filter((n) => n % 3 !== 0));
    await heard.close();
  });

  async function head(): Promise<string | undefined> {
    return (await redis.head(redisKeys.generation, redisKeys.events(domainId))).generation;
  }
});

describe('when Redis is away', () => {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).toReversed()) await end();
  });

  /** A gateway, reached directly and through a proxy that fails on demand. */
  async function cuttable() {
    const test = await startTestRedis('memory');
    ends.push(() => test.stop());
    const proxy = await startFaultProxy({ target: { port: test.gateway.port } });
    ends.push(() => proxy.stop());
    const direct = edgeRedis({ url: test.url, token: test.token }, clock, patienceMs);
    const redis = edgeRedis({ url: `http://127.0.0.1:${proxy.port}`, token: test.token }, clock);
    const stored = async () =>
      (await direct.last(redisKeys.events(domainId), 1_000)).map(
        ({ value }) => (JSON.parse(value) as CausewayEvent).version,
      );
    return { test, proxy, direct, redis, stored };
  }

  it('settles nothing, throws nothing, and publishes everything once it is back', async () => {
    const { proxy, redis, stored } = await cuttable();
    const sink = publisher(redis);
    await publishAll(sink, list(1, 2));
    proxy.refuse();
    proxy.reset();
    for (let n = 0; n < 5; n += 1) expect(await sink.publish(list(3, 2))).toBe(0);
    proxy.heal();
    await until(async () => (await sink.publish(list(3, 2))) === 2, { what: 'the breaker to close' });
    expect(await stored()).toEqual([1, 2, 3, 4]);
  });

  it('publishes nothing twice when the answer was lost', async () => {
    const { proxy, redis, stored } = await cuttable();
    const sink = publisher(redis);
    await publishAll(sink, list(1, 1));
    proxy.set('down', { blackhole: true });
    expect(await sink.publish(list(2, 3))).toBe(0);
    await until(async () => (await stored()).length === 4, { what: 'the batch to be stored all the same' });
    proxy.reset();
    proxy.heal();
    await until(async () => (await sink.publish(list(2, 3))) === 3, { what: 'an answer' });
    expect(await stored()).toEqual([1, 2, 3, 4]);
  });

  it('keeps one old event unsettled until the new generation is written: the outbox remembers the gap', async () => {
    const { proxy, redis, direct, stored } = await cuttable();
    let nowMs = Date.now();
    const sink = publisher(redis, () => nowMs);
    await publishAll(sink, list(1, 1));
    const before = (await direct.head(redisKeys.generation, redisKeys.events(domainId))).generation;
    proxy.refuse();
    proxy.reset();
    const missed = list(2, 10);
    expect(await sink.publish(missed)).toBe(0);
    nowMs += newsMs + 60_000;
    expect(await sink.publish(missed)).toBe(9);
    expect(await publisher(redis, () => nowMs).publish(missed.slice(9))).toBe(0);
    proxy.heal();
    const fresh = event(12, { atMs: nowMs });
    await until(async () => (await sink.publish([...missed.slice(9), fresh])) === 2, { what: 'the breaker to close' });
    expect(await stored()).toEqual([1, 12]);
    const after = (await direct.head(redisKeys.generation, redisKeys.events(domainId))).generation;
    expect(after).not.toBe(before);
  });

  it('skips what is further behind than a stream is long', async () => {
    const { redis, stored } = await cuttable();
    const sink = publisher(redis);
    await publishAll(sink, list(1, 10), eventStreamMaxLength - 7);
    expect(await stored()).toEqual([4, 5, 6, 7, 8, 9, 10]);
    await publishAll(sink, list(11, 10), eventStreamMaxLength);
    expect(await stored()).toHaveLength(7);
  });

  it('brings a listener everything once over cuts of its subscription', async () => {
    const { proxy, redis, direct } = await cuttable();
    const sink = publisher(direct);
    await publishAll(sink, [event(0)]);
    const heard = await listen(redis);
    for (let n = 1; n <= 200; n += 10) {
      await publishAll(sink, list(n, 10));
      if (n % 50 === 1) proxy.reset();
    }
    await until(() => heard.numbers().at(-1) === 200, { what: 'the last event' });
    expect(heard.numbers()).toEqual(range(1, 200));
    await heard.close();
  });

  it('lets the feed end when it stays away, so that the reader can be told', async () => {
    const { proxy, redis } = await cuttable();
    const impatient = { after: (_delayMs: number, task: () => void) => (setTimeout(task, 5), () => undefined) };
    const feed = await EventFeed.open({ redis, timers: impatient }, domainId, undefined);
    proxy.refuse();
    proxy.reset();
    const items: FeedItem[] = [];
    for await (const item of feed.items()) items.push(item);
    expect(items).toEqual([]);
  });

  it('counts everything as settled where Redis is not configured', async () => {
    expect(await publisher(undefined).publish(list(1, 3))).toBe(3);
  });
});
