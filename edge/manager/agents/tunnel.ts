/**
 * The agent's way in: a challenge, then an upgrade whose signature (control) or data ticket (interactive, bulk) is verified
 * here, before a hub is touched (SPEC K1, K2). The hub gets a claim in a header that the corridor takes off what comes in.
 */
import type { z } from 'zod';
import { type Challenge, type Challenged, tunnelSigningText } from '../../../schema/api/agent.ts';
import { Refusal } from '../../../schema/errors.ts';
import { idPattern, parseAgentId } from '../../../schema/ids.ts';
import { badgeHeader, spreadHeader } from '../../../schema/protocol/limits.ts';
import type { AgentActor, AnonymousActor, Ctx } from '../../http/context.ts';
import { Appointments } from '../../http/appointments.ts';
import { Doorway } from '../../http/doorway.ts';
import { Turns } from '../../http/turns.ts';
import { systemClock, systemTimers } from '../../platform/clock.ts';
import { database } from '../../platform/database.ts';
import { controlHubObject, dataHubObject, ledgerObject } from '../../platform/objects.ts';
import { systemRandom } from '../../platform/random.ts';
import { type AgentSocketClaim, toHub } from '../../tunnel/rpc.ts';
import { verifyDataTicket } from '../../tunnel/tickets.ts';
import { type Enrolment, makeBadge, readBadge } from './badge.ts';
import { judgeChallenge, makeChallenge } from './challenge.ts';
import { isStrictSignature } from './ed25519.ts';
import { countAgents, findAgent } from './store.ts';

export const tunnelPath = '/agent/v1/tunnel';

/**
 * Makes a challenge for whatever agent is named: that costs nothing, and tells nobody who exists. Where an address fails too
 * often only who shows a badge waits for nobody. @throws Refusal `edge_overloaded`, `request_rate_limited`
 */
export async function challenge(ctx: Ctx<AnonymousActor>, { agentId }: z.infer<typeof Challenge>): Promise<Challenged> {
  // An agent of an earlier version says who it is in the body alone.
  const later = ctx.request.headers.has('x-causeway-agent') ? undefined : comesLater(agentId);
  if (later) throw later;
  if (badgeOf(ctx, agentId) === undefined) await ctx.takeTurn();
  return makeChallenge(ctx.config.keys, agentId, ctx.clock.nowMs(), ctx.random);
}

/** While many agents wait to be let in, more are told when to come. */
export function sendAway(request: Request): Refusal | undefined {
  const agentId = request.headers.get('x-causeway-agent');
  return agentId === null ? undefined : comesLater(agentId.slice(0, 64));
}

function comesLater(agentId: string): Refusal | undefined {
  const laterMs = arrivals.isCrowded ? appointments.take(agentId) : 0;
  if (laterMs === 0) return undefined;
  const retryAfterSeconds = Math.ceil(laterMs / 1000);
  return new Refusal('edge_overloaded', 'Many agents connect at once.', { retryAfterSeconds });
}

/** Who asks as an agent: by its signature, or by a data ticket, which opens a socket and nothing else. @throws Refusal */
export async function authenticateAgent(ctx: Ctx): Promise<AgentActor> {
  const { pathname, searchParams } = new URL(ctx.request.url);
  const purpose = pathname === tunnelPath ? searchParams.get('purpose') : null;
  if (purpose === 'interactive' || purpose === 'bulk') return byTicket(ctx, purpose);
  return bySignature(ctx, purpose === 'control');
}

const signed = /^causeway-agent id=([a-z0-9_]{1,64}),nonce=([A-Za-z0-9._-]{1,256}),signature=([A-Za-z0-9_-]{86})$/i;

/**
 * Agents that have proved themselves here; others show what they were given when they did (`badge.ts`). Who names such an
 * agent and is not it costs no read of D1, and who is it waits for nobody that fails from the same address.
 */
const proven = new Map<string, Enrolment>();
const mostProven = 20_000;

/** Each dial costs two writes of the ledger: of one agent 100 at once, then 10 a second. */
const dials = new Turns(
  {
    costMs: 100,
    burstMs: 10_000,
    waitMs: 4_000,
    holdMs: 4_000,
    mostKeys: mostProven,
    mostWaiting: 1_000,
    detail: 'Too many connections of this agent.',
  },
  { clock: systemClock, timers: systemTimers, random: systemRandom },
);

/** A herd that returns goes through here: what people ask meanwhile is answered in between. */
const arrivals = new Doorway(
  {
    atOnce: 16,
    waitMs: 10_000,
    mostWaiting: 5_000,
    spreadMs: 20_000,
    detail: 'Many agents connect at once.',
  },
  { clock: systemClock, timers: systemTimers, random: systemRandom },
);

/** To take one of a herd in costs 3 to 5 ms on a machine of two cores. */
const appointments = new Appointments(
  { burst: 16, farthestMs: 60_000, leastEachMs: 3, mostEachMs: 20, mostKnown: mostProven },
  { clock: systemClock, random: systemRandom },
);

