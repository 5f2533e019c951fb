/** What an agent asks for and the socket that it opens with the answer go on one connection, by every way. */
import { createServer as createPlainServer, type Server } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo, Socket as Connection } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { postBy } from '../../../agent-daemon/tunnel/http.ts';
import { dialBy } from '../../../agent-daemon/tunnel/socket.ts';
import { ensureMaterial } from '../../../edge/serve/tls/material.ts';
import { tunnelProtocol } from '../../../schema/protocol/limits.ts';
import { brieflyKept } from '../../../wire/http.ts';
import { Way } from '../../../wire/way.ts';
import { startConnectProxy } from '../../support/connect-proxy.ts';
import { tmpDir } from '../../support/tmp.ts';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

/** Echoes bodies, and what comes on its WebSockets; `hosts` that were asked for, by connection. */
async function serve(server: Server) {
  const hosts: string[][] = [];
  const connections = new Map<Connection, string[]>();
  const note = (connection: Connection, host: string | undefined): void => {
    const known = connections.get(connection) ?? [];
    if (known.length === 0) hosts.push(known);
    connections.set(connection, known);
    known.push(host ?? '');
  };
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: () => tunnelProtocol });
  sockets.on('headers', (headers) => headers.push('x-causeway-spread-ms: 4711'));
  server.on('request', (request, answer) => {
    note(request.socket, request.headers.host);
    request.pipe(answer.writeHead(200));
  });
  server.on('upgrade', (request, socket, head) => {
    note(socket as Connection, request.headers.host);
    sockets.handleUpgrade(request, socket, head, (made) => made.on('message', (data: Buffer) => made.send(data)));
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  open.push({ close: () => (server.closeAllConnections(), sockets.close(), server.close()) });
  return { port: (server.address() as AddressInfo).port, hosts };
}

/** Asks, dials, and hears one message back. */
async function askAndDial(url: string, way: Way): Promise<string> {
  const kept = brieflyKept(way);
  const signal = AbortSignal.timeout(20_000);
  const { text } = await postBy(kept)(new URL(`${url}/challenge`), '{"agentId":"a"}', signal);
  const heard = Promise.withResolvers<string>();
  const listen = () => ({
    message: (bytes: Uint8Array) => heard.resolve(Buffer.from(bytes).toString()),
    text: () => undefined,
    closed: () => heard.resolve('closed'),
  });
  const socket = await dialBy(kept)({ url: `${url}/tunnel?purpose=control`, headers: {}, signal }, listen);
  expect(socket.spreadMs).toBe(4711);
  socket.send(Buffer.from(text));
  const said = await heard.promise;
  socket.destroy();
  return said;
}

it('in plain', async () => {
  const { port, hosts } = await serve(createPlainServer());
  const url = `http://127.0.0.1:${port}`;
  expect(await askAndDial(url, new Way({}))).toBe('{"agentId":"a"}');
  expect(hosts).toEqual([[`127.0.0.1:${port}`, `127.0.0.1:${port}`]]);
});

it('by TLS and a pin, and with that through a proxy', async () => {
  const folder = tmpDir('kept');
  open.push({ close: () => folder.remove() });
  const { privateKey, certificateChain, pin } = ensureMaterial(folder.path, ['127.0.0.1', 'cp.example'], Date.now());
  const { port, hosts } = await serve(createServer({ key: privateKey, cert: certificateChain }));
  const url = `https://127.0.0.1:${port}`;
  const both = [`127.0.0.1:${port}`, `127.0.0.1:${port}`];
  expect(await askAndDial(url, new Way({}, [pin]))).toBe('{"agentId":"a"}');
  expect(hosts).toEqual([both]);
  const proxy = await startConnectProxy({ hosts: { 'cp.example': '127.0.0.1' } });
  open.push({ close: () => proxy.stop() });
  const behind = new Way({ HTTPS_PROXY: `http://127.0.0.1:${proxy.port}` }, [pin]);
  expect(await askAndDial(`https://cp.example:${port}`, behind)).toBe('{"agentId":"a"}');
  expect(hosts).toEqual([both, [`cp.example:${port}`, `cp.example:${port}`]]);
  expect(proxy.asked).toEqual([{ target: `cp.example:${port}`, status: 200 }]);
});

it('a pin that is not met ends the dial too, and nothing is sent', async () => {
  const folder = tmpDir('kept');
  open.push({ close: () => folder.remove() });
  const { privateKey, certificateChain } = ensureMaterial(folder.path, ['127.0.0.1'], Date.now());
  const { port, hosts } = await serve(createServer({ key: privateKey, cert: certificateChain }));
  const kept = brieflyKept(new Way({}, [`sha256:${'0'.repeat(64)}`]));
  const request = { url: `https://127.0.0.1:${port}/tunnel`, headers: {}, signal: AbortSignal.timeout(20_000) };
  const listen = () => ({ message: () => undefined, text: () => undefined, closed: () => undefined });
  await expect(dialBy(kept)(request, listen)).rejects.toMatchObject({ code: 'tls_pin_mismatch' });
  expect(hosts).toEqual([]);
});
