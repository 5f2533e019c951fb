/** Parts of kernels that both their API and the tunnel use. */
import { z } from 'zod';
import { idPattern } from '../ids.ts';

export const KernelId = z.string().regex(idPattern('kernel'), 'must be the id of a kernel: krn_ and 26 characters');

/** Languages that a runner of ours speaks. The first three keep their state; the others run each code by itself. */
export const Language = z.enum(['python', 'node', 'bash', 'ruby', 'perl', 'r']);
export type Language = z.infer<typeof Language>;

/** The name of a kernelspec: a kernel of Jupyter that the image brings along. */
export const SpecName = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/, 'must be the name of a kernelspec');

/** A kernelspec of an image, as its `kernel.json` says it. */
export const Kernelspec = z.strictObject({
  name: SpecName,
  displayName: z.string().max(256),
  language: z.string().max(64),
  argv: z.array(z.string()),
  env: z.record(z.string(), z.string()),
  /** How a run is interrupted: by SIGINT, or by a message on the control channel. */
  interruptMode: z.enum(['signal', 'message']),
  metadata: z.record(z.string(), z.unknown()),
});
export type Kernelspec = z.infer<typeof Kernelspec>;

/** `starting`: its interpreter has not said yet that it is there. `dead`: it ended by itself; restart it. */
export const KernelState = z.enum(['starting', 'idle', 'busy', 'dead']);

/** A kernel that ends by itself starts anew, unless it did so this often within the last minute. */
export const KernelRestarts = z.strictObject({ perMinute: z.int().min(1).max(20) });
export type KernelRestarts = z.infer<typeof KernelRestarts>;

export const Kernel = z.strictObject({
  id: KernelId,
  /** Of a kernel with a runner of ours. */
  language: Language.optional(),
  /** Of a kernel of Jupyter: its kernelspec. */
  spec: SpecName.optional(),
  state: KernelState,
  /** Of the interpreter, once it has said it. */
  version: z.string().max(64).optional(),
  /** How often it was started: a restart that names this number is carried out once. */
  starts: z.int().nonnegative(),
  startedAtMs: z.int().nonnegative(),
  /** Of a kernel of Jupyter: it had been started before it was asked for. */
  inAdvance: z.literal(true).optional(),
  /** When a kernel of Jupyter last published something; behind a death of its agent not before that came back. */
  activeAtMs: z.int().nonnegative().optional(),
  /** What starts it anew when it ends by itself; absent: nothing. */
  restarts: KernelRestarts.optional(),
  /** Runs that wait behind the one under way; of Jupyter's clients none is counted. */
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
