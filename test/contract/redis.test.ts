/** What the edge relies on of Redis, through the real @upstash/redis client: one suite, run against both back ends. */
import { randomBytes } from 'node:crypto';
import { Redis } from '@upstash/redis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  publishArguments,
  publishScript,
  redisKeys,
  writeReportsArguments,
  writeReportsScript,
} from '../../schema/redis-scripts.ts';
import { ask, command, type RedisKind, startTestRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/wait.ts';

describe.each<RedisKind>(['server', 'memory'])('redis on %s', (kind) => {
  let redis: TestRedis;
  let client: Redis;

  beforeAll(async () => {
    redis = await startTestRedis(kind);
    client = redis.client();
  });
  beforeEach(async () => {
    await client.flushall();
  });
  afterAll(() => redis.stop());

  describe('values', () => {
    it('gives back strings, numbers, booleans and objects as they were set', async () => {
      await client.set('text', 'hello');
      await client.set('number', 1.5);
      await client.set('yes', true);
      await client.set('object', { a: [1, 'ü', null] });
      expect(await client.mget('text', 'number', 'yes', 'object', 'absent')).toEqual([
        'hello',
        1.5,
        true,
        { a: [1, 'ü', null] },
        null,
      ]);
    });

    it('keeps text that looks like base64, like a status or like an error', async () => {
      for (const text of ['OK', 'T0s=', 'QUJD', 'ERR no', '', '+OK', '$-1', ':1\r\n', 'a\r\nb\0c', '🦀'.repeat(100)]) {
        await client.set('k', text);
        expect(await redis.client({ automaticDeserialization: false }).get('k')).toBe(text);
        expect(await redis.client({ automaticDeserialization: false }).mget('k')).toEqual([text]);
      }
    });

    it('carries bytes that are not UTF-8 unharmed, as base64', async () => {
      const bytes = Buffer.concat([Buffer.from([0, 255, 254, 10, 13, 128, 0xc3, 0x28]), randomBytes(5_000)]);
      await ask(redis, '/set/binary', { body: bytes });
      const answer = await ask(redis, '/get/binary', { method: 'GET', headers: { 'upstash-encoding': 'base64' } });
      const { result } = (await answer.json()) as { result: string };
      expect(Buffer.from(result, 'base64').equals(bytes)).toBe(true);
      expect(await client.strlen('binary')).toBe(bytes.length);
    });

    it('encodes every string but OK when base64 is asked for, at any depth', async () => {
      const encoded = async (words: string[]) => {
        const answer = await ask(redis, '', {
          body: JSON.stringify(words),
          headers: { 'upstash-encoding': 'base64' },
        });
        return ((await answer.json()) as { result: unknown }).result;
      };
      const base64 = (text: string) => Buffer.from(text).toString('base64');
      expect(await encoded(['SET', 'k', 'OK'])).toBe('OK');
      expect(await encoded(['GET', 'k'])).toBe(base64('OK'));
      expect(await encoded(['PING'])).toBe(base64('PONG'));
      expect(await encoded(['XADD', 's', '7-1', 'f', 'v'])).toBe(base64('7-1'));
      expect(await encoded(['XRANGE', 's', '-', '+'])).toEqual([[base64('7-1'), [base64('f'), base64('v')]]]);
      expect(await encoded(['MGET', 'k', 'none'])).toEqual([base64('OK'), null]);
      expect(await encoded(['STRLEN', 'k'])).toBe(2);
    });

    it('moves a value of eight megabytes both ways', async () => {
      const big = randomBytes(4 * 1024 * 1024).toString('hex');
      await client.set('big', big);
      expect(await redis.client({ automaticDeserialization: false }).get('big')).toBe(big);
    });

    it('keeps every digit of a 64-bit counter', async () => {
      const body = '["SET","n",9223372036854775806]';
      expect(await (await ask(redis, '', { body })).json()).toEqual({ result: 'OK' });
      const answer = await ask(redis, '', { body: '["INCR","n"]' });
      expect(await answer.text()).toBe('{"result":9223372036854775807}');
      expect(await command(redis, 'INCR', 'n')).toEqual({ error: 'ERR increment or decrement would overflow' });
    });
  });

  describe('SET and its options', () => {
    it('sets only when absent with NX, only when present with XX', async () => {
      expect(await client.set('k', 'a', { xx: true })).toBeNull();
      expect(await client.set('k', 'a', { nx: true })).toBe('OK');
      expect(await client.set('k', 'b', { nx: true })).toBeNull();
      expect(await client.set('k', 'c', { xx: true })).toBe('OK');
      expect(await client.get('k')).toBe('c');
    });

    it('answers the old value with GET and keeps the expiry with KEEPTTL', async () => {
      expect(await client.set('k', 'a', { get: true, ex: 100 })).toBeNull();
      expect(await client.set('k', 'b', { get: true, keepTtl: true })).toBe('a');
      expect(await client.ttl('k')).toBeGreaterThan(90);
      await client.set('k', 'c');
      expect(await client.ttl('k')).toBe(-1);
    });

    it('lets a key end at its time', async () => {
      await client.set('soon', 'x', { px: 40 });
      await client.set('later', 'x', { ex: 1000 });
      await until(async () => (await client.exists('soon')) === 0, { what: 'the key to expire' });
      expect(await client.ttl('soon')).toBe(-2);
      expect(await client.dbsize()).toBe(1);
      expect(await client.pttl('later')).toBeGreaterThan(900_000);
      expect(await client.persist('later')).toBe(1);
      expect(await client.ttl('later')).toBe(-1);
      expect(await client.expire('later', -1)).toBe(1);
      expect(await client.exists('later')).toBe(0);
    });
  });

  describe('batches', () => {
    it('runs a pipeline in order and reports each failure in its place', async () => {
      const results = await client.pipeline().set('k', 'text').incr('k').get('k').exec({ keepErrors: true });
      expect(results.map(({ result, error }) => error ?? result)).toEqual([
        'OK',
        'ERR value is not an integer or out of range',
        'text',
      ]);
    });

    it('runs a transaction as a whole; a command that fails while it runs does not stop the others', async () => {
      const results = await client.multi().set('k', 'text').lpush('k', 'x').set('l', 1).exec({ keepErrors: true });
      expect(results.map(({ result, error }) => error ?? result)).toEqual([
        'OK',
        'WRONGTYPE Operation against a key holding the wrong kind of value',
        'OK',
      ]);
    });

    it('runs nothing of a transaction with a command that can not run', async () => {
      const answer = await ask(redis, '/multi-exec', { body: '[["SET","k","v"],["NOSUCH","k"],["GET"]]' });
      expect(answer.status).toBe(400);
      expect(await answer.json()).toEqual({
        error: expect.stringMatching(/^EXECABORT .*ERR unknown command 'NOSUCH'/),
      });
      expect(await client.exists('k')).toBe(0);
    });

    it('lets nothing come between the commands of a transaction', async () => {
      const transfer = () => client.multi().incrby('a', -1).incrby('b', 1).mget('a', 'b').exec();
      const outcomes = await Promise.all(Array.from({ length: 60 }, transfer));
      for (const [a, b, both] of outcomes as [number, number, number[]][]) {
        expect(a + b).toBe(0);
        expect(both).toEqual([a, b]);
      }
    });

    it('gathers single commands by auto-pipelining, errors included', async () => {
      const auto = redis.client({ enableAutoPipelining: true });
      await auto.set('word', 'x');
      const outcomes = await Promise.allSettled([auto.incr('n'), auto.incr('word'), auto.incr('n'), auto.get('word')]);
      expect(outcomes.map((outcome) => outcome.status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'fulfilled']);
      expect(await auto.get('n')).toBe(2);
    });
  });

  describe('streams', () => {
    it('hands out rising ids and reads ranges both ways', async () => {
      const ids: string[] = [];
      for (let n = 0; n < 5; n += 1) ids.push(await client.xadd('s', '*', { n, text: `é${n}` }));
      expect(ids).toEqual([...ids].sort(byStreamId));
      expect(await client.xlen('s')).toBe(5);
      expect(Object.keys(await client.xrange('s', '-', '+', 2))).toEqual(ids.slice(0, 2));
      expect(Object.keys(await client.xrange('s', `(${ids[1]}`, '+'))).toEqual(ids.slice(2));
      expect(Object.keys(await client.xrevrange('s', '+', '-', 2))).toEqual(ids.slice(3).toReversed());
      expect((await client.xrange('s', '-', '+'))[ids[0] ?? '']).toEqual({ n: 0, text: 'é0' });
    });

    it('trims exactly with =, to whole nodes with ~, and deletes single entries', async () => {
      for (let n = 1; n <= 300; n += 1) await client.xadd('s', `${n}-0`, { n });
      await client.xadd('s', '301-0', { n: 301 }, { trim: { type: 'MAXLEN', threshold: 50, comparison: '=' } });
      expect(await client.xlen('s')).toBe(50);
      expect(await client.xdel('s', ['301-0', '1-0'])).toBe(1);
      expect(await client.xtrim('s', { strategy: 'MINID', threshold: '290-0', exactness: '=' })).toBe(38);
      expect(Object.keys(await client.xrange('s', '-', '+'))[0]).toBe('290-0');
      for (let n = 302; n <= 900; n += 1) {
        await client.xadd('s', `${n}-0`, { n }, { trim: { type: 'MAXLEN', threshold: 50, comparison: '~' } });
      }
      const length = await client.xlen('s');
      expect(length).toBeGreaterThanOrEqual(50);
      expect(length).toBeLessThanOrEqual(200);
    });

    it('refuses an id that does not rise, and remembers the last one when all entries are gone', async () => {
      await client.xadd('s', '5-1', { a: 1 });
      await client.xdel('s', '5-1');
      expect(await client.xlen('s')).toBe(0);
      expect(await command(redis, 'XADD', 's', '5-1', 'a', 1)).toEqual({
        error: 'ERR The ID specified in XADD is equal or smaller than the target stream top item',
      });
      expect(await command(redis, 'XADD', 's', '5-*', 'a', 1)).toEqual({ result: '5-2' });
      expect(await client.type('s')).toBe('stream');
    });

    it('reads several streams after given ids, and answers null when there is nothing', async () => {
      await client.xadd('a', '1-0', { x: 1 });
      await client.xadd('a', '2-0', { x: 2 });
      await client.xadd('b', '1-0', { y: 'z' });
      expect(await client.xread(['a', 'b'], ['1-0', '0'])).toEqual([
        ['a', [['2-0', ['x', 2]]]],
        ['b', [['1-0', ['y', 'z']]]],
      ]);
      expect(await client.xread('a', '$')).toBeNull();
    });
  });

  describe('scripts', () => {
    const events = [
      { eventId: 'evt_1', json: '{"n":1,"text":"é"}' },
      { eventId: 'evt_2', json: '{"n":2}' },
    ];
    const publish = (generation: string, batch = events) => {
      const { keys, args } = publishArguments('d', generation, batch);
      return redis.client({ automaticDeserialization: false }).eval(publishScript, keys, args);
    };

    it('publishes a batch: generation once, entries in order, an announcement for each', async () => {
      const heard = await listen(redis, '/subscribe/cw:ev:d');
      const [generation, first, second] = (await publish('g1')) as string[];
      expect(generation).toBe('g1');
      expect(await client.xrange(redisKeys.events('d'), '-', '+')).toEqual({
        [first ?? '']: { e: { n: 1, text: 'é' } },
        [second ?? '']: { e: { n: 2 } },
      });
      await until(() => heard.lines.length >= 3, { what: 'two announcements' });
      expect(heard.lines.slice(1)).toEqual([
        `message,cw:ev:d,{"cursor":"g1.${first}","event":{"n":1,"text":"é"}}`,
        `message,cw:ev:d,{"cursor":"g1.${second}","event":{"n":2}}`,
      ]);
      heard.close();
    });

    it('publishes nothing twice when a batch is repeated, and keeps the first generation', async () => {
      const [, first] = (await publish('g1')) as string[];
      expect(await publish('g2')).toEqual(['g1', '', '']);
      const more = [...events, { eventId: 'evt_3', json: '{"n":3}' }];
      const again = (await publish('g3', more)) as string[];
      expect(again.slice(0, 3)).toEqual(['g1', '', '']);
      const ids = Object.keys(await client.xrange(redisKeys.events('d'), '-', '+'));
      expect(ids).toEqual([first, expect.any(String), again[3]]);
    });

    it('forgets the oldest published ids beyond the length of the stream', async () => {
      const keys = [redisKeys.generation, redisKeys.events('d'), redisKeys.published('d')];
      for (let n = 0; n < 5; n += 1) await client.eval(publishScript, keys, ['g', 'c', '3', `evt_${n}`, '{}']);
      expect(await client.zrange(redisKeys.published('d'), 0, -1)).toHaveLength(3);
    });

    it('replaces the reports of a hub, with an expiry', async () => {
      const write = (reports: [string, string][]) => {
        const { keys, args } = writeReportsArguments('7', 100, reports);
        return client.eval(writeReportsScript, keys, args);
      };
      expect(
        await write([
          ['agt_a', '{"cpu":1}'],
          ['agt_b', '{"cpu":2}'],
        ]),
      ).toBe(2);
      expect(await write([['agt_b', '{"cpu":3}']])).toBe(1);
      expect(await client.hgetall(redisKeys.agents('7'))).toEqual({ agt_b: { cpu: 3 } });
      expect(await client.ttl(redisKeys.agents('7'))).toBeGreaterThan(90);
      expect(await write([])).toBe(0);
      expect(await client.exists(redisKeys.agents('7'))).toBe(0);
    });

    it('runs a script by its hash once it is known, and says NOSCRIPT before', async () => {
      await client.scriptFlush();
      const script = client.createScript<number>(writeReportsScript);
      const { keys, args } = writeReportsArguments('7', 100, [['agt_a', '{}']]);
      await expect(script.evalsha(keys, args)).rejects.toThrow('NOSCRIPT No matching script');
      expect(await script.exec(keys, args)).toBe(1);
      expect(await script.evalsha(keys, args)).toBe(1);
      expect(await client.scriptExists(script.sha1)).toEqual([1]);
    });

    it('stops a script at the call that fails', async () => {
      await client.set('cw:agents:7', 'text');
      await client.set('cw:gen', 'g');
      await client.set('cw:ev:d', 'not a stream');
      const { keys, args } = publishArguments('d', 'g', events);
      await expect(client.eval(publishScript, keys, args)).rejects.toThrow('WRONGTYPE');
    });
  });

  describe('subscriptions', () => {
    it('hears what is published, through the real subscriber', async () => {
      const subscriber = client.subscribe<{ n: number }>('news');
      const heard: unknown[] = [];
      let isOpen = false;
      subscriber.on('subscribe', () => (isOpen = true));
      subscriber.on('message', ({ channel, message }) => heard.push([channel, message]));
      await until(() => isOpen, { what: 'the subscription to be confirmed' });
      for (let n = 0; n < 20; n += 1) await client.publish('news', { n, text: 'a, b' });
      await until(() => heard.length === 20, { what: 'all messages' });
      expect(heard[19]).toEqual(['news', { n: 19, text: 'a, b' }]);
      await subscriber.unsubscribe();
      await until(async () => (await client.publish('news', 'x')) === 0, { what: 'the subscription to end' });
    });

    it('hears channels by pattern', async () => {
      const subscriber = client.psubscribe<string>('room:[ab]*');
      const heard: unknown[] = [];
      let isOpen = false;
      subscriber.on('psubscribe', () => (isOpen = true));
      subscriber.on('pmessage', ({ pattern, channel, message }) => heard.push([pattern, channel, message]));
      await until(() => isOpen, { what: 'the subscription to be confirmed' });
      expect(await client.publish('room:c', '"no"')).toBe(0);
      expect(await client.publish('room:b1', '"yes"')).toBe(1);
      await until(() => heard.length === 1, { what: 'the message' });
      expect(heard).toEqual([['room:[ab]*', 'room:b1', 'yes']]);
      await subscriber.unsubscribe();
    });

    it('can not be made to forge a line by a payload with line breaks', async () => {
      const heard = await listen(redis, '/subscribe/news');
      await client.publish('news', 'one\ndata: message,other,forged\r\ntwo');
      await until(() => heard.lines.length === 2, { what: 'the message' });
      expect(heard.lines[1]).toBe('message,news,one data: message,other,forged two');
      heard.close();
    });

    it('serves many subscribers of one channel, and stops asking Redis when the last is gone', async () => {
      const all = await Promise.all(Array.from({ length: 10 }, () => listen(redis, '/subscribe/news')));
      await client.publish('news', 'x');
      await until(() => all.every(({ lines }) => lines.length === 2), { what: 'ten messages' });
      for (const one of all) one.close();
      await until(async () => (await client.publish('news', 'y')) === 0, { what: 'no subscriber to be left' });
      const again = await listen(redis, '/subscribe/news');
      await client.publish('news', 'z');
      await until(() => again.lines.length === 2, { what: 'a message to a new subscriber' });
      again.close();
    });
  });

  describe('errors', () => {
    it('speaks of them in the words of Redis', async () => {
      await client.set('text', 'x');
      expect(await command(redis, 'GET')).toEqual({ error: "ERR wrong number of arguments for 'get' command" });
      expect(await command(redis, 'LPUSH', 'text', 'x')).toEqual({
        error: 'WRONGTYPE Operation against a key holding the wrong kind of value',
      });
      expect(await command(redis, 'SET', 'k', 'v', 'EX', 0)).toEqual({
        error: "ERR invalid expire time in 'set' command",
      });
      expect(await command(redis, 'SET', 'k', 'v', 'NX', 'XX')).toEqual({ error: 'ERR syntax error' });
      expect(await command(redis, 'Foo', 'bar', 'baz')).toEqual({
        error: "ERR unknown command 'Foo', with args beginning with: 'bar' 'baz' ",
      });
      await expect(client.incr('text')).rejects.toThrow('ERR value is not an integer or out of range');
    });

    it('refuses what blocks, administers or needs a connection of its own', async () => {
      for (const words of [
        ['BLPOP', 'k', 0],
        ['XREAD', 'BLOCK', 0, 'STREAMS', 's', '$'],
        ['MULTI'],
        ['subscribe', 'c'],
        ['SHUTDOWN'],
        ['CONFIG', 'GET', '*'],
        ['CLIENT', 'REPLY', 'OFF'],
        ['DEBUG', 'SLEEP', 1],
      ]) {
        expect((await command(redis, ...words)).error).toMatch(/^ERR '[A-Z]+' is not available here: /);
      }
      const mixed = await ask(redis, '/pipeline', { body: '[["SET","k","v"],["QUIT"],["GET","k"]]' });
      expect(await mixed.json()).toEqual([
        { result: 'OK' },
        { error: "ERR 'QUIT' is not available here: a request has no connection of its own" },
        { result: 'v' },
      ]);
      const atomic = await ask(redis, '/multi-exec', { body: '[["SET","k","w"],["EXEC"]]' });
      expect(atomic.status).toBe(400);
      expect(await client.get('k')).toBe('v');
    });
  });
});

describe.each<[RedisKind, number]>([
  ['server', 4 * 1024 * 1024],
  ['memory', 4 * 1024 * 1024],
])('redis on %s with a cap', (kind, maxMemoryBytes) => {
  it('refuses to grow over its cap, still answers, and takes writes again when there is room', async () => {
    const redis = await startTestRedis(kind, { maxMemoryBytes });
    try {
      const client = redis.client();
      const chunk = 'x'.repeat(256 * 1024);
      const set = (key: string, text: string) => client.set(key, text).then(String, (error: Error) => error.message);
      const big: string[] = [];
      for (let n = 0; n < 20; n += 1) big.push(await set(`big${n}`, chunk));
      expect(big[0]).toBe('OK');
      expect(big.at(-1)).toMatch(/OOM command not allowed when used memory > 'maxmemory'/);
      // What is left takes a few more small values.
      const small = await Promise.all(Array.from({ length: 3_000 }, (_, n) => set(`small${n}`, 'y'.repeat(200))));
      expect(small.filter((answer) => answer.includes('OOM command not allowed')).length).toBeGreaterThan(0);
      expect(await client.strlen('big0')).toBe(chunk.length);
      // A server counts its clients' buffers, and takes them back when it has time: until it has, there is room again.
      const publish = async (n: number) => {
        while ((await set(`more${n}`, 'z'.repeat(2_000))) === 'OK') n += 1_000;
        const { keys, args } = publishArguments('d', 'g', [{ eventId: `evt_${n}`, json: '{}' }]);
        return client.eval(publishScript, keys, args).then(String, (error: Error) => error.message);
      };
      let tries = 0;
      const isRefused = async () => (await publish(tries++)).includes('OOM command not allowed');
      await until(isRefused, { what: 'a script to be refused' });
      await client.flushall();
      expect(await client.set('k', chunk)).toBe('OK');
    } finally {
      await redis.stop();
    }
  });
});

describe('the memory store', () => {
  it('refuses a script that it has no twin of, and says what to do', async () => {
    const redis = await startTestRedis('memory');
    await expect(redis.client().eval('return 1', [], [])).rejects.toThrow(
      /knows only Causeway's own scripts; this one \(SHA-1 [0-9a-f]{40}\) needs a redis-server/,
    );
    await redis.stop();
  });

  it('gives the bytes of expired keys back without being asked for them', async () => {
    let nowMs = 1_000_000;
    const redis = await startTestRedis('memory', { maxMemoryBytes: 4 * 1024 * 1024, now: () => nowMs });
    const client = redis.client();
    for (let n = 0; n < 4; n += 1) await client.set(`k${n}`, 'x'.repeat(1024 * 1024), { ex: 10 });
    await expect(client.set('more', 'x')).rejects.toThrow('OOM');
    nowMs += 10_000;
    expect(await client.set('more', 'x')).toBe('OK');
    expect(await client.dbsize()).toBe(1);
    await redis.stop();
  });
});

interface Heard {
  /** What followed `data: `, in order; the first one is the confirmation. */
  readonly lines: string[];
  close(): void;
}

/** Opens a subscription by plain HTTP and waits until it is confirmed. */
async function listen(redis: TestRedis, path: string): Promise<Heard> {
  const abort = new AbortController();
  const answer = await ask(redis, path, { signal: abort.signal, headers: { accept: 'text/event-stream' } });
  const lines: string[] = [];
  void (async () => {
    let rest = '';
    for await (const chunk of answer.body ?? []) {
      const parts = (rest + Buffer.from(chunk).toString()).split('\n');
      rest = parts.pop() ?? '';
      lines.push(...parts.filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)));
    }
  })().catch(() => undefined);
  await until(() => lines.length > 0, { what: 'the subscription to be confirmed' });
  return { lines, close: () => abort.abort() };
}

function byStreamId(a: string, b: string): number {
  const [aMs = 0, aSeq = 0] = a.split('-').map(Number);
  const [bMs = 0, bSeq = 0] = b.split('-').map(Number);
  return aMs - bMs || aSeq - bSeq;
}
