/** Durable orders of the ledger to an agent. Each is acknowledged only after it is in the agent's journal (fsync). */
import { z } from 'zod';
import { idPattern } from '../ids.ts';
import { OutputPolicy, SessionType } from '../api/session-parts.ts';

const count = z.int().nonnegative();

/** All that an agent needs to run one kernel of a session. Holds no secret. */
export const KernelSpec = z.strictObject({
  kernel: z.string().regex(/^(main|sub)[1-9][0-9]{0,2}$/),
  projectId: z.string().regex(idPattern('project')),
  ownerId: z.string().regex(idPattern('user')),
  name: z.string().max(63),
  type: SessionType,
  image: z.string().max(512),
  /** Pinned content, when the catalogue or an earlier generation knows it. */
  imageDigest: z.string().max(256).optional(),
  /** Argv of the main process; absent: the image's own command, or for interactive sessions none. */
  command: z.array(z.string().max(131_072)).max(1024).optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string().max(32_768)),
  stdin: z.boolean(),
  tty: z.boolean(),
  /** Integer base units: cpu in milli-cpu, mem in bytes. */
  slots: z.record(z.string(), count),
  timeoutMs: count.optional(),
  /** Restartable batch: the init ends everything when the agent had no contact for this long. */
  leaseMs: count.optional(),
  output: OutputPolicy,
});
export type KernelSpec = z.infer<typeof KernelSpec>;

export const Intent = z.strictObject({
  intentId: z.string().regex(idPattern('intent')),
  sessionId: z.string().regex(idPattern('session')),
  generation: count,
  /** Order within the session: an agent carries intents of one session out in this order, each once. */
  seq: count,
  order: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('create'), spec: KernelSpec }),
    z.strictObject({
      kind: z.literal('stop'),
      graceMs: count.max(3_600_000),
      /** Kill at once, whatever the process says. */
      force: z.boolean(),
      reason: z.string().max(64),
    }),
    /** The session has ended for good: container, network now; home and spools by their retention. */
    z.strictObject({
      kind: z.literal('remove'),
      /** Home and spools at once as well. */
      purge: z.boolean().optional(),
    }),
  ]),
});
export type Intent = z.infer<typeof Intent>;
