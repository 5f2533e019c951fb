/** `causeway port` with real sockets here, against a far end made of the real stream engine and cut at chosen moments. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, expect, it } from 'vitest';
import { PortForwarder } from '../../cli/forward/forwarder.ts';
import { parsePair } from '../../cli/session/port.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import { StreamOver } from '../../schema/protocol/stream.ts';
import type { Dialler } from '../../cli/tunnel/dial.ts';
import { farEnd, type ServeStream } from '../support/far-end.ts';
import { until } from '../support/wait.ts';

const forwarders: PortForwarder[] = [];
afterEach(() => forwarders.splice(0).forEach((each) => each.close()));

async function start(dial: Dialler, there = 80) {
  const said: string[] = [];
  const forwarder = new PortForwarder(dial, { name: 'lab', say: (line) => said.push(line) });
  forwarders.push(forwarder);
  await forwarder.connect();
  const port = await forwarder.listen('127.0.0.1', { here: 0, there });
  const run = forwarder.run();
  run.catch(() => undefined);
  return { port, said, run };
}

function dialHere(port: number): Socket {
  return connect({ port, host: '127.0.0.1', allowHalfOpen: true });
}

/** `once` of events would reject at the error before it. */
function whenClosed(socket: Socket): Promise<unknown> {
  return new Promise((resolve) => socket.on('close', resolve));
}

/** Answers what comes in capitals, and what came in all, when the input has ended. */
const shout: ServeStream<'connect'> = async (stream, { port }) => {
  stream.opened({});
  let came = 0;
  for await (const { channel, bytes, end } of stream.read()) {
    if (channel !== channels.input) continue;
    if (end) break;
    came += bytes.byteLength;
    await stream.write(channels.stdout, Buffer.from(Buffer.from(bytes).toString().toUpperCase()));
  }
  await stream.write(channels.stdout, Buffer.from(` ${came} at ${port}`));
  stream.finish();
};

it('[S21] carries many connections at once, each way to its own end', async () => {
  const { port, said } = await start(farEnd(shout), 8080);
  const texts = Array.from({ length: 20 }, (_, n) => `connection ${n} `.repeat(1000));
  const answers = await Promise.all(
    texts.map((each) => {
      const socket = dialHere(port);
      socket.end(each);
      return text(socket);
    }),
  );
  expect(answers).toEqual(texts.map((each) => `${each.toUpperCase()} ${each.length} at 8080`));
  expect(said).toEqual([]);
});

it('gives what is still sent to a far end that has said all', async () => {
  let heard = '';
  const { port } = await start(
    farEnd<'connect'>(async (stream) => {
      stream.opened({});
      await stream.write(channels.stdout, Buffer.from('bye'));
      stream.end(channels.stdout);
      for await (const { bytes, end } of stream.read()) if (!end) heard += Buffer.from(bytes).toString();
      stream.finish();
    }),
  );
  const socket = dialHere(port);
  expect(await text(socket)).toBe('bye');
  const late = 'late '.repeat(200_000);
  socket.end(late);
  await until(() => heard.length === late.length, { what: 'all of it' });
});

it('says in words what answers nowhere, once, and again after it has answered', async () => {
  let isThere = false;
  const { port, said } = await start(
    farEnd<'connect'>((stream, ...more) => {
      if (isThere) return shout(stream, ...more);
      stream.reset('port_unreachable', 'localhost:80: Connection refused');
      return Promise.resolve();
    }),
  );
  const ended = async () => {
    const socket = dialHere(port).on('error', () => undefined);
    socket.end('a');
    return text(socket).catch((error: NodeJS.ErrnoException) => error.code);
  };
  expect(await ended()).toBe('ECONNRESET');
  expect(await ended()).toBe('ECONNRESET');
  isThere = true;
  expect(await ended()).toBe('A 1 at 80');
  isThere = false;
  await ended();
  const line = 'lab:80: localhost:80: Connection refused';
  expect(said).toEqual([line, line]);
});

it('keeps its ports over a cut, refuses what comes meanwhile, and says both', async () => {
  let cut = () => undefined as void;
  let isAway = false;
  const there = farEnd<'connect'>((stream, open, cutIt, visit) => {
    cut = cutIt;
    return shout(stream, open, cutIt, visit);
  });
  const { port, said } = await start((signal) =>
    isAway ? Promise.reject(new StreamOver({ code: 'agent_unreachable' })) : there(signal),
  );
  const socket = dialHere(port).on('error', () => undefined);
  socket.write('a');
  await once(socket, 'data');
  isAway = true;
  cut();
  await whenClosed(socket);
  await until(() => said.length > 0, { what: 'the words' });
  await whenClosed(dialHere(port).on('error', () => undefined));
  expect(said).toEqual(['the connection to the session is lost: connections are refused until it is back ...']);
  isAway = false;
  await until(() => said.at(-1) === 'it is back', { what: 'the tunnel' });
  const again = dialHere(port);
  again.end('b');
  expect(await text(again)).toBe('B 1 at 80');
});

it('ends when its session has', async () => {
  const { port, run } = await start(
    farEnd<'connect'>((stream) => {
      stream.reset('session_ended', 'The session has ended. Start a new one.');
      return Promise.resolve();
    }),
  );
  dialHere(port).on('error', () => undefined);
  await expect(run).rejects.toMatchObject({ code: 'session_ended' });
});

it('refuses more connections than a socket of the tunnel carries', async () => {
  const { port, said } = await start(farEnd(shout));
  const sockets = Array.from({ length: limits.streamsPerSocket + 1 }, () =>
    dialHere(port).on('error', () => undefined),
  );
  await Promise.race(sockets.map(whenClosed));
  expect(said).toEqual([`lab:80: more than ${limits.streamsPerSocket} connections at once: the others are refused`]);
});

it('takes pairs of ports, and says what it does not take', () => {
  expect(['8080:80', '80', '0:80'].map(parsePair)).toEqual([
    { here: 8080, there: 80 },
    { here: 80, there: 80 },
    { here: 0, there: 80 },
  ]);
  for (const wrong of ['', 'a', '0', '80:0', '70000:1', '1:70000', '1:2:3', '-1:2'])
    expect(() => parsePair(wrong)).toThrow('is no pair of ports');
});
