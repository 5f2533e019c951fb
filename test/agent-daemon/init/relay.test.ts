/** The tools that make connections within a container, and listen there, against real sockets. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { connect, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterEach, expect, it } from 'vitest';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { serveAt } from '../serve-at.ts';
import { initBinary } from './harness.ts';

interface Tool {
  child: ChildProcessWithoutNullStreams;
  said: () => string;
  exited: Promise<number | null>;
}

const started: ChildProcessWithoutNullStreams[] = [];
const servers: Server[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
  for (const server of servers.splice(0)) server.close();
});

function tool(...args: string[]): Tool {
  const child = spawn(initBinary, args);
  started.push(child);
  let said = '';
  child.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()));
  child.stdin.on('error', () => undefined);
  return { child, said: () => said, exited: new Promise((resolve) => child.on('close', resolve)) };
}

const serve = (use: (socket: Socket) => void, path?: string) => serveAt(servers, use, path);

const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

it('[T2] carries many bytes both ways, to the end of each', async () => {
  const port = await serve((socket) => socket.pipe(socket));
  const { child, said, exited } = tool('connect', 'localhost', String(port));
  const bytes = randomBytes(30_000_001);
  child.stdin.end(bytes);
  expect(sha(await buffer(child.stdout))).toBe(sha(bytes));
  expect(await exited).toBe(0);
  expect(said()).toBe(`connected\nend ${bytes.byteLength}\n`);
});

it('[T2] tells where the far end has said all, and still passes on what comes', async () => {
  const heard = Promise.withResolvers<string>();
  const port = await serve((socket) => {
    socket.end('bye');
    void text(socket).then(heard.resolve);
  });
  const { child, said, exited } = tool('connect', '127.0.0.1', String(port));
  await until(() => said() === 'connected\nend 3\n', { what: 'the end' });
  child.stdin.end('late');
  expect(await heard.promise).toBe('late');
  expect(await exited).toBe(0);
});

it('[T2] passes on the end of its input, and waits for the answer', async () => {
  const port = await serve((socket) => void text(socket).then((all) => socket.end(`${all.length}`)));
  const { child, exited } = tool('connect', '127.0.0.1', String(port));
  child.stdin.end('12345');
  expect(await text(child.stdout)).toBe('5');
  expect(await exited).toBe(0);
});

it('[T2] says what went wrong', async () => {
  const port = await serve(() => undefined);
  servers.splice(0).forEach((each) => each.close());
  const refused = tool('connect', '127.0.0.1', String(port));
  expect(await refused.exited).toBe(1);
  expect(refused.said()).toBe(`127.0.0.1:${port}: Connection refused\n`);
  const nobody = tool('connect', 'no-such-host.invalid', '1');
  expect(await nobody.exited).toBe(1);
  expect(nobody.said()).toMatch(/^no-such-host\.invalid:1: ./);
  const path = tool('connect-unix', '/no/such/socket');
  expect(await path.exited).toBe(1);
  expect(path.said()).toBe('/no/such/socket: No such file or directory\n');
  expect(await tool('connect-unix', 'a'.repeat(200)).exited).toBe(1);
  const breaks = await serve((socket) => socket.once('data', () => socket.resetAndDestroy()));
  const broken = tool('connect', '127.0.0.1', String(breaks));
  broken.child.stdin.write('a');
  expect(await broken.exited).toBe(1);
  expect(broken.said()).toContain('connected\nthe connection broke: ');
});

it('[T2] ends when the far end broke a connection that it had ended', async () => {
  const port = await serve((socket) => socket.end('bye').once('finish', () => setTimeout(() => socket.destroy(), 50)));
  const { child, said, exited } = tool('connect', '127.0.0.1', String(port));
  await until(() => said().includes('end 3'), { what: 'the end' });
  const writing = setInterval(() => child.stdin.write('x'), 20);
  expect(await exited).toBe(0);
  clearInterval(writing);
});

it('[T3] passes on what it has when nobody listens any more, and leaves', async () => {
  const heard = Promise.withResolvers<string>();
  const port = await serve((socket) => {
    socket.write('never ends');
    void text(socket).then(heard.resolve);
  });
  const { child, said, exited } = tool('connect', '127.0.0.1', String(port));
  await until(() => said() === 'connected\n', { what: 'the connection' });
  child.stdin.write('last words');
  child.kill('SIGHUP');
  child.stdin.end();
  expect(await exited).toBe(0);
  expect(await heard.promise).toBe('last words');
});

it('makes a reader that stops stop the writer', async () => {
  let sent = 0;
  const port = await serve((socket) => {
    const more = () => {
      while (socket.write(Buffer.alloc(65_536))) sent += 65_536;
      sent += 65_536;
    };
    socket.on('drain', more);
    more();
  });
  const { child } = tool('connect', '127.0.0.1', String(port));
  child.stdout.pause();
  let before = -1;
  await until(
    () => {
      const isQuiet = sent === before;
      before = sent;
      return isQuiet;
    },
    { what: 'the writer to wait', everyMs: 200 },
  );
  expect(sent).toBeLessThan(32 * 1024 * 1024);
});

it('reaches a path', async () => {
  using dir = tmpDir('relay');
  const path = join(dir.path, 's');
  await serve((socket) => socket.pipe(socket), path);
  const { child, exited } = tool('connect-unix', path);
  child.stdin.end('by a path');
  expect(await text(child.stdout)).toBe('by a path');
  expect(await exited).toBe(0);
});

/** A listener, with what it tells. */
async function listen(...args: string[]) {
  const name = `test-${randomBytes(6).toString('hex')}`;
  const listener = tool(...args, name);
  const lines: string[] = [];
  listener.child.stdout.on('data', (bytes: Buffer) => lines.push(...bytes.toString().trimEnd().split('\n')));
  await until(() => lines[0], { what: 'the listener' });
  const nth = (n: number) =>
    until(() => lines.filter((line) => line.startsWith('from'))[n]?.split(' ')[1], { what: `connection ${n}` });
  return { ...listener, name, lines, nth, port: Number(lines[0]!.split(' ')[1]) };
}

