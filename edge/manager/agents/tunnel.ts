/**
 * The agent's way in: a challenge, then an upgrade whose signature (control) or data ticket (interactive, bulk) is verified
 * here, before a hub is touched (SPEC K1, K2). The hub gets a claim in a header that the corridor takes off what comes in.
 */
import type { z } from 'zod';
import { type Challenge, type Challenged, tunnelSigningText } from '../../../schema/api/agent.ts';
import { Refusal } from '../../../schema/errors.ts';
import { idPattern, parseAgentId } from '../../../schema/ids.ts';
import type { AgentActor, AnonymousActor, Ctx } from '../../http/context.ts';
import { Appointments } from '../../http/appointments.ts';
import { Doorway } from '../../http/doorway.ts';
import { Turns } from '../../http/turns.ts';
import { systemClock, systemTimers } from '../../platform/clock.ts';
import { database } from '../../platform/database.ts';
import { controlHubObject, dataHubObject } from '../../platform/objects.ts';
import { systemRandom } from '../../platform/random.ts';
import { type AgentSocketClaim, toHub } from '../../tunnel/rpc.ts';
import { verifyDataTicket } from '../../tunnel/tickets.ts';
import { judgeChallenge, makeChallenge } from './challenge.ts';
import { isStrictSignature } from './ed25519.ts';
import { countAgents, findAgent } from './store.ts';

/** Makes a challenge for whatever agent is named: it costs nothing, and tells nobody who exists. @throws Refusal `edge_overloaded` */
export function challenge(ctx: Ctx<AnonymousActor>, { agentId }: z.infer<typeof Challenge>): Challenged {
  // An agent of an earlier version says who it is in the body alone.
  const later = ctx.request.headers.has('x-causeway-agent') ? undefined : comesLater(agentId);
  if (later) throw later;
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

/** The agent whose socket this upgrade is to be. @throws Refusal */
export async function authenticateAgent(ctx: Ctx): Promise<AgentActor> {
  const purpose = new URL(ctx.request.url).searchParams.get('purpose');
  if (purpose === 'interactive' || purpose === 'bulk') return byTicket(ctx, purpose);
  return bySignature(ctx);
}

const signed = /^causeway-agent id=([a-z0-9_]{1,64}),nonce=([A-Za-z0-9._-]{1,256}),signature=([A-Za-z0-9_-]{86})$/i;

/**
 * Keys of agents that have proved themselves here; a key never changes. Who names such an agent and is not it costs no read
 * of D1, and who is it waits for nobody that fails from the same address.
 */
const provenKeys = new Map<string, string>();
const mostProven = 20_000;

/** Each dial costs a read of D1 and two writes of the ledger: of one agent 100 at once, then 10 a second. */
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

/** To take one of a herd in costs 5 to 7 ms on a machine of two cores. */
const appointments = new Appointments(
  { burst: 16, farthestMs: 60_000, leastEachMs: 5, mostEachMs: 20, mostKnown: mostProven },
  { clock: systemClock, random: systemRandom },
);

async function bySignature(ctx: Ctx): Promise<AgentActor> {
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
  const provenKey = provenKeys.get(agentId);
  if (provenKey === undefined) await ctx.takeTurn();
  else if (!(await isStrictSignature(provenKey, signature, text))) throw new Refusal('agent_signature_invalid');
  else if (!(await dials.take(agentId))) dials.charge(agentId);
  const agent = await arrivals.pass(() => findAgent(database(ctx.env), agentId));
  if (!agent) throw new Refusal('agent_signature_invalid');
  if (agent.publicKey !== provenKey && !(await isStrictSignature(agent.publicKey, signature, text)))
    throw new Refusal('agent_signature_invalid');
  remember(agentId, agent.publicKey);
  // What else may be wrong with it is said only to whoever proved to be it. Suspension is the ledger's to say.
  if (agent.state === 'revoked') throw new Refusal('agent_revoked');
  return { kind: 'agent', agentId, groupNumber, purpose: 'control', hub: agent.controlHub, epoch: undefined };
}

function remember(agentId: string, publicKey: string): void {
  provenKeys.delete(agentId);
  provenKeys.set(agentId, publicKey);
  if (provenKeys.size <= mostProven) return;
  const [oldest] = provenKeys.keys();
  if (oldest !== undefined) provenKeys.delete(oldest);
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

const longestSpreadMs = 60_000;
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
  if (purpose !== 'control') return dataHubObject(ctx.env, hub).fetch(request);
  // The hub lets it wait while the ledger has not answered those before it.
  const { status, webSocket, headers } = await arrivals.pass(() => controlHubObject(ctx.env, hub).fetch(request));
  appointments.through(arrivals.isCrowded);
  const all = new Headers(headers);
  all.set('x-causeway-spread-ms', String(await spreadMs(ctx)));
  return new Response(null, { status, webSocket, headers: all });
}
