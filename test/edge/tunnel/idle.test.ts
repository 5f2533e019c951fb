/**
 * What an agent costs that does nothing, counted over a quarter of an hour of a hub of 100: pings are answered by the
 * runtime, a report comes every 15 minutes at the latest, and a minute's reports are one write.
 */
import { runDurableObjectAlarm, runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, it, vi } from 'vitest';
import { controlHubObject, ledgerObject } from '../../../edge/platform/objects.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { type CountedRedis, startMeter, withRedis } from '../meter.ts';
import { dialControl, ids, type Peer } from './peers.ts';

const hub = 'control-idle';
const agents = 100;
const minutes = 15;
const pingsPerMinute = 60_000 / limits.pingEveryMs;
/** Of one agent, in a minute. */
const budget = { hubMessages: 1, redisCommands: 0.01, d1Rows: 0 };
const slots = { cpu: 4000, mem: 8 * 1024 ** 3 };
const report = { used: {}, sessions: 0, health: 'ok', problems: [], atMs: 1 };

let redis: CountedRedis;
afterEach(() => {
  vi.restoreAllMocks();
  redis.remove();
});

async function connect(): Promise<Peer> {
  const agentId = ids.agent();
  const approved = { agentId, name: 'a', controlHub: hub, approved: slots, state: 'active' as const };
  await ledgerObject(env, 1).putAgent(1, { ...approved, draining: false, approval: 1 });
  const peer = await dialControl(hub, agentId);
  peer.json(frameTypes.message, 0, {
    type: 'hello',
    version: 1,
    minVersion: 1,
    agentVersion: 'test',
    counter: 1,
    attemptId: ids.fresh('attempt'),
    journalId: ids.fresh('journal'),
    capacity: slots,
    host: { hostname: 'h', os: 'o', kernel: 'k', arch: 'x86_64', engine: 'e' },
    inventory: [],
    images: [],
  });
  await peer.until('welcome', () => peer.messages.find((each) => each['type'] === 'welcome'));
  return peer;
}

it(`an idle agent stays within the budget, counted over ${minutes} minutes of ${agents}`, async () => {
  redis = await withRedis();
  const peers = await Promise.all(Array.from({ length: agents }, connect));
  let pongs = 0;
  for (const { socket } of peers)
    socket.addEventListener('message', ({ data }) => {
      if (data === 'pong') pongs += 1;
    });
  // What the attach left to do is not idleness.
  await runDurableObjectAlarm(env.LEDGER.getByName('1'));
  const counted = await startMeter();
  const callsBefore = counted.objectCalls;
  for (let minute = 0; minute < minutes; minute += 1) {
    for (const { socket } of peers) for (let ping = 0; ping < pingsPerMinute; ping += 1) socket.send('ping');
    for (const [at, peer] of peers.entries())
      if (at % minutes === minute) peer.json(frameTypes.message, 0, { type: 'report', report });
    await expect.poll(() => pongs).toBe((minute + 1) * agents * pingsPerMinute);
    // Behind the reports on the same sockets.
    await controlHubObject(env, hub).liveness([]);
    await runDurableObjectAlarm(env.CONTROL_HUB.getByName(hub));
  }
  const each = {
    hubMessages: counted.hubMessages / agents / minutes,
    redisCommands: redis.commands / agents / minutes,
    d1Rows: counted.d1Rows,
  };
  console.log(`an idle agent's minute: ${JSON.stringify(each)}`);
  expect(counted.hubMessages).toBe(agents);
  expect(redis.commands).toBeGreaterThan(0);
  expect(each.hubMessages).toBeLessThanOrEqual(budget.hubMessages);
  expect(each.redisCommands).toBeLessThanOrEqual(budget.redisCommands);
  expect(each.d1Rows).toBe(budget.d1Rows);
  // Its ledger hears nothing of it, and nothing wakes the ledger.
  expect(counted.objectCalls).toBe(callsBefore);
  const alarm = await runInDurableObject(env.LEDGER.getByName('1'), (_, { storage }) => storage.getAlarm());
  expect(alarm).toBeNull();
});
