/**
 * Calls: a question of the edge to an agent, and its answer, over the control socket (SPEC rule M8). A call changes
 * nothing that matters for ever; what must survive a crash is an intent. Each operation has its shapes here, once.
 */
import { z } from 'zod';
import { Kernel, KernelId, KernelRestarts, Kernelspec, Language, SpecName } from '../api/kernel-parts.ts';
import { Terminal, TerminalId, TerminalRequest } from '../api/terminal-parts.ts';
import { UpgradeState } from '../api/upgrade.ts';
import { idPattern } from '../ids.ts';
import { versionPattern } from '../release.ts';
import { Diagnosis } from './diagnosis.ts';

const count = z.int().nonnegative();

export const callShapes = {
  /** Sends `text` back: is the agent's loop alive, and how far away is it. */
  echo: {
    input: z.strictObject({ text: z.string().max(4096) }),
    result: z.strictObject({ text: z.string().max(4096) }),
  },
  /** How the agent is, as far as it can tell. */
  describe: { input: z.strictObject({}), result: Diagnosis },
  /** The processes of a session that the agent knows, newest first. */
  processes: {
    input: z.strictObject({ sessionId: z.string().regex(idPattern('session')), generation: count }),
    result: z.strictObject({
      processes: z
        .array(
          z.strictObject({
            processId: z.string().max(64),
            argv: z.array(z.string()),
            state: z.enum(['running', 'ended']),
            exitCode: z.int().min(0).max(255).optional(),
            signal: z.string().max(16).optional(),
          }),
        )
        .max(1024),
    }),
  },
  /** The kernels of a session that were not shut down. */
  kernels: {
    input: z.strictObject({ sessionId: z.string().regex(idPattern('session')), generation: count }),
    result: z.strictObject({ kernels: z.array(Kernel).max(64) }),
  },
  /** The kernelspecs of a session's image. */
  kernelspecs: {
    input: z.strictObject({ sessionId: z.string().regex(idPattern('session')), generation: count }),
    result: z.strictObject({ specs: z.array(Kernelspec).max(64) }),
  },
  /** Does something with one kernel, and tells how it is then. Each is harmless when it is repeated. */
  kernel: {
    input: z.strictObject({
      sessionId: z.string().regex(idPattern('session')),
      generation: count,
      kernelId: KernelId,
      act: z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('start'), language: Language }),
        z.strictObject({ kind: z.literal('startSpec'), spec: SpecName, restarts: KernelRestarts.optional() }),
        z.strictObject({ kind: z.literal('interrupt') }),
        /** Only if it was started so often. */
        z.strictObject({ kind: z.literal('restart'), starts: count.optional() }),
        z.strictObject({ kind: z.literal('shutdown') }),
      ]),
    }),
    result: z.strictObject({ kernel: Kernel }),
  },
  /** The terminals of a session that were not closed. */
  terminals: {
    input: z.strictObject({ sessionId: z.string().regex(idPattern('session')), generation: count }),
    result: z.strictObject({ terminals: z.array(Terminal).max(64) }),
  },
  /** Makes or closes one terminal, and tells how it is then. Each is harmless when it is repeated. */
  terminal: {
    input: z.strictObject({
      sessionId: z.string().regex(idPattern('session')),
      generation: count,
      terminalId: TerminalId,
      act: z.discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('start'), request: TerminalRequest }),
        z.strictObject({ kind: z.literal('close') }),
      ]),
    }),
    result: z.strictObject({ terminal: Terminal }),
  },
  /** How far the last upgrade is. */
  upgradeState: { input: z.strictObject({}), result: UpgradeState },
  /**
   * Begins to become `version`, whose manifest the agent fetches and judges by itself. Answered when it is judged; the same
   * again while it is under way. Containers are not touched.
   */
  upgrade: {
    input: z.strictObject({ version: z.string().regex(versionPattern), allowDowngrade: z.boolean() }),
    result: UpgradeState,
  },
} as const;

export type CallOp = keyof typeof callShapes;
export type CallInput<Op extends CallOp> = z.infer<(typeof callShapes)[Op]['input']>;
export type CallResult<Op extends CallOp> = z.infer<(typeof callShapes)[Op]['result']>;
