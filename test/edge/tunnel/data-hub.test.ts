/** The data hub over real sockets in workerd: agents and clients that behave, and those that do not. */
import { env } from 'cloudflare:workers';
import { describe, expect, it } from 'vitest';
import { accessObject } from '../../../edge/platform/objects.ts';
import { readConfig } from '../../../edge/platform/config.ts';
import { shardOf } from '../../../edge/http/shards.ts';
import type { DataHubStatus } from '../../../edge/tunnel/rpc.ts';
import { makeDataTicket } from '../../../edge/tunnel/tickets.ts';
import { channels, encodeFrames, frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { tier } from '../../support/tier.ts';
import { clientClaim, dialClient, dialData, ids, type Peer } from './peers.ts';
import { evict } from '../evict.ts';

const { open, opened, data, reset, window, mark, end } = frameTypes;
const { input, stdout, stderr, control } = channels;
const chunk = new Uint8Array(limits.payloadBytes).fill(7);

/** A bulk socket of an agent, a client, and a stream between them. */
async function bridged(layout: 'production' | 'machine' = 'production') {
  const agentId = ids.agent();
  const hub = layout === 'production' ? agentId : '7';
  const agent = await dialData(hub, { agentId, purpose: 'bulk', epoch: 1 });
  const client = await dialClient(hub, { agentId });
  const far = await openStream(client, agent, 1);
  return { agentId, hub, agent, client, far };
}

/** Opens `id` at the client; the id at the agent comes back. */
async function openStream(client: Peer, agent: Peer, id: number, request: object = { op: 'echo' }): Promise<number> {
  const before = agent.jsonOf(open).length;
  client.json(open, id, request);
  const { stream } = await agent.until('OPEN', () => agent.jsonOf(open)[before]);
  agent.json(opened, stream, {});
  await client.until('OPENED', () => client.jsonOf(opened).find((each) => each.stream === id));
  return stream;
}

function statusOf(hub: string): Promise<DataHubStatus> {
  return (env.DATA_HUB.getByName(hub) as unknown as { status(): Promise<DataHubStatus> }).status();
}

/** Sends bytes of the agent's stdout as fast as the given credit allows, for as long as credit comes. */
async function pump(agent: Peer, stream: number, total: number): Promise<number> {
  let sent = 0;
  for (;;) {
    const credit = limits.initialWindowBytes + agent.granted - sent;
    const size = Math.min(chunk.byteLength, credit, total - sent);
    if (size > 0) {
      agent.data(stream, stdout, chunk.subarray(0, size), sent);
      sent += size;
    } else if (sent === total) return sent;
    else {
      const had = agent.granted;
      const more = await agent.until('credit', () => agent.granted > had).catch(() => false);
      if (!more) return sent;
    }
  }
}

describe.each(['production', 'machine'] as const)('a data hub in the layout of %s', (layout) => {
  it('[S1] wraps OPEN with session, generation and actor, and forwards bytes both ways under new ids', async () => {
    const { agent, client, far } = await bridged(layout);
    const { value } = agent.jsonOf(open)[0]!;
    expect(value).toMatchObject({ generation: 1, open: { op: 'echo' } });
    expect(value['sessionId']).toMatch(/^ses_/);
    expect(value['actorId']).toMatch(/^usr_/);
    client.data(1, input, Uint8Array.of(1, 2, 3), 40);
    const up = await agent.until('DATA', () => agent.frames.find((frame) => frame.type === data));
    expect(up).toMatchObject({ stream: far, offset: 40, flags: 0, payload: Uint8Array.of(1, 2, 3) });
    agent.data(far, stderr, Uint8Array.of(9), 2 ** 33);
    const down = await client.until('DATA', () => client.frames.find((frame) => frame.type === data));
    expect(down).toMatchObject({ stream: 1, offset: 2 ** 33, payload: Uint8Array.of(9) });
  });

  it('[S14] carries interactive streams on the interactive socket and bulk on the bulk one', async () => {
    const agentId = ids.agent();
    const hub = layout === 'production' ? agentId : '7';
    const bulk = await dialData(hub, { agentId, purpose: 'bulk', epoch: 1 });
    const interactive = await dialData(hub, { agentId, purpose: 'interactive', epoch: 1 });
    const client = await dialClient(hub, { agentId });
    await openStream(client, interactive, 1, { op: 'process', processId: 'main' });
    await openStream(client, bulk, 2, { op: 'logs', processId: 'main', streams: 'both', follow: true });
    await openStream(client, bulk, 3);
    await openStream(client, interactive, 4, { op: 'echo', interactive: true });
  });

  it('keeps two agents and their sessions apart', async () => {
    const one = await bridged(layout);
    const two = await bridged(layout);
    one.agent.data(one.far, stdout, Uint8Array.of(1));
    two.agent.data(two.far, stdout, Uint8Array.of(2));
    await one.client.until('DATA', () => one.client.dataBytes === 1);
    await two.client.until('DATA', () => two.client.dataBytes === 1);
    const payload = (peer: Peer) => peer.frames.find((frame) => frame.type === data)?.payload;
    expect(payload(one.client)).toEqual(Uint8Array.of(1));
    expect(payload(two.client)).toEqual(Uint8Array.of(2));
  });
});

describe('streams through a hub', () => {
  it('[F2] forwards a message of many frames for many clients, each to its own, in order', async () => {
    const { agent, client, far, hub, agentId } = await bridged();
    const other = await dialClient(hub, { agentId });
    const farther = await openStream(other, agent, 1);
    const frames = Array.from({ length: 40 }, (_, n) => ({
      type: data,
      flags: stdout << 1,
      stream: n % 3 === 0 ? farther : far,
      offset: n,
      payload: Uint8Array.of(n),
    }));
    agent.socket.send(encodeFrames(frames));
    await other.until('DATA', () => other.dataBytes === 14);
    await client.until('DATA', () => client.dataBytes === 26);
    const offsets = (peer: Peer) => peer.frames.filter(({ type }) => type === data).map(({ offset }) => offset);
    expect(offsets(other)).toEqual(frames.filter(({ offset }) => offset % 3 === 0).map(({ offset }) => offset));
    expect(offsets(client)).toEqual(frames.filter(({ offset }) => offset % 3 !== 0).map(({ offset }) => offset));
  });

  it('[S7] a stream is over when both ends have ended all their channels', async () => {
    const { agent, client, far, hub } = await bridged();
    for (const channel of [stdout, stderr, control]) agent.end(far, channel);
    await client.until('END', () => client.frames.filter(({ type }) => type === end).length === 3);
    expect((await statusOf(hub)).streams).toBe(1);
    client.end(1, input);
    client.end(1, control);
    await agent.until('END', () => agent.frames.filter(({ type }) => type === end).length === 2);
    expect((await statusOf(hub)).streams).toBe(0);
  });

  it('[S8] answers DATA of an unknown stream with RESET and drops the rest', async () => {
    const { agent, client, far } = await bridged();
    client.grant(99, 5);
    client.data(99, input, Uint8Array.of(1));
    const refused = await client.until('RESET', () => client.jsonOf(reset)[0]);
    expect(refused).toEqual({ stream: 99, value: { code: 'tunnel_stream_unknown' } });
    agent.data(far + 5, stdout, Uint8Array.of(1));
    expect(await agent.until('RESET', () => agent.jsonOf(reset)[0])).toMatchObject({ stream: far + 5 });
  });

  it('[S12] resets the streams of an agent whose socket is gone, and tells the agent of a client that is', async () => {
    const { agent, client, far, hub } = await bridged();
    const second = await openStream(client, agent, 2);
    client.json(reset, 2, { code: 'client_done' });
    expect(await agent.until('RESET', () => agent.jsonOf(reset)[0])).toEqual({
      stream: second,
      value: { code: 'client_done' },
    });
    agent.socket.close(1001, 'gone');
    expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
      stream: 1,
      value: { code: 'tunnel_closed' },
    });
    expect((await agent.closed).code).toBe(1001);
    expect(far).toBeGreaterThan(0);
    expect((await statusOf(hub)).streams).toBe(0);
  });

  it('[S12] tells the agent of every stream of a client that is gone', async () => {
    const { agent, client, far } = await bridged();
    client.socket.close(1000, 'bye');
    expect(await agent.until('RESET', () => agent.jsonOf(reset)[0])).toMatchObject({
      stream: far,
      value: { code: 'tunnel_closed' },
    });
    expect((await client.closed).code).toBe(1000);
  });

  it('[K3] opens what the route allows, to whom may write, and at most 64 at a time', async () => {
    const { agent, agentId, hub } = await bridged();
    const reader = await dialClient(hub, { agentId, ops: ['logs', 'echo', 'process'], write: false });
    const refusal = async (id: number, request: object) => {
      reader.json(open, id, request);
      return (await reader.until('RESET', () => reader.jsonOf(reset).find(({ stream }) => stream === id))).value[
        'code'
      ];
    };
    expect(await refusal(1, { op: 'get', path: 'x' })).toBe('tunnel_op_unknown');
    expect(await refusal(2, { op: 'process', processId: 'main', input: true })).toBe('access_denied');
    expect(await refusal(3, { op: 'nonsense' })).toBe('tunnel_op_unknown');
    expect(await refusal(4, { op: 'echo', unknown: 1 })).toBe('tunnel_op_unknown');
    for (let id = 10; id < 74; id++) reader.json(open, id, { op: 'echo' });
    expect(await refusal(74, { op: 'echo' })).toBe('tunnel_stream_limit');
    expect(agent.jsonOf(open)).toHaveLength(65);
  });

  it('[S13] fences an epoch: older sockets close, their streams are reset', async () => {
    const { agent, client, agentId, hub } = await bridged();
    const stub = env.DATA_HUB.getByName(hub) as unknown as { fence(agentId: string, epoch: number): Promise<void> };
    await stub.fence(agentId, 0);
    expect((await statusOf(hub)).agentSockets).toBe(1);
    await stub.fence(agentId, 1);
    expect((await agent.closed).code).toBe(4409);
    expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
      value: { code: 'agent_replaced' },
    });
  });

  it('[S13] a rebound socket goes on under its new epoch; a forged ticket ends it', async () => {
    const { agent, client, far, agentId, hub } = await bridged();
    const ticket = (epoch: number) => makeDataTicket(readConfig(env).keys, { agentId, epoch, hub });
    agent.json(frameTypes.message, 0, { type: 'rebind', epoch: 2, dataTicket: ticket(2) });
    const stub = env.DATA_HUB.getByName(hub) as unknown as { fence(agentId: string, epoch: number): Promise<void> };
    agent.data(far, stdout, Uint8Array.of(1));
    await client.until('DATA', () => client.dataBytes === 1);
    await stub.fence(agentId, 1);
    agent.data(far, stdout, Uint8Array.of(2), 1);
    await client.until('DATA', () => client.dataBytes === 2);
    agent.json(frameTypes.message, 0, { type: 'rebind', epoch: 3, dataTicket: ticket(2) });
    expect((await agent.closed).code).toBe(4403);
    expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
      value: { code: 'agent_replaced' },
    });
  });

  it.runIf(tier === 'full')(
    '[S13] a socket that is not rebound 10 s after a newer epoch was seen is closed, the rebound one stays',
    async () => {
      const { agent, client, agentId, hub } = await bridged();
      const other = await dialData(hub, { agentId, purpose: 'interactive', epoch: 1 });
      const dataTicket = makeDataTicket(readConfig(env).keys, { agentId, epoch: 2, hub });
      other.json(frameTypes.message, 0, { type: 'rebind', epoch: 2, dataTicket });
      expect((await agent.closed).code).toBe(4409);
      expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
        value: { code: 'agent_replaced' },
      });
      expect((await statusOf(hub)).agentSockets).toBe(1);
    },
  );

  it('[K2] refuses a stream when the agent can not be asked to dial', async () => {
    const agentId = ids.agent();
    const client = await dialClient(agentId, { agentId });
    client.json(open, 1, { op: 'echo' });
    client.data(1, input, Uint8Array.of(1));
    expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
      stream: 1,
      value: { code: 'agent_unreachable' },
    });
  });
});

