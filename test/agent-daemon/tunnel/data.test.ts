/** The agent's data sockets over real sockets against a fake edge. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Refusal } from '../../../schema/errors.ts';
import { channelFlags, channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { FakeEdge, type FakeHubSocket } from '../../support/fake-edge.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { type AgentBench, attach, type BenchOptions, sessionId, startAgent } from './bench.ts';

const { open, opened, data, end, reset, window, mark, marked } = frameTypes;
const { input, stdout, control } = channels;
const echo = { sessionId, generation: 1, actorId: 'usr_x', open: { op: 'echo' } };

let edge: FakeEdge;
let dir: TmpDir;
let agent: AgentBench;
let hub: FakeHubSocket;

async function start(options: BenchOptions = {}): Promise<void> {
  agent = await startAgent(() => edge, dir.path, options);
  hub = await attach(edge, agent);
}
beforeEach(async () => {
  edge = await FakeEdge.start();
  dir = tmpDir('dat');
});
afterEach(async () => {
  await agent.stop();
  await edge.stop();
  dir.remove();
});

async function dial(purpose: 'interactive' | 'bulk'): Promise<FakeHubSocket> {
  const before = edge.of(purpose).length;
  hub.send({ type: 'dial', purpose, dataHub: 'hub-7', dataTicket: 'ticket-1' });
  return agent.time.until('the data socket', () => edge.of(purpose)[before]);
}

const json = (socket: FakeHubSocket, type: number) =>
  socket.frames
    .filter((frame) => frame.type === type)
    .map(({ stream, payload }) => ({ stream, value: JSON.parse(Buffer.from(payload).toString()) as unknown }));
const frame = (
  type: Parameters<FakeHubSocket['sendFrames']>[0]['type'],
  stream: number,
  payload: Uint8Array,
  channel: 0 | 1 | 2 | 3 = 0,
  offset = 0,
) => ({ type, flags: channelFlags(channel), stream, offset, payload });
const bytesOf = (socket: FakeHubSocket) =>
  Buffer.concat(socket.frames.filter(({ type }) => type === data).map(({ payload }) => payload));

describe('data sockets', () => {
  it('[K2] are dialled when the edge asks, with agent, hub and ticket, once for one question', async () => {
    await start();
    const socket = await dial('bulk');
    expect(socket.headers['x-causeway-ticket']).toBe('ticket-1');
    expect(socket.headers['x-causeway-agent']).toMatch(/^agt_/);
    for (let n = 0; n < 5; n++)
      hub.send({ type: 'dial', purpose: 'interactive', dataHub: 'hub-7', dataTicket: 'ticket-1' });
    await agent.time.until('the interactive socket', () => edge.of('interactive')[0]);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    expect(edge.of('interactive')).toHaveLength(1);
  });

  it('serve streams: open, bytes both ways, end, over', async () => {
    await start();
    for (const purpose of ['bulk', 'interactive'] as const) {
      const socket = await dial(purpose);
      socket.sendJson(open, 5, echo);
      await agent.time.until('OPENED', () => json(socket, opened)[0]);
      socket.sendFrames(frame(data, 5, Buffer.from('hello ')), frame(data, 5, Buffer.from('there'), input, 6));
      await agent.time.until('the echo', () => bytesOf(socket).toString() === 'hello there');
      socket.sendFrames(frame(end, 5, new Uint8Array(0), input, 11), frame(end, 5, new Uint8Array(0), control));
      await agent.time.until(
        'END of its channels',
        () => socket.frames.filter(({ type }) => type === end).length === 3,
      );
      await agent.time.until('no stream left', () =>
        agent.tunnel.status.dataSockets.every(({ streams }) => streams === 0),
      );
    }
  });

  it('[S3] [S4] hold no more than the window when nobody grants, and go on when somebody does', async () => {
    await start({
      streams: {
        get: async (_, stream) => {
          stream.opened({});
          for (let n = 0; n < 64; n++) await stream.write(stdout, new Uint8Array(64 * 1024).fill(n));
        },
      },
    });
    const socket = await dial('bulk');
    socket.sendJson(open, 1, { ...echo, open: { op: 'get', path: 'x' } });
    await agent.time.until('a window', () => bytesOf(socket).byteLength === 256 * 1024);
    await new Promise((resolve) => void setTimeout(resolve, 50));
    expect(bytesOf(socket).byteLength).toBe(256 * 1024);
    expect(agent.tunnel.status.dataSockets[0]?.heldBytes).toBeLessThanOrEqual(320 * 1024);
    const grant = Buffer.alloc(4);
    grant.writeUInt32BE(4 * 1024 * 1024);
    socket.sendFrames(frame(window, 1, grant));
    await agent.time.until('all', () => bytesOf(socket).byteLength === 4 * 1024 * 1024);
  });

  it('[S14] keep bulk to its pace while something moves on an interactive socket, and let it run otherwise', async () => {
    const bytes = 4 * 1024 * 1024;
    await start({
      streams: {
        get: async (_, stream) => {
          stream.opened({});
          await stream.write(stdout, new Uint8Array(bytes));
        },
      },
    });
    const interactive = await dial('interactive');
    const bulk = await dial('bulk');
    const credit = Buffer.alloc(4);
    credit.writeUInt32BE(2 * bytes);
    const read = (stream: number): void => {
      bulk.sendJson(open, stream, { ...echo, open: { op: 'get', path: 'x' } });
      bulk.sendFrames(frame(window, stream, credit));
    };
    read(1);
    await agent.time.until('all of the first', () => bytesOf(bulk).byteLength === bytes);

    interactive.sendJson(open, 1, echo);
    await agent.time.until('OPENED', () => json(interactive, opened)[0]);
    read(3);
    // What may be under way to a socket goes out; each message of it then counts for as long as its pace says.
    await agent.time.until('its beginning', () => bytesOf(bulk).byteLength > bytes);
    await new Promise((resolve) => void setTimeout(resolve, 100));
    expect(bytesOf(bulk).byteLength).toBeLessThan(bytes + 2 * 1024 * 1024);
    await agent.time.until('the rest', () => bytesOf(bulk).byteLength === 2 * bytes, 5);
  });

  it('[S5] answer marks', async () => {
    await start();
    const socket = await dial('bulk');
    socket.sendFrames(frame(mark, 0, Buffer.from('12345678')));
    const answer = await agent.time.until('MARKED', () => socket.frames.find(({ type }) => type === marked));
    expect(Buffer.from(answer.payload).toString()).toBe('12345678');
  });

  it('[S1] turn refusals and faults of handlers into RESET, and hide the cause of a fault', async () => {
    await start({
      streams: {
        get: () => Promise.reject(new Refusal('session_file_not_found', 'no such file')),
        put: () => Promise.reject(new Error('secret')),
        process: () => Promise.reject(Object.assign(new Error('write /secret'), { code: 'ENOSPC' })),
      },
    });
    const socket = await dial('bulk');
    const put = { op: 'put', path: 'x', uploadId: 'abcdefgh', offset: 0, last: true };
    socket.sendJson(open, 1, { ...echo, open: { op: 'get', path: 'x' } });
    socket.sendJson(open, 2, { ...echo, open: put });
    socket.sendJson(open, 3, { ...echo, open: { op: 'teleport' } });
    socket.sendJson(open, 4, { ...echo, open: { op: 'process', processId: 'main' } });
    await agent.time.until('four RESETs', () => json(socket, reset).length === 4);
    const codes = json(socket, reset)
      .toSorted((a, b) => a.stream - b.stream)
      .map(({ value }) => value);
    expect(codes).toMatchObject([
      { code: 'session_file_not_found', detail: 'no such file' },
      { code: 'internal' },
      { code: 'tunnel_op_unknown' },
      { code: 'agent_disk_full' },
    ]);
    expect(JSON.stringify(codes)).not.toContain('secret');
  });

  it('tell a handler when its stream was reset', async () => {
    let ended: unknown;
    await start({
      streams: {
        get: async (_, stream) => {
          stream.opened({});
          await new Promise<void>((resolve) => stream.closed.addEventListener('abort', () => resolve()));
          ended = stream.closed.reason;
        },
      },
    });
    const socket = await dial('bulk');
    socket.sendJson(open, 1, { ...echo, open: { op: 'get', path: 'x' } });
    await agent.time.until('OPENED', () => json(socket, opened)[0]);
    socket.sendJson(reset, 1, { code: 'tunnel_closed', detail: 'gone' });
    await agent.time.until('the end', () => ended);
    expect(ended).toMatchObject({ code: 'tunnel_closed' });
  });

  it('[S13] are moved to a new epoch by rebind', async () => {
    await start();
    const socket = await dial('interactive');
    hub.ws.terminate();
    await attach(edge, agent, 1, { dataTicket: 'ticket-2' });
    await agent.time.until('rebind', () => socket.values[0]);
    expect(socket.values).toEqual([{ type: 'rebind', epoch: 2, dataTicket: 'ticket-2' }]);
  });

  it('[S12] are dialled again where the way lost them, not before a while when that happens again', async () => {
    await start();
    const first = await dial('bulk');
    agent.time.advance(20_000);
    first.ws.terminate();
    const second = await agent.time.until('another', () => edge.of('bulk')[1], 100);
    expect(second.headers['x-causeway-ticket']).toBe('ticket-1');
    const lostMs = agent.time.nowMs();
    second.ws.terminate();
    await agent.time.until('a third', () => edge.of('bulk')[2], 25);
    expect(agent.time.nowMs() - lostMs).toBeGreaterThan(8_000);
  });

  it('[S12] are dialled again until there is one, where the edge takes none at first', async () => {
    await start();
    const first = await dial('bulk');
    agent.time.advance(20_000);
    let refused = 0;
    edge.upgradeAnswer = (purpose) => (purpose === 'bulk' && ++refused <= 2 ? { status: 503, body: {} } : undefined);
    first.ws.terminate();
    await agent.time.until('another', () => edge.of('bulk')[1], 100);
    expect(refused).toBe(3);
  });

  it('[S12] are not dialled again when the edge closed them, or gave the agent a new epoch since', async () => {
    await start();
    const closed = await dial('interactive');
    const lost = await dial('bulk');
    closed.ws.close(1001, 'restarting');
    lost.ws.terminate();
    hub.ws.terminate();
    await attach(edge, agent, 1, { dataTicket: 'ticket-2' });
    for (let step = 0; step < 40; step++) await agent.time.pass(1_000);
    expect([edge.of('interactive').length, edge.of('bulk').length]).toEqual([1, 1]);
  });

  it('[S12] are not dialled again where the edge, which heard of the loss, has ordered another', async () => {
    await start();
    const first = await dial('bulk');
    agent.time.advance(20_000);
    first.ws.terminate();
    await dial('bulk');
    for (let step = 0; step < 30; step++) await agent.time.pass(1_000);
    expect(edge.of('bulk')).toHaveLength(2);
  });

  it('[K2] close after 60 s without a stream, interactive ones only without sessions', async () => {
    let sessions = 1;
    await start({ liveSessions: () => sessions });
    const bulk = await dial('bulk');
    const interactive = await dial('interactive');
    await agent.time.until('the end of bulk', () => bulk.closed, 1000);
    expect(interactive.closed).toBeUndefined();
    sessions = 0;
    await agent.time.until('the end of interactive', () => interactive.closed, 1000);
    expect(interactive.closed?.code).toBe(1000);
  });

  it('[K6] close for a broken frame, end their streams, and the control socket lives', async () => {
    let reason: unknown;
    await start({
      streams: {
        get: async (_, stream) => {
          stream.opened({});
          stream.closed.addEventListener('abort', () => (reason = stream.closed.reason));
          await new Promise(() => {});
        },
      },
    });
    const socket = await dial('bulk');
    socket.sendJson(open, 1, { ...echo, open: { op: 'get', path: 'x' } });
    await agent.time.until('OPENED', () => json(socket, opened)[0]);
    socket.ws.send(new Uint8Array(20).fill(9));
    expect(await agent.time.until('close', () => socket.closed)).toMatchObject({ code: 1002 });
    await agent.time.until('the end of the stream', () => reason);
    expect(reason).toMatchObject({ code: 'tunnel_closed' });
    expect(hub.closed).toBeUndefined();
  });
});
