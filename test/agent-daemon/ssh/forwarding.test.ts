/** What an SSH client forwards: ports and paths of the session to it, and of it to the session, by connections of the init's tools. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect as dialPort, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Client, ClientChannel } from 'ssh2';
import { SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import { serveAt } from '../serve-at.ts';
import { sessionId } from '../support.ts';
import { connectTo } from './dialled.ts';

let live: LiveSession;
let ssh: SshConnections;
const clients: Client[] = [];
const servers: Server[] = [];
const connect = () => connectTo(ssh, clients);
const serve = (use: (socket: Socket) => void, path?: string) => serveAt(servers, use, path);

beforeEach(async () => {
  live = await LiveSession.start();
  ssh = new SshConnections(live.of);
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const server of servers.splice(0)) server.close();
  await live.stop();
});

function forwardOut(client: Client, host: string, port: number): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.forwardOut('127.0.0.1', 1, host, port, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
}

it('[S22] connects to ports and paths in the session, each way to its own end', async () => {
  const { client } = await connect();
  const echo = (socket: Socket) => socket.pipe(socket);
  const port = await serve(echo);
  const bytes = Buffer.alloc(5_000_000, 'there and back');
  const channels = await Promise.all(['127.0.0.1', 'localhost'].map((host) => forwardOut(client, host, port)));
  for (const channel of channels) channel.end(bytes);
  expect(await Promise.all(channels.map((channel) => buffer(channel)))).toEqual([bytes, bytes]);
  const path = join(live.dir.path, 's');
  await serve(echo, path);
  const byPath = await new Promise<ClientChannel>((resolve, reject) => {
    client.openssh_forwardOutStreamLocal(path, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
  byPath.end('by a path');
  expect(await text(byPath)).toBe('by a path');
  const heard = Promise.withResolvers<string>();
  const early = await serve((socket) => {
    socket.end('bye');
    void text(socket).then(heard.resolve);
  });
  const channel = await forwardOut(client, '127.0.0.1', early);
  expect(await text(channel)).toBe('bye');
  channel.end('late');
  expect(await heard.promise).toBe('late');
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 0, { what: 'nothing of them' });
});

it('[S22] refuses with a reason and in words', async () => {
  const { client } = await connect();
  const port = await serve(() => undefined);
  servers.splice(0).forEach((each) => each.close());
  await expect(forwardOut(client, '127.0.0.1', port)).rejects.toMatchObject({
    reason: 2,
    message: expect.stringContaining(`127.0.0.1:${port}: Connection refused`) as string,
  });
  await expect(forwardOut(client, 'no host', 1)).rejects.toMatchObject({ reason: 1 });
  live.withoutTools();
  await expect(forwardOut(client, '127.0.0.1', port)).rejects.toThrow('Start a new session');
});

it('[S22] lets the far end go when the client has, and the other way round', async () => {
  const { client, stream } = await connect();
  const closed: string[] = [];
  const port = await serve((socket) => {
    socket.once('data', (bytes: Buffer) => {
      if (bytes.toString() === 'reset') socket.resetAndDestroy();
    });
    socket.on('end', () => socket.end()).on('close', () => closed.push('far'));
  });
  const broken = await forwardOut(client, '127.0.0.1', port);
  broken.resume().write('reset');
  await once(broken, 'close');
  await until(() => closed.length === 1, { what: 'the far end' });
  const left = await forwardOut(client, '127.0.0.1', port);
  left.write('stay');
  stream.cut();
  await until(() => closed.length === 2, { what: 'the end of the far end' });
});

it('[S22] listens in the session for the client, until it is told to stop or the client is gone', async () => {
  const { client, stream } = await connect();
  client.on('tcp connection', ({ srcIP }, accept) => {
    const channel = accept();
    channel.on('data', (bytes: Buffer) => channel.end(`${srcIP} ${bytes.toString()}`));
  });
  const listenAt = (host: string, port: number) =>
    new Promise<number>((resolve, reject) => {
      client.forwardIn(host, port, (error, chosen) => (error ? reject(error) : resolve(chosen ?? port)));
    });
  const port = await listenAt('127.0.0.1', 0);
  const ask = (word: string) => {
    const socket = dialPort(port, '127.0.0.1');
    socket.write(word);
    return text(socket);
  };
  expect(await Promise.all(['a', 'b', 'c'].map(ask))).toEqual(['a', 'b', 'c'].map((word) => `127.0.0.1 ${word}`));
  await expect(listenAt('127.0.0.1', port)).rejects.toThrow('Unable to bind');
  await new Promise<void>((resolve) => client.unforwardIn('127.0.0.1', port, () => resolve()));
  const isRefused = (at: number) =>
    new Promise<boolean>((resolve) => {
      dialPort(at, '127.0.0.1')
        .on('connect', () => resolve(false))
        .on('error', () => resolve(true));
    });
  await until(() => isRefused(port), { what: 'nobody to listen' });
  const second = await listenAt('', 0);
  expect(await isRefused(second)).toBe(false);
  const path = join(live.dir.path, 's');
  client.on('unix connection', (_info, accept) => accept().end('by a path'));
  await new Promise<void>((resolve, reject) => {
    client.openssh_forwardInStreamLocal(path, (error) => (error ? reject(error) : resolve()));
  });
  expect(await text(dialPort(path))).toBe('by a path');
  stream.cut();
  await until(() => isRefused(second), { what: 'nobody to listen' });
  await until(() => !existsSync(path), { what: 'the path to go' });
});

it('[S22] begins nothing more for a client that is gone', async () => {
  const { client, stream } = await connect();
  // Answered one after the other: most of them wait for their turn when it goes.
  for (let n = 0; n < 8; n += 1) client.forwardIn('127.0.0.1', 0, () => undefined);
  await until(async () => (await live.spools.processes(sessionId, 1)).length > 0, { what: 'the first of them' });
  stream.cut();
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 0, { what: 'nothing of them' });
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await live.spools.processes(sessionId, 1)).toEqual([]);
});

it('[S22] lets go of a connection that the client does not take', async () => {
  const { client } = await connect();
  client.on('tcp connection', (_info, _accept, reject) => reject());
  const port = await new Promise<number>((resolve) => client.forwardIn('127.0.0.1', 0, (_error, at) => resolve(at)));
  await new Promise((resolve) =>
    dialPort(port, '127.0.0.1')
      .on('error', () => undefined)
      .on('close', resolve),
  );
});
