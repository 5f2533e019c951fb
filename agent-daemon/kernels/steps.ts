/** What is asked of a kernel for a run, one after the other: the code, or the steps of a batch. Pure. */
import type { Language } from '../../schema/api/kernel-parts.ts';
import type { ExecuteRequest } from '../../schema/protocol/execute.ts';
import type { SavedRun, Step } from './saved.ts';

/** `*` in a batch: what is usual in a folder of this language. */
const usual = {
  clean: () => 'if [ -f Makefile ]; then make clean; fi',
  build: () => 'if [ -f Makefile ]; then make; fi',
  exec: (language: Language) =>
    ({
      python: 'python3 main.py',
      node: 'node main.js',
      bash: 'bash main.sh',
      ruby: 'ruby main.rb',
      perl: 'perl main.pl',
      r: 'Rscript main.R',
    })[language],
} as const;
/** Status of a batch whose build failed. */
export const notBuilt = 127;

/** The steps of a request; empty commands are none. */
export function stepsOf(request: ExecuteRequest): Step[] {
  if (request.mode === 'query') return ['run'];
  if (request.mode === 'complete') return ['complete'];
  return (['clean', 'build', 'exec'] as const).filter((step) => request[step] !== '');
}

/** The step to ask for next; undefined when all are done, or the build failed. */
export function nextStep({ request, answered }: Pick<SavedRun, 'request' | 'answered'>): Step | undefined {
  if (answered.some(({ step, exitCode }) => step === 'build' && exitCode !== 0)) return undefined;
  return stepsOf(request)[answered.length];
}

/** Status of a run of which all is done. */
export function exitCodeOf({ request, answered }: Pick<SavedRun, 'request' | 'answered'>): number {
  const isMissing = answered.length < stepsOf(request).length;
  return isMissing ? notBuilt : (answered.at(-1)?.exitCode ?? 0);
}

/** The frame that asks for a step (SPEC.md). */
export function frameOf({ runId, request }: Pick<SavedRun, 'runId' | 'request'>, step: Step, language: Language) {
  if (request.mode !== 'batch') return toFrame(step, runId, request.code);
  if (step === 'run' || step === 'complete') throw new Error(`a batch has no step ${step}`);
  return toFrame('shell', runId, request[step] === '*' ? usual[step](language) : request[step]);
}

export function toFrame(verb: string, id: string, payload: string): string {
  return `${verb} ${id} ${Buffer.byteLength(payload)}\n${payload}`;
}
