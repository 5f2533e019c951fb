/** The control hub over real sockets in workerd, with a real ledger behind it. */
import { env } from 'cloudflare:workers';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { controlHubObject, ledgerObject } from '../../../edge/platform/objects.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { ToEdgeHello } from '../../../schema/protocol/messages.ts';
import { jsonFrames } from '../../../schema/protocol/json.ts';
import { dialClient, dialControl, dialData, ids, type Peer } from './peers.ts';
import { evict } from '../evict.ts';

const { message } = frameTypes;
const hub = 'control-test';
const slots = { cpu: 4000, mem: 8 * 1024 ** 3 };
const agent = {
  name: 'a',
  controlHub: hub,
  approved: slots,
  state: 'active' as const,
  draining: false,
  approval: 1,
};
let agentId: string;
const journalId = ids.fresh('journal');

beforeEach(async () => {
  agentId = ids.agent();
  await ledgerObject(env, 1).putAgent(1, { ...agent, agentId });
});

afterEach(() => {
  vi.restoreAllMocks();
});

function hello(counter: number, changes: Partial<ToEdgeHello> = {}): ToEdgeHello {
  return {
    type: 'hello',
    version: 1,
    minVersion: 1,
    agentVersion: 'test',
    counter,
    attemptId: ids.fresh('attempt'),
    journalId,
    capacity: slots,
    host: { hostname: 'h', os: 'o', kernel: 'k', arch: 'x86_64', engine: 'e' },
    inventory: [],
    images: [],
    ...changes,
  };
}

const find = (peer: Peer, type: string) => peer.messages.find((each) => each['type'] === type);

async function attach(counter: number): Promise<{ peer: Peer; epoch: number }> {
  const peer = await dialControl(hub, agentId);
  peer.json(message, 0, hello(counter));
  const welcome = await peer.until('welcome', () => find(peer, 'welcome'));
  return { peer, epoch: Number(welcome['epoch']) };
}

