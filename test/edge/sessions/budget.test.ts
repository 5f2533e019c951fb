/**
 * What a session's whole life costs, counted over many: rows of D1, rows of objects (alarms are rows), calls between
 * objects, commands of Redis. The bounds are the project's own; prices: https://developers.cloudflare.com/durable-objects/platform/pricing/
 */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { afterEach, expect, it, vi } from 'vitest';
import { byTier } from '../../support/tier.ts';
import { admissionObject } from '../../../edge/platform/objects.ts';
import { bootstrapped, call } from '../client.ts';
import { type CountedRedis, startMeter, withRedis } from '../meter.ts';
import { BenchAgent, haveHubSayAlive } from '../scheduler/bench-agent.ts';

const sessions = byTier({ daily: 120, full: 1000 });
const timeoutMs = byTier({ daily: 120_000, full: 900_000 });
const atOnce = 12;
const budget = { d1Rows: 24, objectRows: 90, objectCalls: 24, redisCommands: 8 };

let redis: CountedRedis;
afterEach(() => {
  vi.restoreAllMocks();
  redis.remove();
});

/** One session from its POST to the end of its container, as an agent whose image is missing would take it. */
async function live(token: string, agent: BenchAgent): Promise<string> {
  const { body } = await call<{ id: string }>('POST', '/v1/sessions', {
    token,
    body: { type: 'batch', image: 'busybox', command: ['true'], resources: { cpu: 0.1, mem: '16m' } },
    headers: { 'idempotency-key': crypto.randomUUID() },
  });
  await agent.acknowledge(await agent.openIntents(body.id));
  await agent.tell(body.id, 1, { kind: 'pulling' });
  await agent.tell(body.id, 1, { kind: 'pulled', imageDigest: 'sha256:1' });
  await agent.tell(body.id, 1, { kind: 'creating' });
  await agent.tell(body.id, 1, { kind: 'running', containerId: 'c' });
  // Long enough that nothing is gathered with the end: every step is told by itself.
  await expect
    .poll(() => env.DB.prepare('SELECT state FROM sessions WHERE id = ?').bind(body.id).first('state'), {
      timeout: 20_000,
    })
    .toBe('RUNNING');
  await agent.tell(body.id, 1, { kind: 'ended', reason: 'exited', exitCode: 0 });
  await agent.acknowledge(await agent.openIntents(body.id));
  await agent.tell(body.id, 1, { kind: 'removed' });
  return body.id;
}

it(
  `a session's whole life stays within the budget, counted over ${sessions}`,
  async () => {
    redis = await withRedis();
    const { token } = await bootstrapped();
    const agent = new BenchAgent(1);
    await agent.enrol();
    await agent.attach();
    const hub = haveHubSayAlive([agent]);
    await live(token, agent);
    const published = () =>
      expect.poll(async () => (await agent.ledger.stats()).outbox.events, { timeout: 20_000 }).toBe(0);
    await published();
    // Alone, nothing of it is published together with others'.
    const alone = redis.commands;
    const hubCallsBefore = hub.calls();
    const counted = await startMeter();
    const ids: string[] = [];
    for (let done = 0; done < sessions; done += atOnce)
      ids.push(...(await Promise.all(Array.from({ length: atOnce }, () => live(token, agent)))));
    await expect
      .poll(async () => (await call<{ items: unknown[] }>('GET', '/v1/sessions?state=live', { token })).body.items, {
        timeout: 20_000,
      })
      .toEqual([]);
    await published();
    // Their audit records get their place within a minute.
    await admissionObject(env, '1').sealAudit();
    const noted = env.DB.prepare("SELECT count(*) AS n FROM audit WHERE entry LIKE '%session.create%'");
    expect(await noted.first('n')).toBe(ids.length + 1);
    // Forgetting comes 48 h later; its rows belong to the life all the same.
    const forgetting = await forgettingCost(ids);
    const each = {
      d1Rows: counted.d1Rows / ids.length,
      objectRows: (counted.objectRows + forgetting) / ids.length,
      objectCalls: (counted.objectCalls + hub.calls() - hubCallsBefore) / ids.length,
      redisCommands: (redis.commands - alone) / ids.length,
    };
    console.log(`a session's life: ${JSON.stringify(each)}, alone ${alone} commands of Redis`);
    expect(alone).toBeGreaterThan(2);
    expect(alone).toBeLessThanOrEqual(budget.redisCommands);
    expect(each.d1Rows).toBeGreaterThan(5);
    expect(each.objectRows).toBeGreaterThan(20);
    expect(each.redisCommands).toBeLessThanOrEqual(budget.redisCommands);
    expect(each.d1Rows).toBeLessThanOrEqual(budget.d1Rows);
    expect(each.objectRows).toBeLessThanOrEqual(budget.objectRows);
    expect(each.objectCalls).toBeLessThanOrEqual(budget.objectCalls);
  },
  timeoutMs,
);

/** Rows that are written when these sessions and their keys are deleted, measured on a copy that is thrown away. */
async function forgettingCost(ids: readonly string[]): Promise<number> {
  return runInDurableObject(env.LEDGER.getByName('1'), (_, { storage }) => {
    let rows = 0;
    const undo = new Error('measured');
    try {
      storage.transactionSync(() => {
        for (const table of ['sessions', 'specs', 'trails'])
          for (const id of ids) rows += storage.sql.exec(`DELETE FROM ${table} WHERE session_id = ?`, id).rowsWritten;
        throw undo;
      });
    } catch (error) {
      if (error !== undo) throw error;
    }
    // One idempotency key each, of the admission object.
    return rows + ids.length;
  });
}
