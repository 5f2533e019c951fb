/**
 * Agents as people see them: D1 says who is enrolled and approved, the ledger of its group what it does now. Every verb
 * writes D1, then tells the ledger; both are idempotent, so a verb whose answer was lost is simply asked again.
 */
import type { Agent, AgentShown } from '../../../schema/api/agent.ts';
import type { PageQuery } from '../../../schema/api/page.ts';
import { Refusal } from '../../../schema/errors.ts';
import type { Report } from '../../../schema/protocol/messages.ts';
import type { Ctx, UserCtx } from '../../http/context.ts';
import { requireMatch } from '../../http/etag.ts';
import { parseCursor, toPage } from '../../http/page.ts';
import { database } from '../../platform/database.ts';
import { durably } from '../../platform/failpoint.ts';
import { ledgerObject } from '../../platform/objects.ts';
import { redisOf } from '../../platform/redis.ts';
import { readAgentReports } from '../../tunnel/agent-reports.ts';
import { audited, systemChain } from '../audit/record.ts';
import { reachedGroups } from '../accounts/manage-domains.ts';
import type { LedgerAgent } from '../scheduler/rpc.ts';
import { diagnose } from './diagnose.ts';
import { tellLedger } from './ledger.ts';
import { type AgentRow, findAgent, listAgents, listAllAgents, updateAgent } from './store.ts';

type Live = ReadonlyMap<string, LedgerAgent>;

/** What the ledgers of these groups know. */
async function readLive(ctx: UserCtx, groupNumbers: Iterable<number>): Promise<Live> {
  const answers = await Promise.all(
    Array.from(new Set(groupNumbers), (number) => ledgerObject(ctx.env, number).agents()),
  );
  return new Map(answers.flat().map((each) => [each.agentId, each]));
}

function stateOf(row: AgentRow, live: LedgerAgent | undefined): Agent['state'] {
  if (row.state === 'revoked') return 'revoked';
  if (live?.state === 'suspended') return 'suspended';
  if (row.state === 'pending') return 'pending';
  if (!live?.reachable) return 'unreachable';
  return row.draining ? 'draining' : 'connected';
}

/** What is known of an agent beside its row. */
interface Known {
  group: string;
  live: LedgerAgent | undefined;
  report: Report | undefined;
}

/** Host, version and health are for administrators: tenants see what they can use, not what it runs on. */
function toAgent(ctx: UserCtx, row: AgentRow, { group, live, report }: Known): Agent {
  return {
    id: row.id,
    name: row.name,
    resourceGroup: group,
    state: stateOf(row, live),
    draining: row.draining,
    approved: row.approved,
    offered: live?.epoch === undefined ? row.offered : live.offered,
    reserved: live?.reserved ?? {},
    sessions: live?.sessions ?? 0,
    ...(ctx.actor.role === undefined ? {} : { host: row.host, agentVersion: live?.agentVersion ?? row.agentVersion }),
    ...(report === undefined ? {} : { report }),
    ...(live?.epoch === undefined ? {} : { epoch: live.epoch }),
    joinedAtMs: row.joinedAtMs,
    ...(live?.connectedAtMs === undefined ? {} : { connectedAtMs: live.connectedAtMs }),
    ...(live?.lastSeenAtMs === undefined ? {} : { lastSeenAtMs: live.lastSeenAtMs }),
    ...(live?.reason === undefined ? {} : { reason: live.reason }),
  };
}

/** Agents of the groups that the actor reaches, oldest first. */
export async function listReachedAgents(ctx: UserCtx, { limit, cursor }: PageQuery) {
  const groups = new Map((await reachedGroups(ctx)).map(({ number, name }) => [number, name]));
  const after = cursor === undefined ? '' : parseCursor(cursor);
  const rows = await listAgents(database(ctx.env), [...groups.keys()], after, limit + 1);
  const live = await readLive(
    ctx,
    rows.map(({ groupNumber }) => groupNumber),
  );
  repair(ctx, rows, live);
  const reports = await readReports(ctx, rows);
  return toPage(
    rows,
    limit,
    ({ id }) => id,
    (row) => {
      const group = groups.get(row.groupNumber) ?? '';
      return toAgent(ctx, row, { group, live: live.get(row.id), report: reports.get(row.id) });
    },
  );
}

/** Last reports, for administrators: hints that may be missing. */
async function readReports(ctx: UserCtx, rows: readonly AgentRow[]): Promise<ReadonlyMap<string, Report>> {
  if (ctx.actor.role === undefined) return new Map();
  const hubs = Map.groupBy(rows, ({ controlHub }) => controlHub);
  const read = await Promise.all(
    Array.from(hubs, ([hub, agents]) =>
      readAgentReports(
        redisOf(ctx.env),
        hub,
        agents.map(({ id }) => id),
      ),
    ),
  );
  return new Map(read.flat().map(({ agentId, report }) => [agentId, report]));
}

