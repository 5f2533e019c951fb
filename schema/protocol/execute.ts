/**
 * The operation `execute` of the tunnel: a run of a kernel, asked for or gone on with. Its output channels carry the log of
 * the kernel from where the run begins to where it ends, at the offsets of that log; control says the rest. What of the log
 * is the run's, and how it reads, is in `run-log.ts`.
 */
import { z } from 'zod';
import { KernelId, Language, SpecName } from '../api/kernel-parts.ts';
import { OutputGap } from './output-gap.ts';

const count = z.int().nonnegative();
/** Code; its length in UTF-16 units, three bytes each at most in a frame of 1 MiB. A NUL ends a text in every interpreter. */
export const Code = z
  .string()
  .max(256 * 1024)
  .refine((text) => !text.includes('\0'), 'must have no NUL');
/** A command for /bin/sh; empty: nothing is done. `*`: what suits the files that are there. */
const command = Code;

export const runIdPattern = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/;
export const RunId = z
  .string()
  .regex(runIdPattern, 'must be 1 to 64 letters, digits, - and _, and not begin with these');

export const ExecuteRequest = z.discriminatedUnion('mode', [
  z.strictObject({ mode: z.literal('query'), code: Code }),
  /** The code before the cursor. */
  z.strictObject({ mode: z.literal('complete'), code: Code }),
  z.strictObject({ mode: z.literal('batch'), clean: command, build: command, exec: command }),
]);
export type ExecuteRequest = z.infer<typeof ExecuteRequest>;

/** One line, for the request for input that ends at this offset of the log. A second answer to it changes nothing. */
export const ExecuteInput = z.strictObject({
  kind: z.literal('input'),
  at: count,
  text: z
    .string()
    .max(64 * 1024)
    .refine((text) => !/[\0\n]/.test(text), 'must be one line without NUL'),
});

export const executeOpen = z.strictObject({
  op: z.literal('execute'),
  /** Chosen by the client; the same id never runs twice, so a cut can not double a run. */
  runId: RunId,
  /** Absent: only goes on with a run that is known. */
  request: ExecuteRequest.optional(),
  /**
   * The kernel; absent: the first living one of this kernelspec, else a new one; without that too: of `language` (absent: that
   * of the first kernel with a runner).
   */
  kernelId: KernelId.optional(),
  spec: SpecName.optional(),
  language: Language.optional(),
  /** From its begin; then it is interrupted, and a kernel that does not heed that is killed. */
  timeoutMs: z.int().min(1).max(86_400_000).optional(),
  input: ExecuteInput.optional(),
  /** Go on behind these offsets of the log. */
  after: z.strictObject({ stdout: count, stderr: count }).optional(),
});

/** Client to agent on the control channel. */
export const ExecuteControl = z.discriminatedUnion('kind', [
  ExecuteInput,
  z.strictObject({ kind: z.literal('interrupt') }),
]);

/** How a run ended: by itself (`exitCode` alone), by its time, or with its kernel, for that one's reason. */
export const ExecuteOutcome = z.strictObject({
  reason: z.string().max(32),
  exitCode: z.int().min(0).max(255).optional(),
  signal: z.string().max(16).optional(),
});
export type ExecuteOutcome = z.infer<typeof ExecuteOutcome>;

/** Agent to client on the control channel. */
export const ExecuteEvent = z.discriminatedUnion('kind', [
  /** Its output begins at these offsets of the log of this kernel; sent before the first of it. */
  z.strictObject({
    kind: z.literal('begun'),
    kernelId: KernelId,
    from: z.strictObject({ stdout: count, stderr: count }),
    /**
     * Of a kernel of Jupyter, whose log is records of messages on `stdout` alone (SPEC rule S17): those are the run's that
     * belong to a request of which the msg_id begins so.
     */
    requests: z.string().max(80).optional(),
  }),
  OutputGap,
  /** It asks for a line now; sent behind all that it wrote before. */
  z.strictObject({ kind: z.literal('waiting'), at: count, prompt: z.string(), password: z.boolean() }),
  /** A step of a batch is done. */
  z.strictObject({ kind: z.literal('step'), step: z.enum(['clean', 'build']), exitCode: z.int().min(0).max(255) }),
  /** After everything else. `ends`: of its output, if it had begun. */
  z.strictObject({
    kind: z.literal('finished'),
    outcome: ExecuteOutcome,
    ends: z.strictObject({ stdout: count, stderr: count }).optional(),
  }),
]);
export type ExecuteEvent = z.infer<typeof ExecuteEvent>;