describe('flow control', () => {
  it('[S3] resets who sends beyond the window; other streams go on', async () => {
    const { agent, client, far } = await bridged();
    const second = await openStream(client, agent, 2);
    for (let at = 0; at < 5; at++) client.data(1, input, chunk, at * chunk.byteLength);
    expect(await client.until('RESET', () => client.jsonOf(reset)[0])).toMatchObject({
      stream: 1,
      value: { code: 'tunnel_window_exceeded' },
    });
    expect(await agent.until('RESET', () => agent.jsonOf(reset)[0])).toMatchObject({ stream: far });
    client.data(2, input, Uint8Array.of(1));
    await agent.until('DATA', () => agent.frames.find(({ type, stream }) => type === data && stream === second));
  });

  it('[S4] [S5] passes grants on while marks come back, for as much as anybody wants', async () => {
    const { agent, client, far, hub } = await bridged();
    let got = 0;
    const reading = client.until('all bytes', () => {
      const now = client.dataBytes;
      if (now - got >= 128 * 1024) {
        client.grant(1, now - got);
        got = now;
      }
      return now === 8 * 1024 * 1024;
    });
    expect(await pump(agent, far, 8 * 1024 * 1024)).toBe(8 * 1024 * 1024);
    await reading;
    expect(client.frames.filter(({ type }) => type === mark).length).toBeGreaterThan(20);
    expect((await statusOf(hub)).mostUnprovenBytes).toBeLessThanOrEqual(2 * 1024 * 1024);
  });

  it('[S5] a client that grants for ever and answers no mark gets its allowance, and no byte more', async () => {
    const { agent, client, far, hub } = await bridged();
    client.answersMarks = false;
    for (let n = 0; n < 50; n++) client.grant(1, 0xff_ff_ff_ff);
    const forged = crypto.getRandomValues(new Uint8Array(8));
    for (let n = 0; n < 50; n++) client.send({ type: frameTypes.marked, payload: forged });
    let sent = 0;
    const most = limits.minAllowanceBytes + 2 * limits.initialWindowBytes;
    for (let idle = 0; idle < 20;) {
      const size = Math.min(chunk.byteLength, limits.initialWindowBytes + agent.granted - sent);
      if (size > 0) {
        agent.data(far, stdout, chunk.subarray(0, size), sent);
        sent += size;
        idle = 0;
      } else {
        idle++;
        await new Promise((resolve) => void setTimeout(resolve, 10));
      }
      expect(sent).toBeLessThanOrEqual(most);
    }
    expect(sent).toBeGreaterThanOrEqual(limits.minAllowanceBytes);
    expect((await statusOf(hub)).mostUnprovenBytes).toBeLessThanOrEqual(most + 64 * 1024);
  });

  it('[S5] a stream with credit that it does not use does not starve the others', async () => {
    const { agent, client, far: idle } = await bridged();
    const first = limits.initialWindowBytes;
    const fill = (far: number, from: number) => {
      for (let at = 0; at < first; at += chunk.byteLength) agent.data(far, stdout, chunk, from + at);
    };
    const others: number[] = [];
    for (let id = 2; id <= 40; id++) others.push(await openStream(client, agent, id));
    // The first stream wants more than any allowance holds, and sends nothing; it gets what the second one's marks earn.
    client.grant(1, 64 * 1024 * 1024);
    for (let round = 0; agent.grantedTo(idle) < limits.maxAllowanceBytes - 2 * first; round++) {
      fill(others[0]!, round * first);
      client.grant(2, first);
      await agent.until('credit', () => agent.grantedTo(others[0]) >= (round + 1) * first);
    }
    // Then the client stops for a while, and its allowance falls with the first mark that comes back.
    client.answersMarks = false;
    const marks = () => client.frames.filter(({ type }) => type === mark);
    const before = { marks: marks().length, bytes: client.dataBytes, credit: agent.granted };
    for (const far of others.slice(1)) fill(far, 0);
    const sent = (others.length - 1) * first;
    await client.until('all that may be sent', () => client.dataBytes === before.bytes + sent);
    const late = await client.until('marks', () => {
      const found = marks().slice(before.marks);
      return found.length >= others.length - 2 && found;
    });
    const answer = (frames: typeof late) =>
      client.send(...frames.map(({ payload }) => ({ type: frameTypes.marked, payload })));
    answer(late.slice(0, 1));
    for (let id = 3; id <= 40; id++) client.grant(id, first);
    answer(late.slice(1));
    await agent.until('credit for the others', () => agent.granted >= before.credit + sent);
  });

  it('[S5] opening again and again does not get around it', async () => {
    const { agent, client, hub } = await bridged();
    client.answersMarks = false;
    let id = 10;
    for (; id < 400; id++) {
      client.json(open, id, { op: 'echo' });
      const answer = await agent.until(
        'OPEN or refusal',
        () => agent.jsonOf(open)[id - 9] ?? client.jsonOf(reset).at(-1),
      );
      if (client.jsonOf(reset).length > 0) break;
      const before = client.dataBytes;
      for (let n = 0; n < 4; n++) agent.data(answer.stream, stdout, chunk, n * chunk.byteLength);
      await client.until('DATA', () => client.dataBytes === before + 4 * chunk.byteLength);
      client.json(reset, id, { code: 'done' });
    }
    expect(client.jsonOf(reset)[0]?.value['code']).toBe('tunnel_stream_limit');
    expect((await statusOf(hub)).mostUnprovenBytes).toBeLessThanOrEqual(33 * 1024 * 1024);
  });

  it('[S5] an agent that reads nothing holds back those who upload to it', async () => {
    const { agent, client, far } = await bridged();
    agent.answersMarks = false;
    agent.grant(far, 0xff_ff_ff_ff);
    let sent = 0;
    for (let idle = 0; idle < 20;) {
      const size = Math.min(chunk.byteLength, limits.initialWindowBytes + client.granted - sent);
      if (size > 0) {
        client.data(1, input, chunk.subarray(0, size), sent);
        sent += size;
        idle = 0;
      } else {
        idle++;
        await new Promise((resolve) => void setTimeout(resolve, 10));
      }
    }
    expect(sent).toBeLessThanOrEqual(limits.minAllowanceBytes + 2 * limits.initialWindowBytes);
  });
});

