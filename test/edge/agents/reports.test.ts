import { env } from 'cloudflare:workers';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { edgeRedis } from '../../../edge/platform/redis-door.ts';
import { systemClock } from '../../../edge/platform/clock.ts';
import { readAgentReports } from '../../../edge/tunnel/agent-reports.ts';

afterEach(() => {
  vi.restoreAllMocks();
});
const report = { used: { cpu: 500 }, health: 'ok', problems: [], sessions: 1, atMs: 1 };

/** Redis behind its REST protocol (texts in base64, as the client asks for), answering one command. */
function answering(values: (string | null)[]) {
  const result = values.map((value) => (value === null ? null : btoa(value)));
  return vi.spyOn(globalThis, 'fetch').mockImplementation(() => Promise.resolve(Response.json({ result })));
}
const door = () => edgeRedis({ url: 'https://redis.test', token: 'x' }, systemClock);

describe("agents' last reports", () => {
  it('are read from the hash of their hub, those that are there and right', async () => {
    const asked = answering([JSON.stringify(report), null, 'not json', JSON.stringify({ ...report, used: 'all' })]);
    expect(await readAgentReports(door(), 'hub-1', ['a', 'b', 'c', 'd'])).toEqual([{ agentId: 'a', report }]);
    const [, request] = asked.mock.calls[0]!;
    expect(JSON.parse(String(request?.body))).toEqual(['hmget', 'cw:agents:hub-1', 'a', 'b', 'c', 'd']);
  });
  it('are missing without Redis, and when it does not answer', async () => {
    expect(env.UPSTASH_REDIS_REST_URL).toBe('');
    expect(await readAgentReports(undefined, 'hub-1', ['a'])).toEqual([]);
    vi.spyOn(globalThis, 'fetch').mockImplementation(() => Promise.reject(new Error('gone')));
    expect(await readAgentReports(door(), 'hub-1', ['a'])).toEqual([]);
  });
});
