/** Parts of kernels that both their API and the tunnel use. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';

export const KernelId = z.string().regex(idPattern('kernel'), 'must be the id of a kernel: krn_ and 26 characters');

/** Languages that a runner of ours speaks. The first three keep their state; the others run each code by itself. */
export const Language = z.enum(['python', 'node', 'bash', 'ruby', 'perl', 'r']);
export type Language = z.infer<typeof Language>;

/** `starting`: its interpreter has not said yet that it is there. `dead`: it ended by itself; restart it. */
export const KernelState = z.enum(['starting', 'idle', 'busy', 'dead']);

export const Kernel = z.strictObject({
  id: KernelId,
  language: Language,
  state: KernelState,
  /** Of the interpreter, once it has said it. */
  version: z.string().max(64).optional(),
  /** How often it was started: a restart that names this number is carried out once. */
  starts: z.int().nonnegative(),
  startedAtMs: z.int().nonnegative(),
  /** Runs that wait behind the one under way. */
  queued: z.int().nonnegative(),
  /** How a dead one came to its end, and the last that it wrote. */
  death: z
    .strictObject({
      reason: z.string().max(32),
      exitCode: z.int().min(0).max(255).optional(),
      signal: z.string().max(16).optional(),
      lastOutput: z.string().max(8192),
    })
    .optional(),
});
export type Kernel = z.infer<typeof Kernel>;
