/** A rogue with a real identity: whatever it says, nothing changes but its own placements, and nobody else notices. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';

import type { Agent } from '../../schema/api/agent.ts';
import { seededRandom } from '../support/random.ts';
import { byTier } from '../support/tier.ts';
import { until } from '../support/wait.ts';
import { attacks } from './rogue-attacks.ts';
import { p99, type RogueWorld, startBystander, startRogueWorld, viewOf } from './rogue-world.ts';
import { freshId, RawSocket } from './scripted-agent.ts';

const rounds = byTier({ daily: 2, full: 30 });
let world: RogueWorld;
beforeAll(async () => {
  world = await startRogueWorld();
});
afterAll(async () => {
  for (const agent of [world?.honest, world?.rogue]) agent?.stop();
  await world?.stack.stop();
});

it(`[K6] [M1-M8] [S5] [S8] [S13] changes nothing of others by ${attacks.length} kinds of attacks`, async () => {
  const { stack, rogue, honest, own } = world;
  const before = await viewOf(world);
  const calm = startBystander(stack);
  await sleep(1000);
  const { tookMs: calmMs } = await calm.stop();
  const bystander = startBystander(stack);
  const rng = seededRandom(7);
  const faults: string[] = [];
  const sentBefore = RawSocket.sent;
  for (let round = 0; round < rounds; round++)
    for (const attack of attacks) {
      if (!rogue.connected) await rogue.connect();
      await attack.run(world, rng).catch((error: unknown) => faults.push(`${attack.kind}: ${String(error)}`));
    }
  const { statuses, tookMs } = await bystander.stop();
  const sent = RawSocket.sent - sentBefore;
  const p99s = `${p99(calmMs).toFixed(0)} ms before, ${p99(tookMs).toFixed(0)} ms meanwhile`;
  console.log(`kinds=${attacks.length} attacks=${attacks.length * rounds} messages=${sent}; p99 of others ${p99s}`);
  expect(faults).toEqual([]);
  expect([...statuses], 'what others were answered').toEqual([200]);
  expect(attacks.length).toBeGreaterThanOrEqual(25);
  expect(sent).toBeGreaterThanOrEqual(500);
  expect(honest.connected).toBe(true);
  expect(await viewOf(world)).toEqual(before);
  expect(await stack.client.session(own)).toMatchObject({ state: 'RUNNING', agentId: rogue.id });
}, 1_200_000);

it('gets no session for capacity that nobody approved', async () => {
  const { client } = world.stack;
  await world.rogue.connect({ capacity: { cpu: 1e12, mem: 2 ** 50, 'cuda.device': 1e6 } });
  const asked = { type: 'batch' as const, image: 'none:1', resources: { cpu: 15, mem: '1GiB' } };
  // Sizes of machines are kept for some seconds.
  const { id } = await until(() => client.createSession(asked), { what: 'the session to be taken' });
  // It fits the honest agent as soon as that is empty; the rogue would take it at once.
  await sleep(500);
  const agent = (await client.api('GET', `/v1/agents/${world.rogue.id}`)) as Agent;
  expect(agent).toMatchObject({ approved: { cpu: 1000 }, sessions: 1 });
  const session = await client.session(id);
  expect(session).toMatchObject({ state: 'PENDING' });
  expect(session.agentId).toBeUndefined();
  await client.deleteSession(id);
});

it('[M2] suspends itself alone by a join counter that was used, until it is approved again', async () => {
  const { rogue, stack } = world;
  const before = await viewOf(world);
  const counter = rogue.counter - 1;
  await expect(rogue.connect({ counter, attemptId: freshId('attempt') })).rejects.toThrow('agent_identity_conflict');
  await expect(rogue.connect()).rejects.toThrow('agent_suspended');
  expect(await viewOf(world)).toEqual(before);
  await stack.client.api('POST', `/v1/agents/${rogue.id}/approve`);
  await rogue.connect();
  expect(await viewOf(world)).toEqual(before);
});