describe('hibernation', () => {
  it('sockets, streams and credit survive an eviction of the object', async () => {
    const { agent, client, far, hub } = await bridged();
    await evict(env.DATA_HUB.getByName(hub));
    agent.data(far, stdout, Uint8Array.of(1));
    client.data(1, input, Uint8Array.of(2));
    await client.until('DATA', () => client.dataBytes === 1);
    await agent.until('DATA', () => agent.dataBytes === 1);
    const second = await openStream(client, agent, 2);
    expect(second).toBeGreaterThan(far);
    await evict(env.DATA_HUB.getByName(hub));
    for (const channel of [stdout, stderr, control]) agent.end(far, channel);
    client.end(1, input);
    const ends = (peer: Peer) => peer.frames.filter(({ type }) => type === end).length;
    await client.until('END', () => ends(client) === 3);
    await agent.until('END', () => ends(agent) === 1);
    await evict(env.DATA_HUB.getByName(hub));
    client.end(1, control);
    await agent.until('END', () => ends(agent) === 2);
    expect((await statusOf(hub)).streams).toBe(1);
  });

  it('[S6] grants nothing after a wake before a new mark came back', async () => {
    const { agent, client, hub } = await bridged();
    await evict(env.DATA_HUB.getByName(hub));
    client.answersMarks = false;
    client.grant(1, 128 * 1024);
    const asked = await client.until('MARK', () => client.frames.find(({ type }) => type === mark));
    expect(agent.granted).toBe(0);
    client.send({ type: frameTypes.marked, payload: asked.payload });
    await agent.until('WINDOW', () => agent.granted === 128 * 1024);
  });
});

