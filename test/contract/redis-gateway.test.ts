/** The gateway as HTTP: who may come in, what is malformed, what is bounded, and what happens when Redis goes away. */
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startGateway } from '../../edge/serve/redis/gateway.ts';
import { startRedisServer } from '../../edge/serve/redis/redis-server.ts';
import { serverBackend } from '../../edge/serve/redis/server-backend.ts';
import { ask, command, startTestRedis, type TestRedis, type TestRedisOptions } from '../support/redis.ts';
import { tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
});

async function started(kind: 'server' | 'memory' = 'memory', options: TestRedisOptions = {}): Promise<TestRedis> {
  const redis = await startTestRedis(kind, options);
  ends.push(() => redis.stop());
  return redis;
}

async function errorOf(answer: Response): Promise<[status: number, error: unknown]> {
  const body = (await answer.json()) as { error?: unknown };
  return [answer.status, body.error];
}

describe('who may come in', () => {
  it('answers 401 without the token, with a wrong one, and with another scheme', async () => {
    const redis = await started();
    const tries = [
      undefined,
      'Bearer',
      `Bearer ${redis.token}x`,
      `Bearer ${redis.token.slice(1)}`,
      `Basic ${redis.token}`,
    ];
    for (const authorization of tries) {
      const headers = authorization === undefined ? {} : { authorization };
      const answer = await fetch(redis.url, { method: 'POST', body: '["PING"]', headers });
      expect(await errorOf(answer)).toEqual([401, 'WRONGPASS invalid or missing auth token']);
    }
    expect(await command(redis, 'PING')).toEqual({ result: 'PONG' });
  });

  it('refuses a token in the URL, the right one too', async () => {
    const redis = await started();
    const alone = await fetch(`${redis.url}/ping?_token=${redis.token}`);
    expect(alone.status).toBe(401);
    expect(await errorOf(await ask(redis, `/ping?_token=${redis.token}`))).toEqual([
      400,
      'ERR a token in the URL ends up in logs: send it as Authorization: Bearer',
    ]);
  });

  it('takes no other methods', async () => {
    const redis = await started();
    expect((await ask(redis, '/ping', { method: 'DELETE' })).status).toBe(405);
    expect((await ask(redis, '/pipeline', { method: 'GET' })).status).toBe(405);
    expect((await ask(redis, '/ping', { method: 'HEAD' })).status).toBe(200);
  });
});

describe('commands in the URL', () => {
  it('reads names, escapes, bodies and query options', async () => {
    const redis = await started();
    const get = async (path: string) => (await (await ask(redis, path, { method: 'GET' })).json()) as unknown;
    expect(await get('/set/a%2Fb/x%20y%00?EX=100&NX')).toEqual({ result: 'OK' });
    expect(await get('/get/a%2Fb')).toEqual({ result: 'x y\0' });
    expect(await get('/ttl/a%2Fb')).toEqual({ result: 100 });
    const body = JSON.stringify({ json: true });
    expect(await (await ask(redis, '/set/k?PX=50000', { body })).json()).toEqual({ result: 'OK' });
    expect(await get('/get/k')).toEqual({ result: body });
    expect(await get('/set/k/')).toEqual({ result: 'OK' });
    expect(await get('/get/k')).toEqual({ result: '' });
  });
});

describe('what is malformed', () => {
  const bad: [path: string, body: string, error: string][] = [
    ['/', '', 'ERR failed to parse command: the body is not JSON'],
    ['/', '["GET"', 'ERR failed to parse command: the body is not JSON'],
    ['/', '{"GET":1}', 'ERR failed to parse command: expected an array, the name first'],
    ['/', '"GET"', 'ERR failed to parse command: expected an array, the name first'],
    ['/', '[]', 'ERR empty command'],
    ['/', '["GET",null]', 'ERR null args are not supported'],
    ['/', '["GET",["k"]]', 'ERR failed to parse command: an argument is a string, a number or a boolean'],
    ['/', '['.repeat(500_000), 'ERR failed to parse command: the body is not JSON'],
    ['/', JSON.stringify(['DEL', ...Array(40_000).fill('k')]), 'ERR too many arguments: 40001, limit 32768'],
    ['/pipeline', '[]', 'ERR empty pipeline request'],
    ['/pipeline', '["GET","k"]', 'ERR failed to parse command: expected an array, the name first'],
    [
      '/pipeline',
      JSON.stringify(Array.from({ length: 10_001 }, () => ['PING'])),
      'ERR pipeline too long: 10001 commands, limit 10000',
    ],
    ['/multi-exec', 'null', 'ERR failed to parse pipeline request: expected an array of arrays'],
    ['/get/%zz', '', 'ERR malformed percent escape in the URL'],
    ['//k', '', 'ERR empty command'],
    ['/subscribe', '', "ERR wrong number of arguments for 'subscribe' command"],
    ['/subscribe/', '', "ERR wrong number of arguments for 'subscribe' command"],
  ];
  it('is answered 400 with the reason, and the connection goes on', async () => {
    const redis = await started();
    for (const [path, body, error] of bad) {
      expect([path, ...(await errorOf(await ask(redis, path, { body })))]).toEqual([path, 400, error]);
    }
    expect(await command(redis, 'PING')).toEqual({ result: 'PONG' });
  });

  it('is no danger when it is not even HTTP', async () => {
    const redis = await started();
    const socket = createConnection(redis.gateway.port, '127.0.0.1');
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.on('error', () => undefined);
    socket.resume();
    socket.write('\0\xff*1\r\n$4\r\nPING\r\n');
    await closed;
    expect(await command(redis, 'PING')).toEqual({ result: 'PONG' });
  });
});

