/**
 * What is kept of the kernels and runs of a session so that another agent process goes on with them: a file of records,
 * of which each adds to what is known of its kernel or run. It need not outlive the host's power: kernels do not either.
 */
import { z } from 'zod';
import { KernelRestarts, Language, SpecName } from '../../schema/api/kernel-parts.ts';
import { idPattern } from '../../schema/ids.ts';
import { ExecuteOutcome, ExecuteRequest, runIdPattern } from '../../schema/protocol/execute.ts';

const count = z.int().nonnegative();
const kernelId = z.string().regex(idPattern('kernel'));
const Offsets = z.strictObject({ stdout: count, stderr: count });
export type Offsets = z.infer<typeof Offsets>;

/** What is asked of a kernel for a run: the code, or one step of a batch. */
export const Step = z.enum(['run', 'complete', 'clean', 'build', 'exec']);
export type Step = z.infer<typeof Step>;

export const SavedKernel = z.strictObject({
  kernelId,
  /** Of one with a runner of ours. */
  language: Language.optional(),
  /** Of one of Jupyter: its kernelspec, what starts it anew when it ends by itself, and when that was, the last times. */
  spec: SpecName.optional(),
  restarts: KernelRestarts.optional(),
  restartedAtMs: z.array(count).max(32).optional(),
  /** How often it was started: with the id it makes the id of its process. */
  starts: count,
  startedAtMs: count,
  /**
   * The last frame that was to be written to its standard input: of one with a runner, the runner itself at first; of one of
   * Jupyter what was said for runs, at its offset of that, or nothing.
   */
  frame: z.strictObject({ at: count, text: z.string() }).optional(),
  /** It was shut down. */
  closed: z.boolean(),
});
export type SavedKernel = z.infer<typeof SavedKernel>;
export type SavedRunnerKernel = SavedKernel & { language: Language; frame: { at: number; text: string } };
export type SavedJupyterKernel = SavedKernel & { spec: string };

export function isRunnerKernel(saved: SavedKernel): saved is SavedRunnerKernel {
  return saved.language !== undefined && saved.frame !== undefined;
}

export function isJupyterKernel(saved: SavedKernel): saved is SavedJupyterKernel {
  return saved.spec !== undefined;
}

/** What stands for the request of a run that ended: nobody reads that any more, and it may be long. */
export const nothingAsked: ExecuteRequest = { mode: 'query', code: '' };

export const SavedRun = z.strictObject({
  runId: z.string().regex(runIdPattern),
  kernelId,
  /** SHA-256 of the request: the same id with another one is a conflict. */
  digest: z.string().max(64),
  request: ExecuteRequest,
  timeoutMs: count.optional(),
  /** Of the start of the kernel by which it is run; absent while it waits. */
  begun: z.strictObject({ starts: count, from: Offsets, atMs: count }).optional(),
  /** Of a kernel of Jupyter: the start that it was given to; absent while it waits. */
  given: count.optional(),
  /** Requests of it that were written to the kernel: of a batch one for each step, of one of Jupyter the attempts. */
  asked: count,
  /** Those that were answered: which, with what status, and where on standard output that ends. */
  answered: z.array(z.strictObject({ step: Step, exitCode: z.int(), at: count })).max(3),
  /** Where the last request for input ends that got its line: it gets no second one. */
  inputAt: count,
  /** Where its output ends, and how. */
  ended: z.strictObject({ ends: Offsets.optional(), outcome: ExecuteOutcome }).optional(),
});
export type SavedRun = z.infer<typeof SavedRun>;

const kernelPart = { kernel: SavedKernel.partial().required({ kernelId: true }) };
const runPart = { run: SavedRun.partial().required({ runId: true }) };
const SavedRecord = z.union([
  z.strictObject(kernelPart),
  z.strictObject(runPart),
  /** Neither without the other. */
  z.strictObject({ ...kernelPart, ...runPart }),
]);
export type SavedRecord = z.infer<typeof SavedRecord>;

/** What the records of a file make together; whatever is no record is passed over. */
export function restore(records: readonly unknown[]): { kernels: SavedKernel[]; runs: SavedRun[] } {
  const kernels = new Map<string, unknown>();
  const runs = new Map<string, unknown>();
  for (const record of records) {
    const parsed = SavedRecord.safeParse(record).data;
    if (parsed === undefined) continue;
    if ('kernel' in parsed) merge(kernels, parsed.kernel.kernelId, parsed.kernel);
    if ('run' in parsed) merge(runs, parsed.run.runId, parsed.run);
  }
  return {
    kernels: [...kernels.values()].flatMap((each) => SavedKernel.safeParse(each).data ?? []),
    runs: [...runs.values()].flatMap((each) => withoutOldRequest(SavedRun.safeParse(each).data)),
  };
}

/** Files of earlier versions have the code of runs that ended. */
function withoutOldRequest(run: SavedRun | undefined): SavedRun[] {
  if (run === undefined) return [];
  return [run.ended === undefined ? run : { ...run, request: nothingAsked }];
}

function merge(into: Map<string, unknown>, key: string, part: object): void {
  into.set(key, { ...(into.get(key) as object | undefined), ...part });
}