/** One agent as people see it now. */
async function view(ctx: UserCtx, row: AgentRow, group: string): Promise<Agent> {
  const [live, reports] = await Promise.all([readLive(ctx, [row.groupNumber]), readReports(ctx, [row])]);
  repair(ctx, [row], live);
  return toAgent(ctx, row, { group, live: live.get(row.id), report: reports.get(row.id) });
}

/** A revocation that D1 holds and the ledger does not know yet (the verb was cut between the two) is told again. */
function repair(ctx: UserCtx, rows: readonly AgentRow[], live: Live): void {
  const missed = rows.filter(
    ({ id, state }) => state === 'revoked' && live.has(id) && live.get(id)?.state !== 'revoked',
  );
  if (missed.length > 0) ctx.waitUntil(Promise.all(missed.map((row) => tellLedger(ctx, row))));
}

/** An agent of a group that the actor reaches; any other is as if it did not exist. */
export async function requireAgent(ctx: UserCtx, id: string): Promise<{ row: AgentRow; group: string }> {
  const row = await findAgent(database(ctx.env), id);
  const group = row && (await reachedGroups(ctx)).find(({ number }) => number === row.groupNumber);
  if (!row || !group) throw new Refusal('agent_not_found');
  return { row, group: group.name };
}

/** One agent; administrators are told what it says of itself, asked just now. */
export async function getAgent(ctx: UserCtx, id: string): Promise<{ agent: AgentShown; version: string }> {
  const { row, group } = await requireAgent(ctx, id);
  const agent = await view(ctx, row, group);
  const isAsked = ctx.actor.role !== undefined && (agent.state === 'connected' || agent.state === 'draining');
  return { agent: { ...agent, ...(isAsked ? await diagnose(ctx, row) : {}) }, version: versionOf(row) };
}

/** Of what administrators decide about an agent; what it reports by itself changes all the time. */
function versionOf({ approval, draining, state }: AgentRow): string {
  return `${approval}-${draining ? 'draining' : 'open'}-${state}`;
}

async function changeAgent(
  ctx: UserCtx,
  id: string,
  action: string,
  change: Parameters<typeof updateAgent>[3],
): Promise<Agent> {
  const write = audited(ctx, { chain: systemChain, action, objectId: id });
  // Another request may have revoked it meanwhile.
  if (!(await updateAgent(database(ctx.env), write, id, change))) throw new Refusal('agent_revoked');
  const { row, group } = await requireAgent(ctx, id);
  await tellLedger(ctx, row);
  return view(ctx, row, group);
}

/** Approves what the agent offers now: its first inventory, or growth; and lifts a suspension. */
export async function approveAgent(ctx: UserCtx, id: string): Promise<Agent> {
  const { row } = await requireAgent(ctx, id);
  if (row.state === 'revoked')
    throw new Refusal('agent_revoked', 'Make a new key on the machine and join with a new token.');
  const live = (await readLive(ctx, [row.groupNumber])).get(id);
  const approved = live?.epoch === undefined ? row.offered : live.offered;
  return changeAgent(ctx, id, 'agent.approve', { state: 'active', approved, approval: row.approval + 1 });
}

/** Draining: what runs goes on, nothing new is placed there. */
export async function setDraining(ctx: UserCtx, id: string, draining: boolean): Promise<Agent> {
  const { row } = await requireAgent(ctx, id);
  if (row.state === 'revoked') throw new Refusal('agent_revoked');
  return changeAgent(ctx, id, draining ? 'agent.drain' : 'agent.undrain', { draining });
}

/** Revokes: its sockets close within 5 s, its key is never taken again. Idempotent. */
export async function revokeAgent(ctx: UserCtx, id: string): Promise<void> {
  const { row } = await requireAgent(ctx, id);
  requireMatch(ctx.request, versionOf(row));
  const revokedAtMs = row.revokedAtMs ?? ctx.clock.nowMs();
  const write = audited(ctx, { chain: systemChain, action: 'agent.revoke', objectId: id });
  await durably(ctx.failpoints, 'agents.revoke', () =>
    updateAgent(database(ctx.env), write, id, { state: 'revoked', revokedAtMs }),
  );
  await tellLedger(ctx, { ...row, state: 'revoked', revokedAtMs });
  ctx.log.info('revocation', { subject: id, revoked: true });
}

/** Has every ledger know its agents as the catalogue does. Idempotent. Returns how many agents there are. */
export async function tellLedgers(ctx: Ctx): Promise<number> {
  const rows = await listAllAgents(database(ctx.env));
  for (const row of rows) await tellLedger(ctx, row);
  return rows.length;
}
