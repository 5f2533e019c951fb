/** Why a session is over: one table from what is known to one reason. Pure. */
import type { ExitReason } from '../../schema/protocol/events.ts';
import type { ProcessExit as InitExit } from '../init/messages.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { ContainerFacts } from '../runtime/runtime.ts';
import type { End, StopOrder } from './placement.ts';

/** What had been done to the session when it ended. */
export interface EndCause {
  /** Processes that the kernel killed in it for memory. */
  oomKills: number;
  leaseExpired?: boolean;
  stop?: StopOrder;
}

const sigkill = 9;

/**
 * Why a process ended. An exit with code 0 is its own, whatever happened to its children; the memory killer is told by
 * the control group's counter, never by the code 137 alone.
 */
export function reasonOfExit(exit: Pick<InitExit, 'kind' | 'value'>, cause: EndCause): ExitReason {
  const wasKilled = exit.kind === 'signal' && exit.value === sigkill;
  const failed = exit.kind === 'signal' || exit.value !== 0;
  if (cause.leaseExpired === true) return 'lease-expired';
  if (cause.stop?.cause === 'timeout') return 'timeout';
  if (cause.stop !== undefined) return cause.stop.force || wasKilled ? 'killed' : 'stopped';
  return failed && cause.oomKills > 0 ? 'oom' : 'exited';
}

/** The end of a session whose main process was recorded. */
export function endOfMain(exit: ProcessExit): End {
  const { atMs, exitCode, signal } = exit;
  return {
    reason: exit.reason as ExitReason,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    atMs,
  };
}

/** The end of a session whose container is gone without a word of the init. */
export function endOfContainer(facts: ContainerFacts | undefined, cause: EndCause, nowMs: number): End {
  const atMs = facts !== undefined && facts.finishedAtMs > 0 ? facts.finishedAtMs : nowMs;
  if (cause.leaseExpired === true) return { reason: 'lease-expired', atMs };
  if (cause.stop?.cause === 'timeout') return { reason: 'timeout', atMs };
  if (cause.stop !== undefined) return { reason: 'killed', atMs };
  return { reason: facts?.oomKilled === true ? 'oom' : 'host-lost', atMs };
}
