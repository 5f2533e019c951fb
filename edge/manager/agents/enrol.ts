/** Join tokens and enrolment: a one-time token, spent on a key made on the host. */
import type { z } from 'zod';
import type { Enrol, Enrolled, JoinTokenCreated, JoinTokenState, NewJoinToken } from '../../../schema/api/agent.ts';
import { Refusal } from '../../../schema/errors.ts';
import { newAgentId } from '../../../schema/ids.ts';
import { clientNetworkOf } from '../../http/client-address.ts';
import type { AnonymousActor, Ctx, UserCtx } from '../../http/context.ts';
import { shardOf } from '../../http/shards.ts';
import { database, type Database } from '../../platform/database.ts';
import { durably } from '../../platform/failpoint.ts';
import { keyedHash, keyedHashes } from '../../platform/keys.ts';
import { throttleObject } from '../../platform/objects.ts';
import { findGroup, findGroupNamed } from '../accounts/catalogue.ts';
import { audited, systemChain } from '../audit/record.ts';
import { isStrictPublicKey } from './ed25519.ts';
import { tellLedger } from './ledger.ts';
import {
  type AgentRow,
  enrolAgent,
  findAgent,
  findAgentByKey,
  findJoinToken,
  findJoinTokenByHash,
  insertJoinToken,
  isNameTaken,
  type JoinTokenRow,
  spendJoinToken,
} from './store.ts';

/** Wrong tokens from one address (IPv6: /64). */
const throttle = { failures: 20, windowMs: 15 * 60_000 };
const policy = { name: 'join', quota: throttle.failures, windowSeconds: throttle.windowMs / 1000 };
const defaultTtlSeconds = 15 * 60;
const alphabet = '0123456789abcdefghjkmnpqrstvwxyz';

/** `cwj_` and 100 random bits in Crockford base32: short enough to be typed. */
function makeJoinToken(bytes: Uint8Array): string {
  return `cwj_${Array.from(bytes, (byte) => alphabet[byte & 31]).join('')}`;
}

export async function createJoinToken(
  ctx: UserCtx,
  input: z.infer<typeof NewJoinToken>,
): Promise<z.infer<typeof JoinTokenCreated>> {
  const group = await findGroupNamed(ctx, input.resourceGroup);
  if (!group) throw new Refusal('group_not_found');
  const token = makeJoinToken(ctx.random.bytes(20));
  const nowMs = ctx.clock.nowMs();
  const row: JoinTokenRow = {
    id: ctx.newId('joinToken'),
    hash: keyedHash(ctx.config.keys, 'join-token', token),
    groupNumber: group.number,
    autoApprove: input.autoApprove ?? true,
    createdBy: ctx.actor.userId,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + (input.ttlSeconds ?? defaultTtlSeconds) * 1000,
    usedByKey: null,
    agentId: null,
  };
  const details = { group: group.name, autoApprove: row.autoApprove };
  const write = audited(ctx, { chain: systemChain, action: 'join-token.create', objectId: row.id, details });
  await insertJoinToken(database(ctx.env), write, row);
  const { origin: url, serverPin: pin } = ctx.config;
  return {
    id: row.id,
    token,
    expiresAtMs: row.expiresAtMs,
    resourceGroup: group.name,
    ...(url === undefined ? {} : { url }),
    ...(pin === undefined ? {} : { pin }),
  };
}

export async function getJoinToken(ctx: UserCtx, id: string): Promise<z.infer<typeof JoinTokenState>> {
  const row = await findJoinToken(database(ctx.env), id);
  if (!row) throw new Refusal('agent_join_token_not_found');
  const state = row.agentId !== null ? 'used' : row.expiresAtMs <= ctx.clock.nowMs() ? 'expired' : 'waiting';
  return { id, state, ...(row.agentId === null ? {} : { agentId: row.agentId }), expiresAtMs: row.expiresAtMs };
}

/** Enrols a host. The same key with the same token is answered the same again: the first answer may have been lost. */
export async function enrol(ctx: Ctx<AnonymousActor>, input: Enrol): Promise<Enrolled> {
  if (!isStrictPublicKey(input.publicKey))
    throw new Refusal('request_body_invalid', undefined, {
      issues: [{ path: 'publicKey', message: 'not an Ed25519 public key' }],
    });
  const db = database(ctx.env);
  const token = await requireJoinToken(ctx, db, input.token.toLowerCase());
  const agent =
    token.usedByKey === null ? await spend(ctx, db, token, input) : await findSpentOn(db, token, input.publicKey);
  if (agent.state === 'revoked')
    throw new Refusal('agent_revoked', 'Make a new key on this machine and join with a new token.');
  await tellLedger(ctx, agent);
  return toEnrolled(ctx, agent);
}

