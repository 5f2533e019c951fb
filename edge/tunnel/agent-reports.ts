/**
 * The last reports of a control hub's agents (use, health) in Redis, where placement and lists look for hints. An agent that
 * is not there is neither good nor bad: the reports expire, and a flush loses nothing that an agent does not say again.
 */
import { Report } from '../../schema/protocol/messages.ts';
import { redisKeys, writeReportsArguments, writeReportsScript } from '../../schema/redis-scripts.ts';
import type { EdgeRedis } from '../platform/redis-door.ts';

export interface AgentReport {
  agentId: string;
  report: Report;
}

/** An agent reports every 15 minutes at the latest. */
const expirySeconds = 20 * 60;
/** Nobody waits for it. */
const budgetMs = 2_000;

/** Replaces what is known of the hub's agents; does nothing without Redis. @throws RedisUnavailable */
export async function writeAgentReports(
  redis: EdgeRedis | undefined,
  hub: string,
  reports: readonly AgentReport[],
): Promise<void> {
  if (!redis) return;
  const pairs = reports.map(({ agentId, report }) => [agentId, JSON.stringify(report)] as const);
  await redis.run({ script: writeReportsScript, ...writeReportsArguments(hub, expirySeconds, pairs) }, { budgetMs });
}

/** The last reports of some agents of a hub. Without Redis, or when it does not answer in time: none. */
export async function readAgentReports(
  redis: EdgeRedis | undefined,
  hub: string,
  agentIds: readonly string[],
): Promise<AgentReport[]> {
  if (!redis) return [];
  const values = await redis.fields(redisKeys.agents(hub), agentIds).catch(() => []);
  return agentIds.flatMap((agentId, at) => {
    const report = parseReport(values[at]);
    return report ? [{ agentId, report }] : [];
  });
}

/** Redis is outside: what it holds is checked like anything from there. */
function parseReport(text: string | undefined): Report | undefined {
  if (text === undefined) return undefined;
  try {
    return Report.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
