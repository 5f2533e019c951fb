/** Parts of a session that both its API and the tunnel use. */
import { z } from 'zod';

export const SessionType = z.enum(['interactive', 'batch']);
export type SessionType = z.infer<typeof SessionType>;

export const OutputPolicy = z.strictObject({
  /** What happens when a stream's spool or ring is full and nobody takes it away. */
  onFull: z.enum(['block', 'drop']),
  /** How long a blocked writer waits before the oldest goes after all (counted from loss of contact). */
  blockMs: z.int().min(0).max(86_400_000),
  /** What the agent keeps per stream. */
  spoolBytes: z
    .int()
    .min(64 * 1024)
    .max(64 * 1024 ** 3),
});
export type OutputPolicy = z.infer<typeof OutputPolicy>;

export const defaultOutputPolicy: OutputPolicy = { onFull: 'block', blockMs: 600_000, spoolBytes: 64 * 1024 * 1024 };

/** States of a session. One pure `next(state, event)` in the ledger moves between them. */
export const SessionState = z.enum([
  'PENDING',
  'SCHEDULED',
  'PREPARING',
  'PULLING',
  'CREATING',
  'RUNNING',
  'UNREACHABLE',
  'TERMINATING',
  'TERMINATED',
  'ERROR',
  'CANCELLED',
]);
export type SessionState = z.infer<typeof SessionState>;

/** States that a session never leaves. */
export const terminalStates = ['TERMINATED', 'ERROR', 'CANCELLED'] as const satisfies readonly SessionState[];

/** True when the session is over for good. */
export function isTerminal(state: SessionState): boolean {
  return (terminalStates as readonly SessionState[]).includes(state);
}

/** How an agent that starts containers in advance came by a session's container: the reason of RUNNING, with words for people. */
export const starts = {
  'started-warm': 'in a container that was started in advance',
  'none-ready': 'none of its image and size was ready',
  'image-missing': 'its image was not on the machine',
  'home-kept': 'its home was on the machine already',
  'not-usable': 'the one for it was gone before it could be taken',
  'tried-before': 'an earlier try had begun',
} as const;
export const Start = z.enum(Object.keys(starts) as [Start, ...Start[]]);
export type Start = keyof typeof starts;

/** Of a command line, or what it finds around it. NUL can not reach execve. */
export const Argument = z
  .string()
  .max(131_072)
  .regex(/^[^\0]*$/, 'must hold no NUL character');

/** Of a variable of the environment. */
export const EnvName = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, 'must be a name of letters, digits and _, no digit first: BATCH_SIZE');
