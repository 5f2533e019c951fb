/** Agents, join tokens and enrolment on the wire. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { Pin } from '../pin.ts';
import { Diagnosis } from '../protocol/diagnosis.ts';
import { HostInfo, Report, Slots } from '../protocol/messages.ts';
import { pageOf } from './page.ts';

const count = z.int().nonnegative();
export const AgentId = z
  .string()
  .regex(idPattern('agent'), 'must be the id of an agent, as lists show it: agt_, 26 characters, _1');
export const AgentName = z
  .string()
  .regex(
    /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/,
    'must be 1 to 63 of a-z, 0-9, . and -, none of the last two at either end: gpu-3',
  );

export const NewJoinToken = z
  .strictObject({
    resourceGroup: z.string().max(64),
    ttlSeconds: z.int().min(60).max(3600).optional(),
    /** The first inventory is approved at once; growth waits for `agent approve`. Default true. */
    autoApprove: z.boolean().optional(),
  })
  .meta({ id: 'NewJoinToken' });
export const JoinTokenCreated = z
  .object({
    id: z.string(),
    token: z.string(),
    expiresAtMs: count,
    resourceGroup: z.string(),
    /** Where other machines reach this control plane, when it knows better than its caller. */
    url: z.string().optional(),
    /** Pin of the key that it serves TLS with, where only those who pin it believe it. */
    pin: Pin.optional(),
  })
  .meta({ id: 'JoinTokenCreated' });
/** State of a join token, for `--wait`. */
export const JoinTokenState = z
  .object({
    id: z.string(),
    state: z.enum(['waiting', 'used', 'expired']),
    agentId: z.string().optional(),
    expiresAtMs: count,
  })
  .meta({ id: 'JoinTokenState' });

/** `POST /agent/v1/enrol`: the join token, once, for a key made on the host. Repeated with the same key it answers the same. */
export const Enrol = z.strictObject({
  token: z.string().min(8).max(256),
  /** Raw Ed25519 public key, base64url, 32 bytes. */
  publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 bytes in base64url'),
  name: AgentName.optional(),
  capacity: Slots,
  host: HostInfo,
  agentVersion: z.string().max(64),
});
export type Enrol = z.infer<typeof Enrol>;
export const Enrolled = z.object({
  agentId: AgentId,
  name: z.string(),
  /** Identifies this control plane; part of what an agent signs and of its containers' labels. */
  instance: z.string(),
  /** Control hub, fixed for the agent's life. */
  controlHub: z.string(),
  resourceGroup: z.string(),
  approved: z.boolean(),
  /** Public Ed25519 key (raw, base64url) of this control plane's releases: what the agent upgrades itself by, and no other. */
  releaseKey: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/)
    .optional(),
});
export type Enrolled = z.infer<typeof Enrolled>;

export const Challenge = z.strictObject({ agentId: AgentId });
export const Challenged = z.object({ nonce: z.string(), expiresAtMs: count });
export type Challenged = z.infer<typeof Challenged>;

/** What an agent signs for a control socket. Both ends build this exact text. */
export function tunnelSigningText(parts: { instance: string; agentId: string; nonce: string; host: string }): string {
  return `causeway-tunnel-v1\n${parts.instance}\n${parts.agentId}\n${parts.nonce}\n${parts.host}`;
}

export const AgentState = z.enum(['pending', 'connected', 'unreachable', 'draining', 'suspended', 'revoked']);
export const Agent = z
  .object({
    id: AgentId,
    name: z.string(),
    resourceGroup: z.string(),
    state: AgentState,
    draining: z.boolean(),
    approved: Slots,
    offered: Slots,
    reserved: Slots,
    sessions: count,
    host: HostInfo.optional(),
    agentVersion: z.string().optional(),
    report: Report.optional(),
    epoch: count.optional(),
    joinedAtMs: count,
    connectedAtMs: count.optional(),
    lastSeenAtMs: count.optional(),
    reason: z.string().optional(),
  })
  .meta({ id: 'Agent' });
export type Agent = z.infer<typeof Agent>;
/** What the agent answered when it was asked how it is, and how far away it is; for administrators. */
export const AgentDiagnosis = Diagnosis.extend({
  /** From question to answer, ms. */
  roundTripMs: count,
  /** Its clock minus that of the control plane, give or take half the round trip, ms. */
  clockOffsetMs: z.int(),
}).meta({ id: 'AgentDiagnosis' });
export type AgentDiagnosis = z.infer<typeof AgentDiagnosis>;

/** One agent, asked just now. */
export const AgentShown = Agent.extend({
  diagnosis: AgentDiagnosis.optional(),
  /** Why there is no diagnosis: an error code. */
  unanswered: z.string().optional(),
}).meta({ id: 'AgentShown' });
export type AgentShown = z.infer<typeof AgentShown>;
export const AgentPage = pageOf(Agent).meta({ id: 'AgentPage' });
