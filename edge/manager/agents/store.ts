/** SQL of agents' enrolment. Takes a database, returns rows or undefined; decides nothing. */
import { and, asc, eq, gt, inArray, ne, sql } from 'drizzle-orm';
import { agents, joinTokens } from '../../../schema/db/agents.ts';
import type { Database, Write } from '../../platform/database.ts';

export type AgentRow = typeof agents.$inferSelect;
export type JoinTokenRow = typeof joinTokens.$inferSelect;

/** Agents of one control hub: what a hub carries with a report each minute. */
const agentsPerHub = 128;

export async function insertJoinToken(db: Database, write: Write, row: JoinTokenRow): Promise<void> {
  const insert = db
    .insert(joinTokens)
    .values(row)
    .onConflictDoUpdate({
      target: joinTokens.id,
      set: { hash: row.hash },
      setWhere: eq(joinTokens.createdBy, row.createdBy),
    });
  await write([insert.getSQL()]);
}
export async function findJoinToken(db: Database, id: string): Promise<JoinTokenRow | undefined> {
  return (await db.select().from(joinTokens).where(eq(joinTokens.id, id)).limit(1))[0];
}
export async function findJoinTokenByHash(db: Database, hashes: string[]): Promise<JoinTokenRow | undefined> {
  return (await db.select().from(joinTokens).where(inArray(joinTokens.hash, hashes)).limit(1))[0];
}

export async function findAgent(db: Database, id: string): Promise<AgentRow | undefined> {
  return (await db.select().from(agents).where(eq(agents.id, id)).limit(1))[0];
}
export async function findAgentByKey(db: Database, publicKey: string): Promise<AgentRow | undefined> {
  return (await db.select().from(agents).where(eq(agents.publicKey, publicKey)).limit(1))[0];
}
/** By another key than this one. */
export async function isNameTaken(db: Database, name: string, publicKey: string): Promise<boolean> {
  const others = and(eq(agents.name, name), ne(agents.publicKey, publicKey));
  return (await db.select({ id: agents.id }).from(agents).where(others).limit(1)).length > 0;
}

/**
 * Writes the agent and spends the token, or neither: another key may have spent it, or taken the name, meanwhile. Where the
 * same key was enrolled meanwhile, by another token, this one is spent on that. The control hub is chosen by the number of
 * agents so far.
 */
export async function enrolAgent(write: Write, tokenId: string, agent: Omit<AgentRow, 'controlHub'>): Promise<void> {
  const unspent = sql`EXISTS (SELECT 1 FROM join_tokens WHERE id = ${tokenId} AND used_by_key IS NULL)`;
  const known = sql`SELECT 1 FROM agents WHERE name = ${agent.name} OR public_key = ${agent.publicKey}`;
  const own = sql`SELECT id FROM agents WHERE public_key = ${agent.publicKey} AND group_number = ${agent.groupNumber}`;
  await write([
    sql`INSERT INTO agents (id, group_number, name, public_key, control_hub, state, draining, approved, approval, offered,
        host, agent_version, joined_at_ms)
      SELECT ${agent.id}, ${agent.groupNumber}, ${agent.name}, ${agent.publicKey},
        (SELECT CAST(count(*) / ${agentsPerHub} AS INTEGER) || '' FROM agents), ${agent.state}, 0,
        ${JSON.stringify(agent.approved)}, ${agent.approval}, ${JSON.stringify(agent.offered)}, ${JSON.stringify(agent.host)},
        ${agent.agentVersion}, ${agent.joinedAtMs}
      WHERE ${unspent} AND NOT EXISTS (${known})`,
    sql`UPDATE join_tokens SET used_by_key = ${agent.publicKey}, agent_id = (${own})
      WHERE id = ${tokenId} AND used_by_key IS NULL AND EXISTS (${own})`,
  ]);
}

/** Spends a token on an agent that is enrolled already. */
export async function spendJoinToken(db: Database, write: Write, tokenId: string, agent: AgentRow): Promise<void> {
  const update = db
    .update(joinTokens)
    .set({ usedByKey: agent.publicKey, agentId: agent.id })
    .where(and(eq(joinTokens.id, tokenId), sql`${joinTokens.usedByKey} IS NULL`));
  await write([update.getSQL()]);
}

/** False where the agent was revoked, which is final: only that may be written again. */
export async function updateAgent(
  db: Database,
  write: Write,
  id: string,
  change: Partial<Pick<AgentRow, 'state' | 'draining' | 'approved' | 'approval' | 'revokedAtMs' | 'agentVersion'>>,
): Promise<boolean> {
  const open = change.state === 'revoked' ? undefined : ne(agents.state, 'revoked');
  const update = db
    .update(agents)
    .set(change)
    .where(and(eq(agents.id, id), open));
  return (await write([update.getSQL()])) > 0;
}

export function listAgents(
  db: Database,
  groupNumbers: readonly number[],
  after: string,
  limit: number,
): Promise<AgentRow[]> {
  // One JSON parameter: a statement takes at most 100.
  const wanted = sql`${agents.groupNumber} IN (SELECT value FROM json_each(${JSON.stringify(groupNumbers)}))`;
  return db
    .select()
    .from(agents)
    .where(and(wanted, gt(agents.id, after)))
    .orderBy(asc(agents.id))
    .limit(limit);
}

export async function countAgents(db: Database): Promise<number> {
  return db.$count(agents, ne(agents.state, 'revoked'));
}

export function listAllAgents(db: Database): Promise<AgentRow[]> {
  return db.select().from(agents).orderBy(asc(agents.id));
}