describe('access', () => {
  it('[S11] closes a revoked client with 4401 before another byte passes, either way', async () => {
    const { agent, hub, agentId } = await bridged();
    const claim = clientClaim({ agentId });
    const client = await dialClient(hub, claim);
    const far = await openStream(client, agent, 1);
    const { userId, tokenId } = claim.principal;
    await accessObject(env, shardOf(userId)).finish('test', tokenId, 'revoked');
    // A wake forgets the last check: the next byte must ask.
    await evict(env.DATA_HUB.getByName(hub));
    agent.data(far, stdout, Uint8Array.of(1));
    expect(await client.closed).toMatchObject({ code: 4401 });
    expect(client.dataBytes).toBe(0);
    expect(await agent.until('RESET', () => agent.jsonOf(reset).find(({ stream }) => stream === far))).toBeDefined();
  });

  it('[S11] sends a client whose rights changed away to dial again', async () => {
    const { agent, hub, agentId } = await bridged();
    const claim = clientClaim({ agentId });
    const client = await dialClient(hub, claim);
    await openStream(client, agent, 1);
    await accessObject(env, shardOf(claim.principal.userId)).finish('test', claim.principal.userId, 'changed');
    await evict(env.DATA_HUB.getByName(hub));
    client.data(1, input, Uint8Array.of(1));
    expect(await client.closed).toMatchObject({ code: 4409 });
    expect(agent.dataBytes).toBe(0);
  });
});

