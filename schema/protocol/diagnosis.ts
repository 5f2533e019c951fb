/** What an agent says of itself when it is asked how it is: the answer of the call `describe`. Unknown keys are passed over. */
import { z } from 'zod';
import { Report } from './messages.ts';

const count = z.int().nonnegative();

/** How an agent reaches its control plane. */
const Route = z.object({
  /** Address of the proxy between them, without credentials; absent: none. */
  proxy: z.string().max(512).optional(),
  /** `pinned`: one key is known, and no other taken; `authority`: by certificate; `none`: plain HTTP. */
  trust: z.enum(['pinned', 'authority', 'none']),
});
export type Route = z.infer<typeof Route>;

/** A warning or error of its log, as one line. */
const RecentError = z.object({ atMs: count, level: z.enum(['warn', 'error']), text: z.string().max(400) });
export type RecentError = z.infer<typeof RecentError>;

export const Diagnosis = z.object({
  /** Its clock when it answered. */
  nowMs: count,
  agentVersion: z.string().max(64),
  protocolVersion: count,
  runtimeVersion: z.string().max(64),
  /** How long it runs, ms. */
  upMs: count,
  /** Use, health and problems, measured for this answer. */
  report: Report,
  disks: z
    .array(z.object({ what: z.string().max(64), path: z.string().max(4096), freeBytes: count, totalBytes: count }))
    .max(8),
  route: Route.optional(),
  /** Containers that were started in advance and are nobody's yet; absent: none ever is. */
  inAdvance: z.object({ ready: count, most: count, kernels: count.optional() }).optional(),
  /** Of the last answered ping of its control socket. */
  pingMs: z.number().nonnegative().optional(),
  /** What its log warned of last, the newest first. */
  errors: z.array(RecentError).max(20),
  /** Loops of it that fail or hang, in words. */
  loops: z.array(z.string().max(400)).max(32),
});
export type Diagnosis = z.infer<typeof Diagnosis>;
