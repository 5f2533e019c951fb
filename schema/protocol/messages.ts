/**
 * What agents and control hubs say to each other: JSON messages on stream 0 of the control socket (SPEC rules M1-M12),
 * and the JSON of OPEN, OPENED and RESET. `ToEdge...` travels from the agent, `ToAgent...` to it. Strict: an unknown key
 * is refused, so a new field is a new optional field in both N and N-1 first.
 */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { AgentEvent } from './events.ts';
import { Intent } from './intents.ts';
import { limits } from './limits.ts';

const id = (kind: Parameters<typeof idPattern>[0]) => z.string().regex(idPattern(kind));
const count = z.int().nonnegative();
/** Quantities of a resource in integer base units: milli-cpu, bytes, micro-shares. */
export const Slots = z.record(
  z.string().regex(/^[a-z][a-z0-9.-]{0,62}$/, 'must be the name of a resource'),
  z.int().nonnegative(),
);
export type Slots = z.infer<typeof Slots>;

/** One container (or what is left of one) that an agent holds. */
export const InventoryItem = z.strictObject({
  sessionId: id('session'),
  generation: count,
  /** What the agent knows of it. `present`: journaled, nothing running yet. */
  state: z.enum(['present', 'running', 'ended']),
});
export type InventoryItem = z.infer<typeof InventoryItem>;

/** What a machine is and has. Static parts of a report. */
export const HostInfo = z.strictObject({
  hostname: z.string().max(255),
  os: z.string().max(255),
  kernel: z.string().max(255),
  arch: z.enum(['x86_64', 'aarch64']),
  engine: z.string().max(255),
});
export type HostInfo = z.infer<typeof HostInfo>;

export const ToEdgeHello = z.strictObject({
  type: z.literal('hello'),
  version: z.int().min(1),
  minVersion: z.int().min(1),
  agentVersion: z.string().max(64),
  /** Join counter: fsynced before the dial, sent again unchanged until accepted (copy detection). */
  counter: count,
  attemptId: id('attempt'),
  /** Numbers events; a replaced disk has another one. */
  journalId: id('journal'),
  capacity: Slots,
  host: HostInfo,
  inventory: z.array(InventoryItem).max(4096),
  /** Digests and names of images present, newest first. */
  images: z
    .array(
      z.strictObject({ digest: z.string().max(256), names: z.array(z.string().max(512)).max(64), sizeBytes: count }),
    )
    .max(512),
});
export type ToEdgeHello = z.infer<typeof ToEdgeHello>;

/** A hello of a later version, without what that version added: it goes out before either end knows the other (SPEC rule K8). */
const LaterHello = z.object({ ...ToEdgeHello.shape, version: z.int().min(limits.version + 1) });

const ToEdgeIntentAck = z.strictObject({
  type: z.literal('intentAck'),
  intentIds: z.array(id('intent')).min(1).max(500),
});
const ToEdgeReply = z.strictObject({
  type: z.literal('reply'),
  callId: id('call'),
  ok: z.boolean(),
  result: z.unknown().optional(),
  code: z.string().max(64).optional(),
  detail: z.string().max(1024).optional(),
});
const ToEdgeEvents = z.strictObject({
  type: z.literal('events'),
  journalId: id('journal'),
  events: z
    .array(z.strictObject({ index: count, event: AgentEvent }))
    .min(1)
    .max(100),
});
/** Not durable: what a waiting person wants to see. At most two a second per session. */
const ToEdgeProgress = z.strictObject({
  type: z.literal('progress'),
  sessionId: id('session'),
  generation: count,
  phase: z.enum(['pulling', 'creating', 'starting', 'stopping']),
  detail: z.string().max(512),
  doneBytes: count.optional(),
  totalBytes: count.optional(),
});
/** Use and health, on change (>= 5 %, at most one a minute) else every 15 minutes. */
export const Report = z.strictObject({
  used: Slots,
  health: z.enum(['ok', 'degraded']),
  problems: z.array(z.strictObject({ code: z.string().max(64), detail: z.string().max(512) })).max(16),
  sessions: count,
  atMs: count,
});
export type Report = z.infer<typeof Report>;
const ToEdgeReport = z.strictObject({ type: z.literal('report'), report: Report });
const ToEdgeImages = z.strictObject({ type: z.literal('images'), images: ToEdgeHello.shape.images });

export const ToEdge = z.discriminatedUnion('type', [
  ToEdgeHello,
  ToEdgeIntentAck,
  ToEdgeReply,
  ToEdgeEvents,
  ToEdgeProgress,
  ToEdgeReport,
  ToEdgeImages,
]);
export type ToEdge = z.infer<typeof ToEdge>;

/** The first message of an agent, of whatever version that is; undefined when it is none. */
export function parseHello(value: unknown): ToEdgeHello | undefined {
  return ToEdgeHello.safeParse(value).data ?? LaterHello.safeParse(value).data;
}

/** The answer to the inventory of this very hello: what to destroy; everything else stays (reconcile by intent). */
export const InventoryAnswer = z.strictObject({
  destroy: z.array(z.strictObject({ sessionId: id('session'), generation: count })).max(4096),
});
export type InventoryAnswer = z.infer<typeof InventoryAnswer>;

export const ToAgentWelcome = z.strictObject({
  type: z.literal('welcome'),
  version: z.int().min(1),
  epoch: count,
  /** Opens interactive and bulk sockets of this epoch. */
  dataTicket: z.string().max(512),
  dataHub: z.string().max(128),
  /** Highest event index of this journal that is committed; 0 when none. */
  ackedIndex: count,
  answer: InventoryAnswer,
});
export type ToAgentWelcome = z.infer<typeof ToAgentWelcome>;
const ToAgentRefused = z.strictObject({
  type: z.literal('refused'),
  code: z.string().max(64),
  detail: z.string().max(1024),
  retryAfterMs: count.optional(),
});
const ToAgentIntents = z.strictObject({
  type: z.literal('intents'),
  epoch: count,
  intents: z.array(Intent).min(1).max(100),
});
const ToAgentCall = z.strictObject({
  type: z.literal('call'),
  callId: id('call'),
  op: z.string().max(64),
  deadlineMs: count.max(600_000),
  input: z.unknown().optional(),
});
const ToAgentEventAck = z.strictObject({ type: z.literal('eventAck'), journalId: id('journal'), index: count });
const ToAgentDial = z.strictObject({
  type: z.literal('dial'),
  purpose: z.enum(['interactive', 'bulk']),
  dataHub: z.string().max(128),
  dataTicket: z.string().max(512),
});
/** Dial again, at a random moment of the next `spreadMs`. */
const ToAgentGoAway = z.strictObject({ type: z.literal('goAway'), spreadMs: count, reason: z.string().max(256) });

export const ToAgent = z.discriminatedUnion('type', [
  ToAgentWelcome,
  ToAgentRefused,
  ToAgentIntents,
  ToAgentCall,
  ToAgentEventAck,
  ToAgentDial,
  ToAgentGoAway,
]);
export type ToAgent = z.infer<typeof ToAgent>;

/** On a data socket, from the agent: this socket now belongs to a newer epoch. */
export const Rebind = z.strictObject({ type: z.literal('rebind'), epoch: count, dataTicket: z.string().max(512) });
export type Rebind = z.infer<typeof Rebind>;

/** Payload of RESET, and of a refused OPEN. */
export const Reset = z.strictObject({ code: z.string().max(64), detail: z.string().max(1024).optional() });
export type Reset = z.infer<typeof Reset>;