it('[T4] tells of connections, each of which a process of its own carries', async () => {
  const { name, port, nth, child, exited, lines } = await listen('listen', '0');
  const sockets = Array.from({ length: 20 }, () => connect(port, '127.0.0.1'));
  const ids = await Promise.all(sockets.map((_, n) => nth(n)));
  expect(new Set(ids).size).toBe(20);
  expect(lines[1]).toMatch(/^from \d+ 127\.0\.0\.1 \d+$/);
  const takers = ids.toReversed().map((id) => tool('accepted', name, id).child);
  // From the start: what nobody reads of a process is dropped at its end.
  const got = takers.map((taker) => text(taker.stdout));
  for (const [n, taker] of takers.entries()) taker.stdin.end(`taken ${n}`);
  const came = await Promise.all(sockets.map((socket) => text(socket.once('data', () => socket.end('thanks')))));
  expect(came.toSorted()).toEqual(takers.map((_, n) => `taken ${n}`).toSorted());
  expect(await Promise.all(got)).toEqual(takers.map(() => 'thanks'));
  expect(await tool('accepted', name, ids[0]!).exited).toBe(1);
  child.stdin.end();
  expect(await exited).toBe(0);
});

it('[T4] keeps so many, lets go of those it is told to, and of all at its end', async () => {
  const { port, nth, child, lines } = await listen('listen', '0');
  const closed: number[] = [];
  const sockets = Array.from({ length: 40 }, (_, n) =>
    connect(port, '127.0.0.1')
      .on('error', () => undefined)
      .on('close', () => closed.push(n))
      .resume(),
  );
  await nth(31);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(lines).toHaveLength(33);
  child.stdin.write(`${await nth(0)}\n${await nth(1)}\nnonsense\n0\n`);
  await until(() => closed.length === 2, { what: 'two that were let go of' });
  await nth(33);
  child.kill('SIGHUP');
  await until(() => closed.length === sockets.length, { what: 'the end of all' });
});

it('[T4] listens at a path, which goes with it, and says when it can not', async () => {
  using dir = tmpDir('relay');
  const path = join(dir.path, 's');
  const { name, nth, child, exited, lines } = await listen('listen-unix', path);
  expect(lines[0]).toBe('listening 0');
  const socket = connect(path);
  socket.end('in');
  const taker = tool('accepted', name, await nth(0));
  taker.child.stdin.end('out');
  expect([await text(taker.child.stdout), await text(socket)]).toEqual(['in', 'out']);
  const second = tool('listen-unix', path, 'another');
  expect(await second.exited).toBe(1);
  // As musl says it, and as the C library of the build for sanitizers does.
  expect([`${path}: Address in use\n`, `${path}: Address already in use\n`]).toContain(second.said());
  child.kill('SIGHUP');
  expect(await exited).toBe(0);
  expect(existsSync(path)).toBe(false);
});