describe('what is bounded', () => {
  it('answers 413 over ten mebibytes, announced or not', async () => {
    const redis = await started();
    const tooBig = Buffer.alloc(10 * 1024 * 1024 + 1, 'x');
    const error = 'ERR the request is larger than 10485760 bytes';
    expect(await errorOf(await ask(redis, '/set/k', { body: tooBig }))).toEqual([413, error]);
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let n = 0; n < 11; n += 1) controller.enqueue(tooBig.subarray(0, 1024 * 1024));
        controller.close();
      },
    });
    const chunked = { body: stream, duplex: 'half' } as RequestInit;
    expect(await errorOf(await ask(redis, '/set/k', chunked))).toEqual([413, error]);
    expect((await ask(redis, '/set/k', { body: tooBig.subarray(1) })).status).toBe(200);
    expect(await command(redis, 'STRLEN', 'k')).toEqual({ result: 10 * 1024 * 1024 });
  });

  it('answers 503 when all bodies together are too much, and forgets those that were refused or broken off', async () => {
    const redis = await started('memory', { limits: { maxBodiesBytes: 1024 * 1024 } });
    const send = async (bytes: number) => (await ask(redis, '/set/k', { body: Buffer.alloc(bytes, 'x') })).status;
    for (let n = 0; n < 5; n += 1) {
      expect(await send(1_500_000)).toBe(503);
      const broken = createConnection(redis.gateway.port, '127.0.0.1');
      const head = `POST /set/k HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${redis.token}\r\ncontent-length: 900000\r\n\r\n`;
      broken.end(`${head}${'x'.repeat(800_000)}`);
      await new Promise((resolve) => broken.resume().once('close', resolve));
      await until(async () => (await send(900_000)) === 200, { what: 'room again' });
    }
  });

  it('answers 429 to one subscriber too many, and takes the next when one has gone', async () => {
    const redis = await started('memory', { limits: { maxSubscribers: 2 } });
    const abort = new AbortController();
    await ask(redis, '/subscribe/a', { signal: abort.signal });
    await ask(redis, '/subscribe/b', { signal: AbortSignal.any([abort.signal]) });
    expect(await errorOf(await ask(redis, '/subscribe/c'))).toEqual([429, 'ERR max number of subscribers reached (2)']);
    abort.abort();
    await until(async () => (await ask(redis, '/subscribe/d')).status === 200, { what: 'a free place' });
  });

  it.each(['server', 'memory'] as const)(
    'drops a subscriber that does not read, with a last event (%s)',
    async (kind) => {
      const redis = await started(kind);
      const slow = await subscribeBySocket(redis, 'news');
      slow.socket.pause();
      const quick = await ask(redis, '/subscribe/news');
      let quickText = '';
      const reading = (async () => {
        for await (const text of quick.body!.pipeThrough(new TextDecoderStream())) quickText += text;
      })();
      const message = 'm'.repeat(64 * 1024);
      const count = 480;
      for (let n = 0; n < count; n += 1) await command(redis, 'PUBLISH', 'news', message);
      // Who was told last has all of it: so the gateway has heard all of it, too.
      await until(() => quickText.length > count * message.length, { what: 'all messages', timeoutMs: 60_000 });
      slow.socket.resume();
      await slow.closed;
      expect(slow.text()).toMatch(
        /event: error\ndata: error,news,slow subscriber: more than 1048576 bytes were waiting to be read\n\n/,
      );
      // The bound, and what the kernel holds of a loopback connection: far less than everything.
      expect(slow.text().length).toBeLessThan(24 * 1024 * 1024);
      await redis.gateway.close();
      await reading;
      expect(quickText.split('data: message,news,').length - 1).toBe(count);
    },
  );
});

