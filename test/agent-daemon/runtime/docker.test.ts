/** What becomes of calls to an engine that stands still or dies in the middle of its answer. */
import { createServer, type RequestListener, type Server } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DockerRuntime } from '../../../agent-daemon/runtime/docker.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';

describe('an engine that does not answer to the end', () => {
  let dir: TmpDir;
  let server: Server;
  let runtime: DockerRuntime;
  let answer: RequestListener = () => undefined;
  const sockets = new Set<Socket>();
  const upgrades: Socket[] = [];

  beforeEach(async () => {
    dir = tmpDir('engine');
    upgrades.length = 0;
    server = createServer((request, response) => answer(request, response));
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    });
    server.on('upgrade', (_, socket) => void upgrades.push(socket as Socket));
    const socketPath = join(dir.path, 'docker.sock');
    await new Promise<void>((resolve) => void server.listen(socketPath, resolve));
    runtime = new DockerRuntime(socketPath);
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  });

  afterEach(() => {
    vi.useRealTimers();
    for (const socket of sockets) socket.destroy();
    server.close();
    dir.remove();
  });

  /** Lets the deadline of a look pass. */
  function passDeadline(): void {
    vi.advanceTimersByTime(5_001);
    vi.useRealTimers();
  }

  /** Resolves when real time has brought what it brings. */
  async function real(isSo: () => boolean, what: string): Promise<void> {
    for (let looks = 0; !isSo(); looks++) {
      if (looks > 100_000) throw new Error(`not so: ${what}`);
      await new Promise((resolve) => void setImmediate(resolve));
    }
  }

  it('has nobody attached who has given up waiting for it', async () => {
    const attaching = runtime.attachContainer('c');
    const refused = expect(attaching).rejects.toMatchObject({ kind: 'timeout' });
    await real(() => upgrades.length > 0, 'that it is asked');
    passDeadline();
    await refused;
    const [upgrade] = upgrades;
    upgrade?.write('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n');
    upgrade?.resume();
    await until(() => upgrade?.destroyed === true, { what: 'the connection to be closed', timeoutMs: 5_000 });
  });

  const tarHeader = (size: number): Buffer => {
    const header = Buffer.alloc(512);
    header.write('passwd', 0);
    header.write('0000644\0', 100);
    header.write(`${size.toString(8).padStart(11, '0')}\0`, 124);
    header.write('00000000000\0', 136);
    header.fill(' ', 148, 156);
    header.write('0', 156);
    header.write('ustar\x0000', 257);
    const sum = header.reduce((all, byte) => all + byte, 0);
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
    return header;
  };

  it('lets whoever reads a file of a container go when it dies, and when it stands still', async () => {
    answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-tar' });
      response.write(tarHeader(100_000), () => setImmediate(() => response.destroy()));
    };
    await expect(runtime.readContainerFile('c', '/etc/passwd')).rejects.toMatchObject({ name: 'RuntimeError' });

    let isAsked = false;
    answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/x-tar' });
      response.write(tarHeader(100_000), () => (isAsked = true));
    };
    const reading = runtime.readContainerFile('c', '/etc/passwd');
    const refused = expect(reading).rejects.toMatchObject({ kind: 'timeout' });
    await real(() => isAsked, 'that it is asked');
    passDeadline();
    await refused;
  });

  it('gives the whole of a file that comes in pieces', async () => {
    const text = Array.from({ length: 5_000 }, (_, n) => `user${n}:x:${n}:${n}\n`).join('');
    answer = (_, response) => {
      const padding = Buffer.alloc(512 - (text.length % 512) + 1024);
      response.writeHead(200, { 'content-type': 'application/x-tar' });
      response.write(tarHeader(text.length));
      response.write(text.slice(0, 40_000));
      setImmediate(() => response.end(Buffer.concat([Buffer.from(text.slice(40_000)), padding])));
    };
    expect(await runtime.readContainerFile('c', '/etc/passwd')).toBe(text);
  });
});
