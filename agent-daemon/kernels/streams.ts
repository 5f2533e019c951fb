/**
 * The operation `execute` and the calls `kernels` and `kernel` of the tunnel. Nothing of a run depends on a client being
 * there: it is asked for once, and read from any offset, again after any cut.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import type { Kernel as KernelView } from '../../schema/api/kernel-parts.ts';
import { ExecuteControl } from '../../schema/protocol/execute.ts';
import type { CallInput } from '../../schema/protocol/calls.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { timeLimit } from '../deadline.ts';
import type { AgentStream, CallHandler, StreamHandler } from '../dispatch.ts';
import { InitRefusal } from '../init/refusal.ts';
import { notTakenOver } from '../sessions/not-taken-over.ts';
import type { Session } from '../sessions/session.ts';
import { parseControl } from '../tunnel/control-message.ts';
import { pumpRun } from './pump.ts';
import type { RunKernel } from './runs.ts';
import type { SavedRun } from './saved.ts';
import type { SessionKernels } from './session-kernels.ts';

export interface KernelsOf {
  find(sessionId: string, generation: number): Pick<Session, 'state' | 'supervisor' | 'kernels'> | undefined;
}

export interface ServedKernels extends KernelsOf {
  timers: Timers;
}

/** How long a call waits for a kernel to start: less than its caller waits for its answer. */
const startMs = 10_000;

/** Runs code, or goes on with a run. */
export function executeStream(of: ServedKernels): StreamHandler<'execute'> {
  return async ({ sessionId, generation, open }, stream) => {
    const kernels = kernelsOf(of, sessionId, generation);
    const { run, kernel } = await kernels.run(open, stream.closed);
    if (open.input !== undefined) await kernel.answer(run, open.input.at, open.input.text);
    stream.opened({});
    feed(stream, kernel, run).catch((error: unknown) => refuse(stream, error));
    await kernel.bell.whileSo(() => !run.begun && !run.ended, stream.closed);
    // A run that was never begun, and a kernel that there never was.
    if (run.begun === undefined) await kernels.requireProgram(kernel);
    const openLog = (starts: number) => kernels.log(run.kernelId, starts);
    await pumpRun(stream, { kernel, run, after: open.after, timers: of.timers }, openLog);
  };
}

/** The kernels of a session that were not shut down. */
export function kernelsCall(of: KernelsOf): CallHandler<'kernels'> {
  return async ({ sessionId, generation }) => ({ kernels: await kernelsOf(of, sessionId, generation).list() });
}

/** The kernelspecs of a session's image. */
export function kernelspecsCall(of: KernelsOf): CallHandler<'kernelspecs'> {
  return async ({ sessionId, generation }, deadline) => {
    return { specs: await kernelsOf(of, sessionId, generation).specs(deadline) };
  };
}

/** Starts, interrupts, restarts or shuts down one kernel, and answers how it is then: `starting`, if that takes longer. */
export function kernelCall(of: ServedKernels): CallHandler<'kernel'> {
  return async ({ sessionId, generation, kernelId, act }, deadline) => {
    const limit = timeLimit(of.timers, startMs, deadline);
    try {
      return { kernel: await doAct(kernelsOf(of, sessionId, generation), kernelId, act, limit.signal) };
    } finally {
      limit.cancel();
    }
  };
}

function doAct(
  kernels: SessionKernels,
  kernelId: string,
  act: CallInput<'kernel'>['act'],
  patience: AbortSignal,
): Promise<KernelView> {
  switch (act.kind) {
    case 'start':
      return kernels.start(kernelId, act.language, patience);
    case 'startSpec':
      return kernels.startSpec(kernelId, { spec: act.spec, restarts: act.restarts }, patience);
    case 'interrupt':
      return kernels.interrupt(kernelId);
    case 'restart':
      return kernels.restart(kernelId, act.starts, patience);
    case 'shutdown':
      return kernels.shutdown(kernelId);
  }
}

/** @throws Refusal when the session is not there */
export function kernelsOf(of: KernelsOf, sessionId: string, generation: number): SessionKernels {
  const session = of.find(sessionId, generation);
  if (session === undefined) throw new Refusal('session_ended', 'The session has ended. Start a new one.');
  if (session.state === 'present') throw new Refusal('session_not_running', 'The session is still being started.');
  // An agent that has just begun does not know which kernels are alive.
  if (session.state === 'running' && session.supervisor === undefined) throw notTakenOver();
  return session.kernels;
}

/** Takes what the client says: lines of input, and interrupts of this run alone. */
async function feed(stream: AgentStream, kernel: RunKernel, run: SavedRun): Promise<void> {
  for await (const { channel, bytes, end } of stream.read()) {
    if (channel !== channels.control || end) continue;
    const control = parseControl(ExecuteControl, bytes);
    if (control.kind === 'interrupt') await kernel.interrupt(run);
    else await kernel.answer(run, control.at, control.text);
  }
}

function refuse(stream: AgentStream, error: unknown): void {
  // Its process is gone: the end of the run tells.
  if (stream.closed.aborted || error instanceof InitRefusal) return;
  if (error instanceof Refusal) stream.reset(error.code, error.detail);
  else stream.reset('internal');
}
