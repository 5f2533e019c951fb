/** What an agent may say: a burst, then a rate; who says more is not heard for a while, longer each time. */
import { afterEach, expect, it, vi } from 'vitest';
import { TalkBudget } from '../../../edge/tunnel/talk-budget.ts';
import { channels, frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { dialClient, dialData, ids, type Peer } from './peers.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

function world() {
  let nowMs = 0;
  const clock = { nowMs: () => nowMs, bootMs: () => nowMs };
  const budget = new TalkBudget(clock, { burstFrames: 4, framesPerSecond: 10 });
  /** How many of so many frames are heard. */
  const say = (agentId: string, frames: number, bytes = 0): number =>
    Array.from({ length: frames }, () => budget.spend(agentId, bytes)).filter(Boolean).length;
  return { say, pass: (ms: number) => (nowMs += ms) };
}

it('[K6] is a burst, then a rate; a frame counts once more for each 4 KiB; agents do not share it', () => {
  const { say, pass } = world();
  expect(say('a', 4)).toBe(4);
  pass(100);
  expect(say('a', 1)).toBe(1);
  pass(200);
  expect(say('a', 1, limits.talkFrameBytes)).toBe(1);
  expect(say('a', 1)).toBe(0);
  expect(say('b', 4)).toBe(4);
});

it('[K6] a rest is twice as long each time, up to a longest, until it was good for a while', () => {
  const { say, pass } = world();
  for (let restMs: number = limits.talkRestMs; restMs < 100 * limits.talkRestMs; restMs *= 2) {
    expect(say('a', 6), `before the rest of ${restMs} ms`).toBe(4);
    pass(Math.min(restMs, limits.talkLongestRestMs) - 1);
    expect(say('a', 1), `within the rest of ${restMs} ms`).toBe(0);
    pass(1);
  }
  pass(limits.talkForgivenMs);
  expect(say('a', 6)).toBe(4);
  pass(limits.talkRestMs);
  expect(say('a', 1)).toBe(1);
});

it('[K6] a data hub closes an agent that says what moves nothing without end, on its next socket too; others go on', async () => {
  const startMs = performance.now();
  const clock = vi.spyOn(performance, 'now').mockReturnValue(startMs);
  const hub = 'talkative';
  const dialAs = (agentId: string) => dialData(hub, { agentId, purpose: 'bulk', epoch: 1 });
  const [agentId, calmId] = [ids.agent(), ids.agent()];
  const [agent, calm] = [await dialAs(agentId), await dialAs(calmId)];
  const [client, calmClient] = [await dialClient(hub, { agentId }), await dialClient(hub, { agentId: calmId })];
  /** Marks that nobody sent: nothing is answered. */
  const sayNothing = (peer: Peer, times: number) =>
    peer.send(...Array.from({ length: times }, () => ({ type: frameTypes.marked, payload: new Uint8Array(8) })));
  const serve = async (from: Peer, to: Peer, id: number) => {
    to.json(frameTypes.open, id, { op: 'echo' });
    const { stream } = await from.until('OPEN', () => from.jsonOf(frameTypes.open)[0]);
    const before = to.dataBytes;
    from.data(stream, channels.stdout, Uint8Array.of(5));
    await to.until('DATA', () => to.dataBytes === before + 1);
  };
  sayNothing(agent, limits.idleBurstFrames);
  await serve(agent, client, 1);
  sayNothing(agent, 1);
  expect(await agent.closed).toEqual({ code: 1008, reason: 'K6' });
  const again = await dialAs(agentId);
  sayNothing(again, 1);
  expect((await again.closed).code).toBe(1008);
  await serve(calm, calmClient, 1);
  clock.mockReturnValue(startMs + limits.talkRestMs);
  const later = await dialAs(agentId);
  sayNothing(later, 1);
  await serve(later, client, 2);
});