async function bySignature(ctx: Ctx, isDial: boolean): Promise<AgentActor> {
  const header = ctx.request.headers.get('authorization');
  if (header === null) throw new Refusal('auth_missing');
  const [, agentId, nonce, signature] = signed.exec(header) ?? [];
  if (agentId === undefined || nonce === undefined || signature === undefined) throw new Refusal('auth_invalid');
  const groupNumber = parseAgentId(agentId)?.groupNumber;
  if (groupNumber === undefined) throw new Refusal('agent_signature_invalid');
  const judged = judgeChallenge(ctx.config.keys, agentId, nonce, ctx.clock.nowMs());
  if (judged === 'expired') throw new Refusal('agent_challenge_expired', 'Ask for a new challenge.');
  if (judged === 'forged') throw new Refusal('agent_signature_invalid');
  const { host } = new URL(ctx.request.url);
  const text = tunnelSigningText({ instance: ctx.config.instance, agentId, nonce, host });
  const known = proven.get(agentId) ?? badgeOf(ctx, agentId);
  if (known === undefined) await ctx.takeTurn();
  else if (!(await isStrictSignature(known.publicKey, signature, text))) throw new Refusal('agent_signature_invalid');
  else if (!(await dials.take(agentId))) dials.charge(agentId);
  // That it was revoked or suspended since is its ledger's to say, which is asked before a control socket counts.
  const enrolled: Found = known !== undefined && isDial ? known : await findEnrolled(ctx, agentId);
  if (enrolled.publicKey !== known?.publicKey && !(await isStrictSignature(enrolled.publicKey, signature, text)))
    throw new Refusal('agent_signature_invalid');
  remember(agentId, enrolled);
  // Said only to whoever proved to be it.
  if (enrolled.isRevoked === true) throw new Refusal('agent_revoked');
  return { kind: 'agent', agentId, groupNumber, purpose: 'control', hub: enrolled.hub, epoch: undefined };
}

function badgeOf(ctx: Ctx, agentId: string): Enrolment | undefined {
  return readBadge(ctx.config.keys, agentId, ctx.request.headers.get(badgeHeader));
}

type Found = Enrolment & { isRevoked?: boolean };

/** As the catalogue has it. @throws Refusal `agent_signature_invalid`: it says no more to whoever is not enrolled */
async function findEnrolled(ctx: Ctx, agentId: string): Promise<Found> {
  const agent = await arrivals.pass(() => findAgent(database(ctx.env), agentId));
  if (!agent) throw new Refusal('agent_signature_invalid');
  return { publicKey: agent.publicKey, hub: agent.controlHub, isRevoked: agent.state === 'revoked' };
}

function remember(agentId: string, { publicKey, hub }: Enrolment): void {
  proven.delete(agentId);
  proven.set(agentId, { publicKey, hub });
  if (proven.size <= mostProven) return;
  const [oldest] = proven.keys();
  if (oldest !== undefined) proven.delete(oldest);
}

function byTicket(ctx: Ctx, purpose: 'interactive' | 'bulk'): AgentActor {
  const agentId = ctx.request.headers.get('x-causeway-agent');
  const ticket = ctx.request.headers.get('x-causeway-ticket');
  const hub = new URL(ctx.request.url).searchParams.get('hub');
  if (agentId === null || ticket === null || hub === null) throw new Refusal('auth_missing');
  const groupNumber = idPattern('agent').test(agentId) ? parseAgentId(agentId)?.groupNumber : undefined;
  const epoch = verifyDataTicket(ctx.config.keys, ticket, { agentId, hub });
  if (groupNumber === undefined || epoch === undefined) throw new Refusal('auth_invalid');
  return { kind: 'agent', agentId, groupNumber, purpose, hub, epoch };
}

/** Of 10,000 agents, which take 3 ms each: all are back a minute after the edge is. */
const longestSpreadMs = 45_000;
const countForMs = 60_000;
const counted = { agents: 0, untilMs: Number.NEGATIVE_INFINITY };

/** Over how long a time the agents should come back when the edge was gone (SPEC M12). */
async function spreadMs(ctx: Ctx): Promise<number> {
  const nowMs = ctx.clock.bootMs();
  if (nowMs >= counted.untilMs) {
    // Whoever comes meanwhile has the count of before.
    counted.untilMs = nowMs + countForMs;
    counted.agents = await countAgents(database(ctx.env)).catch(() => counted.agents);
  }
  return Math.min(counted.agents * appointments.eachMs, longestSpreadMs);
}

/** Hands the upgrade to the agent's hub. */
export async function openTunnel(ctx: Ctx<AgentActor>): Promise<Response> {
  const { agentId, groupNumber, purpose, hub, epoch } = ctx.actor;
  const claim: AgentSocketClaim = { agentId, groupNumber, purpose, ...(epoch === undefined ? {} : { epoch }) };
  const request = toHub(ctx.request, 'agent', claim);
  if (purpose !== 'control') {
    // A ticket says what was so when it was made: an agent may have been revoked since, or taken for lost.
    if (!(await ledgerObject(ctx.env, groupNumber).carries(agentId, epoch ?? 0)))
      throw new Refusal('agent_epoch_stale', 'The ticket is not of the present connection of this agent.');
    return dataHubObject(ctx.env, hub).fetch(request);
  }
  // The hub lets it wait while the ledger has not answered those before it.
  const { status, webSocket, headers } = await arrivals.pass(() => controlHubObject(ctx.env, hub).fetch(request));
  appointments.through(arrivals.isCrowded);
  const all = new Headers(headers);
  all.set(spreadHeader, String(await spreadMs(ctx)));
  const enrolment = proven.get(agentId);
  if (enrolment) all.set(badgeHeader, makeBadge(ctx.config.keys, agentId, enrolment));
  return new Response(null, { status, webSocket, headers: all });
}