describe('the control hub', () => {
  it('[M1] [M3] welcomes an agent with an epoch of its ledger, and tells its liveness', async () => {
    const { epoch } = await attach(1);
    const alive = await controlHubObject(env, hub).liveness([agentId, ids.agent()]);
    expect(Object.keys(alive)).toEqual([agentId]);
    expect(alive[agentId]).toMatchObject({ epoch, closing: false });
  });

  it('[M1] closes a socket that says anything before hello', async () => {
    const peer = await dialControl(hub, agentId);
    peer.json(message, 0, { type: 'intentAck', intentIds: [ids.fresh('intent')] });
    expect((await peer.closed).code).toBe(1002);
  });

  it('[K6] closes an agent that says too much at once, on its next socket too; others go on', async () => {
    const nowMs = performance.now();
    const clock = vi.spyOn(performance, 'now').mockReturnValue(nowMs);
    const other = await attach(1);
    agentId = ids.agent();
    await ledgerObject(env, 1).putAgent(1, { ...agent, agentId });
    const { peer } = await attach(1);
    const nothing = { type: 'reply', callId: ids.fresh('call'), ok: true, result: {} };
    const flood = (count: number) => Array.from({ length: count }, () => jsonFrames(message, 0, nothing)).flat();
    peer.send(...flood(limits.talkBurstFrames - 1));
    peer.json(message, 0, nothing);
    expect(await peer.closed).toEqual({ code: 1008, reason: 'too much at once' });
    const next = await dialControl(hub, agentId);
    next.json(message, 0, hello(2));
    expect((await next.closed).code).toBe(1008);
    other.peer.send(...flood(10));
    clock.mockReturnValue(nowMs + limits.talkRestMs);
    expect((await attach(2)).epoch).toBeGreaterThan(other.epoch);
    expect(other.peer.socket.readyState).toBe(WebSocket.OPEN);
  });

  it('[K4] refuses a version that it does not speak', async () => {
    const peer = await dialControl(hub, agentId);
    peer.json(message, 0, hello(1, { version: 9, minVersion: 8 }));
    expect(await peer.until('refusal', () => find(peer, 'refused'))).toMatchObject({
      code: 'agent_version_unsupported',
    });
    expect((await peer.closed).code).toBe(4403);
  });

  it('[K8] takes a later version that still speaks ours, with what it does not know, and answers in ours', async () => {
    const peer = await dialControl(hub, agentId);
    peer.json(message, 0, { ...hello(1, { version: 2, minVersion: 1 }), clockOffsetMs: 12, gpus: [{ uuid: 'x' }] });
    expect(await peer.until('welcome', () => find(peer, 'welcome'))).toMatchObject({ version: 1 });
  });

  it('[K8] refuses a key that it does not know from a peer of its own version', async () => {
    const peer = await dialControl(hub, agentId);
    peer.json(message, 0, { ...hello(1), clockOffsetMs: 12 });
    expect((await peer.closed).code).toBe(1002);
  });

  it('[K8] refuses what a later version added, once both speak ours', async () => {
    const peer = await dialControl(hub, agentId);
    peer.json(message, 0, hello(1, { version: 2, minVersion: 1 }));
    await peer.until('welcome', () => find(peer, 'welcome'));
    peer.json(message, 0, { type: 'intentAck', intentIds: [ids.fresh('intent')], clockOffsetMs: 12 });
    expect((await peer.closed).code).toBe(1002);
  });

  it('[K8] serves an agent of the version before, by what that knows', async () => {
    const spoken = limits as { version: number };
    spoken.version = 2;
    try {
      const peer = await dialControl(hub, agentId);
      peer.json(message, 0, hello(1));
      expect(await peer.until('welcome', () => find(peer, 'welcome'))).toMatchObject({ version: 1 });
      const callId = ids.fresh('call');
      const outcome = controlHubObject(env, hub).call(agentId, callId, 'fromTheFuture', {}, 5000);
      await peer.until('call', () => find(peer, 'call'));
      peer.json(message, 0, { type: 'reply', callId, ok: false, code: 'tunnel_op_unknown' });
      expect(await outcome).toMatchObject({ ok: false, code: 'tunnel_op_unknown' });
    } finally {
      spoken.version = 1;
    }
  });

  it('[M2] a newer accepted counter replaces the older socket', async () => {
    const one = await attach(1);
    const two = await attach(2);
    expect(two.epoch).toBeGreaterThan(one.epoch);
    expect((await one.peer.closed).code).toBe(4409);
    expect((await controlHubObject(env, hub).liveness([agentId]))[agentId]?.epoch).toBe(two.epoch);
  });

  it('[M2] two machines with one identity: the second counter is a conflict', async () => {
    await attach(1);
    const copy = await dialControl(hub, agentId);
    copy.json(message, 0, hello(1));
    expect(await copy.until('refusal', () => find(copy, 'refused'))).toMatchObject({ code: 'agent_identity_conflict' });
  });

  it('[M2] a hello that newer sockets overtook is refused, and suspends nobody', async () => {
    const late = await dialControl(hub, agentId);
    const openedBeforeMs = Date.now();
    await expect.poll(() => Date.now()).toBeGreaterThan(openedBeforeMs);
    await attach(1);
    const { peer } = await attach(2);
    late.json(message, 0, hello(1));
    expect(await late.until('refusal', () => find(late, 'refused'))).toMatchObject({ code: 'agent_epoch_stale' });
    await attach(3);
    expect((await peer.closed).code).toBe(4409);
  });

  it('[M8] carries a call and its answer, and answers at once for an agent that is not there', async () => {
    const { peer } = await attach(1);
    const callId = ids.fresh('call');
    const outcome = controlHubObject(env, hub).call(agentId, callId, 'echo', { text: 'x' }, 5000);
    const asked = await peer.until('call', () => find(peer, 'call'));
    expect(asked).toMatchObject({ callId, op: 'echo', input: { text: 'x' } });
    peer.json(message, 0, { type: 'reply', callId, ok: true, result: { text: 'x' } });
    expect(await outcome).toEqual({ ok: true, result: { text: 'x' } });
    const nobody = await controlHubObject(env, hub).call(ids.agent(), ids.fresh('call'), 'echo', {}, 5000);
    expect(nobody).toEqual({ ok: false, code: 'agent_unreachable' });
  });

  it('[M8] a call whose agent goes away ends with tunnel_closed', async () => {
    const { peer } = await attach(1);
    const outcome = controlHubObject(env, hub).call(agentId, ids.fresh('call'), 'echo', {}, 60_000);
    await peer.until('call', () => find(peer, 'call'));
    peer.socket.close(1000, 'bye');
    expect(await outcome).toEqual({ ok: false, code: 'tunnel_closed' });
  });

  it('[M3] a fence closes sockets that are not newer; intents and dials need the very epoch', async () => {
    const { peer, epoch } = await attach(1);
    const object = controlHubObject(env, hub);
    await object.fence(agentId, epoch - 1);
    expect(await object.dial(agentId, epoch - 1, 'bulk', 'hub', 'ticket')).toBe(false);
    expect(await object.dial(agentId, epoch, 'bulk', 'hub', 'ticket')).toBe(true);
    expect(await peer.until('dial', () => find(peer, 'dial'))).toMatchObject({ purpose: 'bulk', dataHub: 'hub' });
    expect(await object.sendIntents(agentId, epoch + 1, [])).toBe('not_sent');
    await object.fence(agentId, epoch);
    expect((await peer.closed).code).toBe(4409);
    expect(await object.dial(agentId, epoch, 'bulk', 'hub', 'ticket')).toBe(false);
  });

  it('[K2] asks the agent to dial when a client opens a stream; what was sent meanwhile is not lost', async () => {
    const { peer, epoch } = await attach(1);
    const client = await dialClient(agentId, { agentId, epoch, controlHub: hub, dataTicket: 'the-ticket' });
    client.json(frameTypes.open, 1, { op: 'echo' });
    client.data(1, 0, Uint8Array.of(1, 2));
    const order = await peer.until('dial', () => find(peer, 'dial'));
    expect(order).toEqual({ type: 'dial', purpose: 'bulk', dataHub: agentId, dataTicket: 'the-ticket' });
    const data = await dialData(agentId, { agentId, purpose: 'bulk', epoch });
    const bytes = await data.until('DATA', () => data.frames.find(({ type }) => type === frameTypes.data));
    expect(data.jsonOf(frameTypes.open)[0]).toMatchObject({ stream: bytes.stream, value: { open: { op: 'echo' } } });
    expect(bytes.payload).toEqual(Uint8Array.of(1, 2));
  });

  it('survives an eviction with its socket and its epoch', async () => {
    const { peer, epoch } = await attach(1);
    await evict(env.CONTROL_HUB.getByName(hub));
    expect((await controlHubObject(env, hub).liveness([agentId]))[agentId]).toMatchObject({ epoch });
    expect(await controlHubObject(env, hub).dial(agentId, epoch, 'bulk', 'hub', 'ticket')).toBe(true);
    await peer.until('dial', () => find(peer, 'dial'));
  });

  it('[M11] says go-away before it closes for a stop', async () => {
    const { peer } = await attach(1);
    await controlHubObject(env, hub).drain();
    expect((await peer.closed).code).toBe(1001);
    expect(find(peer, 'goAway')).toMatchObject({ reason: 'restarting' });
  });

  it.each([
    ['[K6] garbage', (peer: Peer) => peer.socket.send(new Uint8Array(50).fill(3)), 1002],
    ['[F4] an empty message', (peer: Peer) => peer.socket.send(new Uint8Array(0)), 1009],
    ['[F6] an unknown message', (peer: Peer) => peer.json(message, 0, { type: 'sudo' }), 1002],
    ['[M1] a second hello', (peer: Peer) => peer.json(message, 0, hello(2)), 1002],
    ['[M1] a stream', (peer: Peer) => peer.json(frameTypes.open, 1, {}), 1002],
  ])('%s closes the socket', async (_, misbehave, code) => {
    const { peer } = await attach(1);
    misbehave(peer);
    expect((await peer.closed).code).toBe(code);
  });
});