describe('bad peers', () => {
  it.each([
    ['[F2] a truncated frame', (peer: Peer) => peer.socket.send(new Uint8Array(10)), 1002],
    ['[F1] garbage', (peer: Peer) => peer.socket.send(crypto.getRandomValues(new Uint8Array(500))), 1002],
    ['[F4] an empty message', (peer: Peer) => peer.socket.send(new Uint8Array(0)), 1009],
    ['[F4] a message over 1 MiB', (peer: Peer) => peer.socket.send(new Uint8Array(limits.messageBytes + 1)), 1009],
    ['[K5] a text that is not ping', (peer: Peer) => peer.socket.send('hello'), 1002],
    ['[F5] an OPENED', (peer: Peer) => peer.json(opened, 1, {}), 1002],
    ['[F5] a message', (peer: Peer) => peer.json(frameTypes.message, 0, { type: 'rebind' }), 1002],
    ['[F5] a MARK of its own', (peer: Peer) => peer.send({ type: mark, payload: new Uint8Array(8) }), 1002],
    ['[S1] an OPEN of a stream that is open', (peer: Peer) => peer.json(open, 1, { op: 'echo' }), 1002],
    ['[S1] an OPEN of stream 0', (peer: Peer) => peer.json(open, 0, { op: 'echo' }), 1002],
    ['[S2] DATA without a byte', (peer: Peer) => peer.data(1, input, new Uint8Array(0)), 1002],
    ['[S7] DATA on a channel of the agent', (peer: Peer) => peer.data(1, stdout, Uint8Array.of(1)), 1002],
    [
      '[S3] a WINDOW of three bytes',
      (peer: Peer) => peer.send({ type: window, stream: 1, payload: new Uint8Array(3) }),
      1002,
    ],
    [
      '[F6] an OPEN that is no JSON',
      (peer: Peer) => peer.send({ type: open, stream: 5, payload: Uint8Array.of(0x7b) }),
      1002,
    ],
    [
      '[F6] a RESET in parts',
      (peer: Peer) => peer.send({ type: reset, flags: 1, stream: 1, payload: Uint8Array.of(0x7b) }),
      1002,
    ],
  ])('[K6] %s closes its socket, and nobody else notices', async (_, misbehave, code) => {
    const { agent, client, hub, agentId } = await bridged();
    const good = await dialClient(hub, { agentId });
    const far = await openStream(good, agent, 1);
    misbehave(client);
    expect((await client.closed).code).toBe(code);
    agent.data(far, stdout, Uint8Array.of(5));
    await good.until('DATA', () => good.dataBytes === 1);
  });

  it('[S7] DATA behind END closes the client, and does not reach the agent', async () => {
    const { agent, client } = await bridged();
    client.end(1, input);
    client.data(1, input, Uint8Array.of(1));
    expect((await client.closed).code).toBe(1002);
    expect(agent.dataBytes).toBe(0);
  });

  it('refuses a socket without a claim', async () => {
    const response = await env.DATA_HUB.getByName('x').fetch('https://hub/', { headers: { upgrade: 'websocket' } });
    expect(response.status).toBe(403);
  });
});
