/** The operation `connect`: connections to ports of a session, with a real init beside it and real sockets at the far end. */
import type { Server, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { connectStream } from '../../../agent-daemon/forward/streams.ts';
import { Refusal } from '../../../schema/errors.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import { TestStream } from '../processes/test-stream.ts';
import { serveAt } from '../serve-at.ts';
import { sessionId } from '../support.ts';

let live: LiveSession;
let serveStream: ReturnType<typeof connectStream>;
const servers: Server[] = [];
const serve = (use: (socket: Socket) => void) => serveAt(servers, use);

beforeEach(async () => {
  live = await LiveSession.start();
  serveStream = connectStream(live.of);
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await live.stop();
});

/** Remembers which channels the handler ended. */
class Ending extends TestStream {
  readonly ended: number[] = [];

  override end(channel?: number): void {
    this.ended.push(channel ?? -1);
  }
}

function open(port: number) {
  const stream = new Ending();
  const done = serveStream({ sessionId, generation: 1, actorId: 'usr_test', open: { op: 'connect', port } }, stream);
  done.catch(() => undefined);
  return { stream, done };
}

it('[S21] carries bytes both ways, and the end of each by itself', async () => {
  const heard = Promise.withResolvers<string>();
  const port = await serve((socket) => {
    socket.end('bye');
    void text(socket).then(heard.resolve);
  });
  const { stream, done } = open(port);
  await until(() => stream.ended.length > 0, { what: 'the end of what the far end says' });
  expect(stream.info).toEqual({});
  expect(stream.text()).toBe('bye');
  expect(stream.ended).toEqual([channels.stdout]);
  stream.input('late');
  stream.endInput();
  expect(await heard.promise).toBe('late');
  await done;
});

it('[S21] says before OPENED that nobody listens, or that the init is too old', async () => {
  const port = await serve(() => undefined);
  servers.splice(0).forEach((each) => each.close());
  const { stream, done } = open(port);
  await expect(done).rejects.toEqual(new Refusal('port_unreachable', `localhost:${port}: Connection refused`));
  expect(stream.info).toBeUndefined();
  live.withoutTools();
  await expect(open(port).done).rejects.toMatchObject({ detail: expect.stringContaining('new session') as string });
});

it('lets go of the far end when the client is gone, and keeps nothing', async () => {
  let ended = 0;
  const port = await serve((socket) => void socket.resume().on('end', () => ended++));
  const { stream, done } = open(port);
  await until(() => stream.info, { what: 'OPENED' });
  stream.cut();
  await done;
  await until(() => ended === 1, { what: 'the far end' });
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 0, { what: 'nothing of it' });
});

it('makes the far end wait for a client that does not read', async () => {
  let sent = 0;
  const port = await serve((socket) => {
    const more = () => {
      do sent += 65_536;
      while (socket.write(Buffer.alloc(65_536)));
    };
    socket.on('drain', more);
    more();
  });
  const { stream, done } = open(port);
  stream.windowBytes = 256 * 1024;
  let before = -1;
  await until(() => sent === before || ((before = sent), false), { what: 'the far end to wait', everyMs: 300 });
  expect(sent).toBeLessThan(32 * 1024 * 1024);
  stream.cut();
  await done.catch(() => undefined);
});

it('takes so many at once', async () => {
  const all = Array.from({ length: limits.portConnectionsPerSession }, () => open(1));
  await expect(open(1).done).rejects.toMatchObject({ code: 'port_limit' });
  await Promise.allSettled(all.map(({ done }) => done));
  await expect(open(1).done).rejects.toMatchObject({ code: 'port_unreachable' });
});