/** The token, looked up by its hash. Failures are counted by address. */
async function requireJoinToken(ctx: Ctx, db: Database, text: string): Promise<JoinTokenRow> {
  await ctx.takeTurn();
  const key = `enrol ${clientNetworkOf(ctx.clientAddress) ?? 'unknown'}`;
  const guard = throttleObject(ctx.env, shardOf(key));
  const { allowed, ...left } = await guard.look(key, throttle.failures, throttle.windowMs);
  if (!allowed)
    throw new Refusal('request_rate_limited', 'Too many failures from this address.', {
      retryAfterSeconds: left.resetSeconds,
      rateLimit: { ...policy, ...left },
    });
  const token = await findJoinTokenByHash(db, keyedHashes(ctx.config.keys, 'join-token', text));
  if (token) return token;
  const { remaining, resetSeconds } = await guard.take(key, throttle.failures, throttle.windowMs);
  throw new Refusal('agent_join_token_invalid', undefined, { rateLimit: { ...policy, remaining, resetSeconds } });
}

async function findSpentOn(db: Database, token: JoinTokenRow, publicKey: string): Promise<AgentRow> {
  const agent = token.usedByKey === publicKey ? await findAgent(db, token.agentId ?? '') : undefined;
  if (!agent) throw new Refusal('agent_join_token_used', 'Each join token is good for one machine; make another one.');
  return agent;
}

async function spend(ctx: Ctx, db: Database, token: JoinTokenRow, input: Enrol): Promise<AgentRow> {
  if (token.expiresAtMs <= ctx.clock.nowMs()) throw new Refusal('agent_join_token_expired', 'Make another one.');
  const known = await findAgentByKey(db, input.publicKey);
  if (known && known.groupNumber !== token.groupNumber)
    throw new Refusal('agent_join_token_invalid', 'This machine belongs to another resource group.');
  if (known?.state === 'revoked')
    throw new Refusal('agent_revoked', 'Make a new key on this machine and join with this token again.');
  const agent = known ?? (await newAgent(ctx, db, token, input));
  const details = { joinToken: token.id, name: agent.name };
  const write = audited(ctx, { chain: systemChain, action: 'agent.enrol', objectId: agent.id, details });
  await durably(ctx.failpoints, 'agents.enrol', () =>
    known ? spendJoinToken(db, write, token.id, known) : enrolAgent(write, token.id, agent),
  );
  const spent = (await findJoinToken(db, token.id)) ?? token;
  // Somebody was given the name meanwhile.
  return spent.usedByKey === null ? spend(ctx, db, token, input) : findSpentOn(db, spent, input.publicKey);
}

async function newAgent(
  ctx: Ctx,
  db: Database,
  token: JoinTokenRow,
  input: Enrol,
): Promise<Omit<AgentRow, 'controlHub'>> {
  const nowMs = ctx.clock.nowMs();
  return {
    id: newAgentId(nowMs, ctx.random.bytes(10), token.groupNumber),
    groupNumber: token.groupNumber,
    name: await chooseName(ctx, db, input),
    publicKey: input.publicKey,
    state: token.autoApprove ? 'active' : 'pending',
    draining: false,
    approved: token.autoApprove ? input.capacity : {},
    approval: token.autoApprove ? 1 : 0,
    offered: input.capacity,
    host: input.host,
    agentVersion: input.agentVersion,
    joinedAtMs: nowMs,
    revokedAtMs: null,
  };
}

/** The asked name, which must be free; else the host's, made free by a few random letters. */
async function chooseName(ctx: Ctx, db: Database, input: Enrol): Promise<string> {
  if (input.name !== undefined) {
    if (!(await isNameTaken(db, input.name, input.publicKey))) return input.name;
    throw new Refusal('account_name_taken', 'Another agent has this name.');
  }
  const host = input.host.hostname
    .toLowerCase()
    .replaceAll(/[^a-z0-9.-]+/g, '-')
    .slice(0, 50);
  const name = host.replaceAll(/^[.-]+|[.-]+$/g, '') || 'agent';
  if (!(await isNameTaken(db, name, input.publicKey))) return name;
  return `${name}-${makeJoinToken(ctx.random.bytes(5)).slice(4)}`;
}

async function toEnrolled(ctx: Ctx, agent: AgentRow): Promise<Enrolled> {
  const group = await findGroup(ctx, agent.groupNumber);
  const releaseKey = ctx.config.keys.release?.publicKey;
  return {
    agentId: agent.id,
    name: agent.name,
    instance: ctx.config.instance,
    controlHub: agent.controlHub,
    resourceGroup: group?.name ?? String(agent.groupNumber),
    approved: agent.state === 'active',
    ...(releaseKey === undefined ? {} : { releaseKey }),
  };
}
