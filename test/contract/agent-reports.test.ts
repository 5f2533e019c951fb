/** What a control hub writes of its agents is what a list of agents reads, over the real gateway. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { edgeRedis } from '../../edge/platform/redis-door.ts';
import { readAgentReports, writeAgentReports } from '../../edge/tunnel/agent-reports.ts';
import type { Report } from '../../schema/protocol/messages.ts';
import { type RedisKind, startTestRedis, type TestRedis } from '../support/redis.ts';

const clock = { nowMs: () => Date.now(), bootMs: () => performance.now() };
const report = (cpu: number): Report => ({ used: { cpu }, health: 'ok', problems: [], sessions: 1, atMs: 1 });

describe.each<RedisKind>(['memory', 'server'])("agents' reports in %s", (kind) => {
  let redis: TestRedis;
  beforeAll(async () => {
    redis = await startTestRedis(kind);
  });
  afterAll(() => redis.stop());

  it('replace those of their hub, and are read by agent', async () => {
    const door = edgeRedis({ url: redis.url, token: redis.token }, clock);
    await writeAgentReports(door, 'h1', [
      { agentId: 'a', report: report(1) },
      { agentId: 'b', report: report(2) },
    ]);
    await writeAgentReports(door, 'h2', [{ agentId: 'c', report: report(3) }]);
    expect(await readAgentReports(door, 'h1', ['b', 'nobody', 'a'])).toEqual([
      { agentId: 'b', report: report(2) },
      { agentId: 'a', report: report(1) },
    ]);
    await writeAgentReports(door, 'h1', [{ agentId: 'a', report: report(9) }]);
    expect(await readAgentReports(door, 'h1', ['a', 'b'])).toEqual([{ agentId: 'a', report: report(9) }]);
  });
});