describe('when Redis goes away', () => {
  it('ends subscriptions with an error event, answers 503, and recovers by itself', async () => {
    const dir = tmpDir('redis');
    ends.push(() => dir.remove());
    const options = { dir: `${dir.path}/r`, maxMemoryBytes: 2 ** 26, diesWithParent: true, say: () => {} };
    let server = await startRedisServer(options);
    ends.push(() => server.stop());
    const backend = serverBackend({ address: () => server.address, commandTimeoutMs: 1_000 });
    const gateway = await startGateway({ backend, token: 'token-of-a-test', host: '127.0.0.1', port: 0 });
    ends.push(async () => {
      await gateway.close();
      await backend.close();
    });
    const redis = { url: gateway.url, token: 'token-of-a-test', gateway } as TestRedis;
    expect(await command(redis, 'SET', 'k', 'v')).toEqual({ result: 'OK' });
    const events = await ask(redis, '/subscribe/news');
    const eventText = events.text();

    server.kill();
    await server.ended;
    expect(await eventText).toMatch(/^data: subscribe,news,1\n\n[^]*event: error\ndata: error,news,/);
    const [status, error] = await errorOf(await ask(redis, '/get/k', { method: 'GET' }));
    expect([status, error]).toEqual([503, expect.stringMatching(/^ERR redis is not reachable: /)]);
    const waiting = command(redis, 'GET', 'k');

    server = await startRedisServer(options);
    expect(await waiting).toEqual({ result: 'v' });
    const again = await ask(redis, '/subscribe/news', { signal: AbortSignal.timeout(20_000) });
    const reader = again.body?.getReader();
    await reader?.read();
    expect(await command(redis, 'PUBLISH', 'news', 'x')).toEqual({ result: 1 });
    await reader?.cancel();
  });

  it('says that a command may have been done when the connection breaks under it, and never sends it again', async () => {
    const fake = await fakeRedis();
    const backend = serverBackend({ address: () => ({ host: '127.0.0.1', port: fake.port }), commandTimeoutMs: 300 });
    ends.push(() => backend.close());
    const incr = [Buffer.from('INCR'), Buffer.from('n')];
    const outcome = await backend.pipeline([incr]).catch((error: unknown) => error);
    expect(outcome).toMatchObject({ name: 'BackendUnavailable', maybeDone: true });
    await until(() => fake.greetings() >= 3, { what: 'the client to connect again' });
    expect(fake.commands()).toEqual(['INCR n']);
  });

  it('does not wait for ever for a server that hangs', async () => {
    const redis = await started('server', { commandTimeoutMs: 400 });
    const pid = redis.server?.pid ?? 0;
    await command(redis, 'SET', 'k', 'v');
    process.kill(pid, 'SIGSTOP');
    try {
      const [status, error] = await errorOf(await ask(redis, '/incr/n'));
      expect([status, error]).toEqual([503, expect.stringMatching(/^ERR redis went away before it answered: /)]);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await until(async () => (await command(redis, 'GET', 'k')).result === 'v', { what: 'redis to answer again' });
  });
});

interface RawSubscriber {
  readonly socket: Socket;
  readonly closed: Promise<unknown>;
  text(): string;
}

/** A subscriber whose reading the test controls. */
async function subscribeBySocket(redis: TestRedis, channel: string): Promise<RawSubscriber> {
  const socket = createConnection(redis.gateway.port, '127.0.0.1');
  const chunks: Buffer[] = [];
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  socket.write(
    `GET /subscribe/${channel} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${redis.token}\r\nconnection: close\r\n\r\n`,
  );
  const text = () => Buffer.concat(chunks).toString();
  await until(() => text().includes('data: subscribe,'), { what: 'the subscription' });
  return { socket, closed, text };
}

/** Speaks enough RESP to be greeted; takes one command of a client and never answers it. */
async function fakeRedis() {
  const commands: string[] = [];
  let greetings = 0;
  const server: Server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => {
      const words = data
        .toString()
        .split('\r\n')
        .filter((line) => line !== '' && !/^[*$]/.test(line));
      if (words[0] === 'PING') {
        greetings += 1;
        socket.write('+PONG\r\n');
      } else commands.push(words.join(' '));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  return { port, commands: () => commands, greetings: () => greetings };
}
