/** The connection under a client socket, against a real WebSocket server. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo, createConnection as netConnection } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { TappedSocket } from '../../cli/tunnel/tapped-socket.ts';
import { type CreateConnection, handOver } from '../../wire/http.ts';
import { Way } from '../../wire/way.ts';

const open: (WebSocket | Server)[] = [];

afterEach(() => {
  for (const each of open.splice(0)) {
    if (each instanceof WebSocket) each.terminate();
    else {
      each.closeAllConnections();
      each.close();
    }
  }
});

/** Starts a server and dials it; `serve` gets the server's end. */
async function dial(serve: (peer: WebSocket) => void, refuse?: number) {
  const server = createServer();
  open.push(server);
  const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false });
  server.on('upgrade', (request, socket, head) => {
    if (refuse === undefined) sockets.handleUpgrade(request, socket, head, serve);
    else socket.end(`HTTP/1.1 ${refuse} No\r\ncontent-length: 40000\r\n\r\n${'x'.repeat(40_000)}`);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const messages: Buffer[] = [];
  let parts: Buffer[] = [];
  const url = new URL(`ws://127.0.0.1:${(server.address() as AddressInfo).port}/`);
  const binary = (piece: Uint8Array, last: boolean) => {
    parts.push(Buffer.from(piece));
    if (!last) return;
    messages.push(Buffer.concat(parts));
    parts = [];
  };
  const createConnection: CreateConnection = (_, created) =>
    handOver(
      TappedSocket.open(url, new Way({}), { maxBytes: 1024 * 1024, binary }, AbortSignal.timeout(20_000)),
      created,
    );
  const ws = new WebSocket(url, {
    maxPayload: 1024 * 1024,
    createConnection: createConnection as unknown as typeof netConnection,
  });
  open.push(ws);
  return { ws, messages };
}

it('carries binary messages of any size past the library, and texts through it', async () => {
  const sent = [1, 125, 126, 65_535, 65_536, 1_000_000].map((size) => Buffer.alloc(size, size % 251));
  const { ws, messages } = await dial((peer) => {
    // At once, behind the very answer to the handshake.
    for (const message of sent) peer.send(message);
    peer.on('message', (data: Buffer, isBinary) => peer.send(data, { binary: isBinary }));
    peer.send('all sent');
  });
  const texts: string[] = [];
  const libraries: Buffer[] = [];
  ws.on('message', (data: Buffer, isBinary) => (isBinary ? libraries.push(data) : texts.push(data.toString())));
  await new Promise((resolve) => ws.once('open', resolve));
  const echo = Buffer.alloc(700_000, 7);
  ws.send(echo);
  ws.send('a text');
  await expect.poll(() => texts, { timeout: 10_000 }).toEqual(['all sent', 'a text']);
  expect(messages.map((each) => each.length)).toEqual([...sent, echo].map((each) => each.length));
  expect(Buffer.concat(messages).equals(Buffer.concat([...sent, echo]))).toBe(true);
  expect(libraries).toEqual([]);
});

it('lets the library answer pings and closes, and refuse what is too large', async () => {
  const { ws } = await dial((peer) => {
    peer.on('pong', () => peer.close(4404, 'gone'));
    peer.ping('?');
  });
  const ended = await new Promise((resolve) =>
    ws.once('close', (code, reason) => resolve([code, reason.toString('utf8')])),
  );
  expect(ended).toEqual([4404, 'gone']);
  const large = await dial((peer) => {
    peer.on('error', () => {});
    peer.send(Buffer.alloc(2_000_000));
  });
  const error = await new Promise<Error>((resolve) => void large.ws.once('error', resolve));
  expect(error.message).toMatch('Max payload size exceeded');
  expect(large.messages).toEqual([]);
});

it('hands the answer of a server that refuses to the library, whole', async () => {
  const { ws } = await dial(() => expect.unreachable(), 401);
  const answer = await new Promise<{ status: number | undefined; body: string }>((resolve) => {
    ws.on('error', () => {});
    ws.once('unexpected-response', (_, response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => (body += part));
      response.on('end', () => resolve({ status: response.statusCode, body }));
    });
  });
  expect(answer).toEqual({ status: 401, body: 'x'.repeat(40_000) });
});

it('notices that the other end is gone', async () => {
  const { ws } = await dial((peer) => setTimeout(() => peer.terminate(), 20));
  expect(await new Promise((resolve) => ws.once('close', resolve))).toBe(1006);
});
