/** What the API says of kernels, and of code that is run in them. */
import { z } from 'zod';
import { Code, ExecuteInput, RunId } from '../protocol/execute.ts';
import { Kernel, KernelId, KernelRestarts, Kernelspec, Language, SpecName } from './kernel-parts.ts';

const count = z.int().nonnegative();
/** Where a client is in the output of a run: offsets of its kernel's log. */
export const ExecutePosition = z.strictObject({ stdout: count, stderr: count });

const options = {
  /** How long an answer may wait for the end of the run, or for a line that it asks for. */
  sliceMs: z.int().min(0).max(10_000).default(2_000),
};
const runOptions = {
  ...options,
  /** From its begin; then it is interrupted, and a kernel that does not heed that is killed. */
  timeoutMs: z.int().min(1).max(86_400_000).optional(),
};
const which = {
  /** Makes a repeated request harmless; made up when it is left out. */
  runId: RunId.optional(),
  /**
   * Left out: the first living kernel of `spec`, a kernelspec of the image, else a new one; without that too: of `language`
   * (of the session's first kernel that has one, if that is left out).
   */
  kernel: KernelId.optional(),
  spec: SpecName.optional(),
  language: Language.optional(),
};
const noOptions = { sliceMs: 2_000 };

export const Execute = z.discriminatedUnion(
  'mode',
  [
    z.strictObject({
      mode: z.literal('query'),
      code: Code,
      ...which,
      options: z.strictObject(runOptions).default(noOptions),
    }),
    /** `code` is what stands before the cursor. */
    z.strictObject({
      mode: z.literal('complete'),
      code: Code,
      ...which,
      options: z.strictObject(options).default(noOptions),
    }),
    /** Not in a kernel of Jupyter. */
    z.strictObject({
      mode: z.literal('batch'),
      ...which,
      /** Commands for /bin/sh; empty: nothing is done; `*`: `make clean`, `make`, and the main program of the language. */
      options: z.strictObject({
        ...runOptions,
        clean: Code.default(''),
        build: Code.default(''),
        exec: Code.default('*'),
      }),
    }),
    z.strictObject({
      mode: z.literal('continue'),
      runId: RunId,
      /** As the last answer said it. */
      after: ExecutePosition,
      options: z.strictObject(options).default(noOptions),
    }),
    z.strictObject({
      mode: z.literal('input'),
      runId: RunId,
      /** As the answer said it that had `waiting-input`: it names the question. */
      after: ExecutePosition,
      /** The line. */
      code: ExecuteInput.shape.text,
      options: z.strictObject(options).default(noOptions),
    }),
  ],
  'must have a mode: query, batch, complete, continue or input',
);
export type Execute = z.infer<typeof Execute>;

export const ExecuteStatus = z.enum([
  'continued',
  'waiting-input',
  'clean-finished',
  'build-finished',
  'finished',
  'exec-timeout',
]);
export type ExecuteStatus = z.infer<typeof ExecuteStatus>;

/** Adjacent ones of the same kind are one. `media`: type and content, what is not text in base64. */
export const ConsoleItem = z.union([
  z.tuple([z.enum(['stdout', 'stderr', 'html', 'log']), z.string()]),
  z.tuple([z.literal('media'), z.tuple([z.string(), z.string()])]),
]);
export type ConsoleItem = z.infer<typeof ConsoleItem>;

export const Executed = z.strictObject({
  runId: RunId,
  /** Absent while the run waits for those before it. */
  kernel: KernelId.optional(),
  status: ExecuteStatus,
  /** Of what has finished. Null: a signal ended the kernel. */
  exitCode: z.int().min(0).max(255).nullable().optional(),
  /** Why it is over: `finished`, `timeout`, or what became of its kernel. */
  reason: z.string().max(32).optional(),
  console: z.array(ConsoleItem),
  /** What it asks for. */
  options: z.strictObject({ prompt: z.string(), isPassword: z.boolean() }).optional(),
  /** What could stand for the last `replaces` characters before the cursor. */
  completion: z.strictObject({ matches: z.array(z.string()), replaces: count }).optional(),
  error: z.strictObject({ name: z.string(), message: z.string() }).optional(),
  /** Go on behind this. */
  after: ExecutePosition,
});
export type Executed = z.infer<typeof Executed>;

export const KernelList = z.strictObject({ items: z.array(Kernel) });

export const KernelspecList = z.strictObject({ items: z.array(Kernelspec) });

const newId = {
  /** Makes a repeated request harmless; made up when it is left out. */
  id: KernelId.optional(),
};
export const NewKernel = z.union(
  [
    z.strictObject({ ...newId, language: Language }),
    /** A kernel of Jupyter, of the kernelspecs of the image. */
    z.strictObject({
      ...newId,
      spec: SpecName,
      /** What starts it anew when it ends by itself; null: nothing. */
      restarts: KernelRestarts.nullable().default({ perMinute: 5 }),
    }),
  ],
  'must have a language (python, node, bash, ruby, perl, r) or a spec, the name of a kernelspec of the image',
);

export const KernelRestart = z.strictObject({
  /** Only if it was started so often: a repeated request restarts it once. */
  starts: count.optional(),
});
