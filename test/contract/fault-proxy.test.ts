import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type FaultProxy, startFaultProxy } from '../support/fault-proxy.ts';
import { seededRandom } from '../support/random.ts';
import { until } from '../support/wait.ts';

let target: Server;
let proxy: FaultProxy;
const accepted: Socket[] = [];

beforeEach(async () => {
  target = createServer({ allowHalfOpen: true }, (socket) => void accepted.push(socket.on('error', () => {})));
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  proxy = await startFaultProxy({ target: { port: (target.address() as AddressInfo).port }, seed: 7 });
});

afterEach(async () => {
  await proxy.stop();
  accepted.splice(0).forEach((socket) => socket.destroy());
  target.close();
});

it('carries bytes of both directions unchanged when it has no faults', async () => {
  const { client, server } = await pair();
  const up = seededRandom(1).bytes(3_000_001);
  const down = seededRandom(2).bytes(2_000_003);
  client.end(up);
  server.end(down);
  const [gotDown, gotUp] = await Promise.all([buffer(client), buffer(server)]);
  expect(gotUp.equals(up) && gotDown.equals(down)).toBe(true);
  expect([proxy.stats.upBytes, proxy.stats.downBytes]).toEqual([up.length, down.length]);
  await until(() => proxy.stats.open === 0, { what: 'the proxy to forget the connection' });
});

it('carries bytes unchanged and in order through delay, jitter, a rate and slices', async () => {
  const { client, server } = await pair();
  proxy.set('up', { latencyMs: 5, jitterMs: 20, bytesPerSecond: 2_000_000, sliceBytes: 3000 });
  const sent = seededRandom(3).bytes(400_000);
  client.end(sent);
  expect((await buffer(server)).equals(sent)).toBe(true);
});

it('delays each direction by at least its latency', async () => {
  const { client, server } = await pair();
  server.pipe(server);
  proxy.set('both', { latencyMs: 40 });
  const startedMs = performance.now();
  client.write('ping');
  await once(client, 'data');
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(79);
});

it('lets no more through than the rate allows', async () => {
  const { client, server } = await pair();
  proxy.set('up', { bytesPerSecond: 1_000_000 });
  const startedMs = performance.now();
  client.end(Buffer.alloc(500_000));
  await buffer(server);
  expect(performance.now() - startedMs).toBeGreaterThanOrEqual(450);
});

it('shares the rate evenly between connections, however unequal their hunger', async () => {
  proxy.set('up', { bytesPerSecond: 1_000_000 });
  const hungry = await pair();
  const modest = await pair();
  for (const { server } of [hungry, modest]) server.resume();
  hungry.client.write(Buffer.alloc(4_000_000));
  await until(() => hungry.server.bytesRead > 50_000, { what: 'the first stream to fill the link' });
  const before = hungry.server.bytesRead;
  modest.client.end(Buffer.alloc(200_000));
  await until(() => modest.server.bytesRead >= 200_000, { what: 'the second stream to end' });
  const meanwhile = hungry.server.bytesRead - before;
  expect(meanwhile).toBeGreaterThan(100_000);
  expect(meanwhile).toBeLessThan(400_000);
});

it('stops reading when the buffer before the link is full', async () => {
  const { client } = await pair();
  proxy.set('up', { bytesPerSecond: 1000, bufferBytes: 64 * 1024 });
  let written = 0;
  const chunk = Buffer.alloc(64 * 1024);
  while (client.write(chunk) || client.writableLength < 1_000_000) {
    written += chunk.length;
    await sleep(1);
    if (written > 64_000_000) break;
  }
  expect(written).toBeLessThan(64_000_000);
});

it('swallows one direction, also its end, and delivers both after it heals', async () => {
  const { client, server } = await pair();
  proxy.set('up', { blackhole: true });
  client.end('lost?');
  server.write('still heard');
  expect(String((await once(client, 'data'))[0])).toBe('still heard');
  await sleep(100);
  expect([server.bytesRead, server.readableEnded]).toEqual([0, false]);
  proxy.heal();
  expect((await buffer(server)).toString()).toBe('lost?');
});

it('cuts every connection with a reset at both ends', async () => {
  const { client, server } = await pair();
  const errors = [once(client, 'error'), once(server, 'error')];
  expect(proxy.reset()).toBe(1);
  const codes = (await Promise.all(errors)).map(([error]) => (error as NodeJS.ErrnoException).code);
  expect(codes).toEqual(['ECONNRESET', 'ECONNRESET']);
});

it('resets a connection at its byte limit and delivers exactly that many', async () => {
  const { client, server } = await pair();
  proxy.set('up', { limitBytes: 100_000 });
  let got = 0;
  server.on('data', (data) => (got += data.length));
  client.write(Buffer.alloc(300_000));
  await until(() => client.destroyed && server.destroyed, { what: 'both ends to be cut' });
  expect(got).toBeLessThanOrEqual(100_000);
  expect(proxy.stats.upBytes).toBe(100_000);
});

it('ends one direction and leaves the other open', async () => {
  const { client, server } = await pair();
  proxy.halfClose('up');
  server.resume();
  await once(server, 'end');
  server.write('one way');
  expect(String((await once(client, 'data'))[0])).toBe('one way');
});

it('refuses new connections until it heals, and follows a new target', async () => {
  proxy.refuse();
  const refused = dial();
  await until(() => refused.destroyed, { what: 'the connection to be refused' });
  proxy.heal();
  const other = createServer((socket) => void socket.on('error', () => {}).end('other')).listen(0, '127.0.0.1');
  await once(other, 'listening');
  proxy.retarget({ port: (other.address() as AddressInfo).port });
  const client = dial();
  expect((await buffer(client)).toString()).toBe('other');
  other.close();
});

it('resets the client when the target refuses', async () => {
  proxy.retarget({ port: 1 });
  const client = dial();
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('ECONNRESET');
});

async function pair(): Promise<{ client: Socket; server: Socket }> {
  const before = accepted.length;
  const client = dial();
  await once(client, 'connect');
  const server = await until(() => accepted[before], { what: 'the target to be dialled' });
  return { client, server };
}

function dial(): Socket {
  return connect({ host: proxy.host, port: proxy.port, allowHalfOpen: true }).on('error', () => {});
}
