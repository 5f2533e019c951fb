import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { type Frame, decodeFrames, encodeFrames, frameTypes } from '../../schema/protocol/frame.ts';
import { type FrameFaults, type FrameProxy, startFrameProxy } from '../support/frame-proxy.ts';
import { until } from '../support/wait.ts';

let server: WebSocketServer;
let proxy: FrameProxy;
/** Numbers of the frames that arrived, in order. */
let arrived: number[] = [];

beforeAll(async () => {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', (socket) => {
    socket.on('message', (data: Buffer, isBinary) => {
      if (!isBinary) socket.send('pong');
      else arrived.push(...decodeFrames(data).map(({ offset }) => offset));
    });
  });
  proxy = await startFrameProxy(() => (server.address() as AddressInfo).port, 1);
});
afterAll(async () => {
  for (const client of server.clients) client.terminate();
  server.close();
  await proxy.stop();
});

const frame = (offset: number): Frame => {
  return { type: frameTypes.data, flags: 0, stream: 1, offset, payload: Buffer.from(`frame ${offset}`) };
};

/** Sends frames 0 to 99 through the proxy, two in a message, and returns what arrived. */
async function carry(faults: FrameFaults, atLeast: number): Promise<number[]> {
  arrived = [];
  proxy.set(faults);
  const socket = new WebSocket(`ws://127.0.0.1:${proxy.port}/agent/v1/tunnel?purpose=bulk`);
  await new Promise((resolve) => void socket.once('open', resolve));
  for (let n = 0; n < 100; n += 2) socket.send(encodeFrames([frame(n), frame(n + 1)]));
  await until(() => arrived.length >= atLeast, { what: `${atLeast} frames` });
  const pong = new Promise((resolve) => void socket.once('message', resolve));
  socket.send('ping');
  await pong;
  socket.terminate();
  return arrived;
}

const all = Array.from({ length: 100 }, (_, n) => n);

it('passes frames as they are when nothing is asked for', async () => {
  expect(await carry({}, 100)).toEqual(all);
});

it('sends frames twice', async () => {
  const before = proxy.done.duplicate;
  const seen = await carry({ duplicate: 0.5 }, 101);
  expect(seen.length).toBe(100 + proxy.done.duplicate - before);
  expect([...new Set(seen)]).toEqual(all);
});

it('lets frames change places, and loses none', async () => {
  const seen = await carry({ reorder: 0.5 }, 100);
  expect(seen).not.toEqual(all);
  expect(seen.toSorted((a, b) => a - b)).toEqual(all);
});

it('sends frames again that passed before', async () => {
  const seen = await carry({ replay: 0.5 }, 101);
  expect(seen.filter((n, at) => seen.indexOf(n) === at)).toEqual(all);
});

it('passes plain HTTP', async () => {
  const response = await fetch(`http://127.0.0.1:${proxy.port}/`);
  expect(response.status).toBe(426);
});
