/** The door to Redis: a budget for each request, a breaker, and a subscription that tells when it has ended. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { edgeRedis } from '../../../edge/platform/redis-door.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

let nowMs = 0;
const clock = { nowMs: () => nowMs, bootMs: () => nowMs };
const door = () => edgeRedis({ url: 'https://redis.test', token: 'secret' }, clock);
const answer = (result: unknown) => Response.json(result);

describe('a request', () => {
  it('is one POST with the token, and its answer is text, never guessed to be JSON', async () => {
    const fetcher = vi
      .spyOn(globalThis, 'fetch')
      .mockImplementation(async () => answer({ result: [[btoa('1-0'), [btoa('e'), btoa('{"n":1}')]]] }));
    expect(await door().last('s', 10)).toEqual([{ id: '1-0', value: '{"n":1}' }]);
    expect(fetcher).toHaveBeenCalledTimes(1);
    const [url, init] = fetcher.mock.calls[0]!;
    expect(String(url)).toBe('https://redis.test');
    expect(init?.body).toBe('["XREVRANGE","s","+","-","COUNT",10]');
    expect(new Headers(init?.headers as Record<string, string>).get('authorization')).toBe('Bearer secret');
  });

  it('is given up after its budget', async () => {
    vi.spyOn(globalThis, 'fetch').mockImplementation(
      (_url, init) =>
        new Promise((_resolve, reject) => {
          init?.signal?.addEventListener('abort', () => reject(init.signal?.reason as Error));
        }),
    );
    const call = { script: 'return 1', keys: [], args: [] };
    await expect(door().run(call, { budgetMs: 20 })).rejects.toMatchObject({ name: 'RedisUnavailable' });
  });

  it('that fails is not repeated here', async () => {
    const fetcher = vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('connection refused'));
    await expect(door().head('g', 's')).rejects.toMatchObject({ name: 'RedisUnavailable' });
    expect(fetcher).toHaveBeenCalledTimes(1);
  });

  it('sets the generation and runs the script in one transaction', async () => {
    const fetcher = vi
      .spyOn(globalThis, 'fetch')
      .mockImplementation(async () => answer([{ result: 'OK' }, { result: [btoa('g2')] }]));
    const call = { script: 'return 1', keys: ['k'], args: ['a'] };
    expect(await door().run(call, { first: { key: 'g', value: 'g2' } })).toEqual(['g2']);
    expect(String(fetcher.mock.calls[0]![0])).toBe('https://redis.test/multi-exec');
    expect(fetcher.mock.calls[0]![1]?.body).toBe('[["set","g","g2"],["eval","return 1",1,"k","a"]]');
  });
});

describe('the breaker', () => {
  it('opens after three failures, lets one try pass after two seconds, and closes with the first success', async () => {
    let isUp = false;
    const fetcher = vi.spyOn(globalThis, 'fetch').mockImplementation(async () => {
      if (!isUp) throw new TypeError('connection refused');
      return answer({ result: [] });
    });
    const redis = door();
    const ask = () =>
      redis.last('s', 1).then(
        () => 'answered',
        () => 'refused',
      );
    for (let n = 0; n < 10; n += 1) expect(await ask()).toBe('refused');
    expect(fetcher).toHaveBeenCalledTimes(3);
    nowMs += 2_000;
    expect(await Promise.all([ask(), ask(), ask()])).toEqual(['refused', 'refused', 'refused']);
    expect(fetcher).toHaveBeenCalledTimes(4);
    isUp = true;
    expect(await ask()).toBe('refused');
    nowMs += 2_000;
    expect(await ask()).toBe('answered');
    expect(await ask()).toBe('answered');
    expect(fetcher).toHaveBeenCalledTimes(6);
  });
});

describe('a subscription', () => {
  /** A stream of events that the test feeds. */
  function serve() {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    vi.spyOn(globalThis, 'fetch').mockImplementation(async (_url, init) => {
      init?.signal?.addEventListener('abort', () => void writer.abort(new Error('aborted')).catch(() => undefined));
      return new Response(readable, { headers: { 'content-type': 'text/event-stream' } });
    });
    const send = (text: string) => writer.write(new TextEncoder().encode(text));
    return { send, end: () => writer.close() };
  }

  it('is open when it was confirmed, and hands over each payload of its channel, commas and all', async () => {
    const server = serve();
    const heard: string[] = [];
    const opening = door().subscribe('cw:ev:d', (message) => heard.push(message));
    void server.send('data: subscribe,cw:ev:d,1\n\n: comment\n\nda');
    const subscription = await opening;
    void server.send('ta: message,cw:ev:d,{"a":"b,c"}\n\ndata: message,other,x\n\n');
    await vi.waitFor(() => expect(heard).toEqual(['{"a":"b,c"}']));
    void server.end();
    expect(await subscription.ended).toBe('the stream of Redis ended');
  });

  it('tells that it has ended when the gateway dropped it', async () => {
    const server = serve();
    const opening = door().subscribe('c', () => {});
    void server.send('data: subscribe,c,1\n\n');
    const { ended } = await opening;
    void server.send('event: error\ndata: error,c,slow subscriber\n\n');
    expect(await ended).toBe('error,c,slow subscriber');
  });

  it('tells that it has ended when it was closed here', async () => {
    const server = serve();
    const opening = door().subscribe('c', () => {});
    void server.send('data: subscribe,c,1\n\n');
    const subscription = await opening;
    subscription.close();
    expect(await subscription.ended).toBeTypeOf('string');
  });

  it('is refused when it is answered with anything but 200, or ends before it is confirmed', async () => {
    vi.spyOn(globalThis, 'fetch').mockImplementation(async () => Response.json({ error: 'ERR max' }, { status: 429 }));
    await expect(door().subscribe('c', () => {})).rejects.toThrow('429');
    const server = serve();
    const opening = door().subscribe('c', () => {});
    void server.end();
    await expect(opening).rejects.toThrow('ended before it was confirmed');
  });
});
