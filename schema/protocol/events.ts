/** What an agent tells the ledger, durably: recorded in its journal, numbered, sent again until acknowledged. */
import { z } from 'zod';
import { Start } from '../api/session-parts.ts';
import { idPattern } from '../ids.ts';

const count = z.int().nonnegative();

/** Why a session's main process is over. */
export const ExitReason = z.enum([
  'exited', // the main process ended by itself
  'stopped', // asked to, within its grace
  'killed', // asked to, after its grace or by force
  'oom', // the kernel's memory killer, as cgroup and engine say
  'timeout', // timeoutMs was over
  'lease-expired', // no contact for leaseMs
  'host-lost', // the container is gone: power loss, or removed by somebody
]);
export type ExitReason = z.infer<typeof ExitReason>;

export const AgentEvent = z.strictObject({
  sessionId: z.string().regex(idPattern('session')),
  generation: count,
  atMs: count,
  body: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('pulling') }),
    z.strictObject({ kind: z.literal('pulled'), imageDigest: z.string().max(256) }),
    z.strictObject({ kind: z.literal('creating') }),
    z.strictObject({
      kind: z.literal('running'),
      containerId: z.string().max(128),
      /** Absent: the agent starts no containers in advance, or began anew before it told. */
      start: Start.optional(),
    }),
    z.strictObject({
      kind: z.literal('ended'),
      reason: ExitReason,
      exitCode: z.int().min(0).max(255).optional(),
      signal: z.string().max(16).optional(),
      /** Bytes written by the main process per stream, and what of it is missing. */
      outputBytes: z.strictObject({ stdout: count, stderr: count, missing: count }).optional(),
    }),
    z.strictObject({
      kind: z.literal('failed'),
      /** A code of `schema/errors.ts`. */
      code: z.string().max(64),
      detail: z.string().max(1024),
      /** Another agent, or another try, may do better. */
      retryable: z.boolean(),
    }),
    /** The `remove` intent is done: no container, network or mount of this generation is left. */
    z.strictObject({ kind: z.literal('removed') }),
    z.strictObject({
      kind: z.literal('activity'),
      lastInputAtMs: count,
      openStreams: count,
      busy: z.array(z.string().max(64)).max(32),
    }),
  ]),
});
export type AgentEvent = z.infer<typeof AgentEvent>;
