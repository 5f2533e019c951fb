/** A process that is ours although we may not be its parent: found by its pid file, told apart by where it works and when it began. */
import { readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

export interface OwnedProcess {
  readonly pid: number;
  /** Clock ticks since boot: with the pid, it names a process for good. */
  readonly startTime: string;
}

/** The living process that a pid file names, when it works in `dir`; a number that was given away again does not. */
export function findOurs(pidFile: string, dir: string): OwnedProcess | undefined {
  try {
    const pid = Number(readFileSync(pidFile, 'utf8').trim());
    const startTime = startTimeOf(pid);
    if (startTime === undefined || readlinkSync(`/proc/${pid}/cwd`) !== dir) return undefined;
    return { pid, startTime };
  } catch {
    return undefined;
  }
}

/** Writes down that this process holds something, unless the process that wrote so before still lives. */
export function claim(file: string): boolean {
  try {
    const [pid, startTime = ''] = readFileSync(file, 'utf8').split(' ');
    if (Number(pid) !== process.pid && !hasEnded({ pid: Number(pid), startTime })) return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  writeFileSync(file, `${process.pid} ${startTimeOf(process.pid)}`);
  return true;
}

export function hasEnded({ pid, startTime }: OwnedProcess): boolean {
  return startTimeOf(pid) !== startTime;
}

/** Sends a signal to that very process, or nothing when it is gone. */
export function signalOwned(owned: OwnedProcess, signal: NodeJS.Signals): void {
  if (hasEnded(owned)) return;
  try {
    process.kill(owned.pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Resolves true when the process is gone, false at the deadline; without one, when it is gone. */
export async function waitForEnd(owned: OwnedProcess, deadlineMs?: number): Promise<boolean> {
  const started = performance.now();
  while (!hasEnded(owned)) {
    if (deadlineMs !== undefined && performance.now() - started > deadlineMs) return false;
    await sleep(deadlineMs === undefined ? 500 : 20);
  }
  return true;
}

/** Undefined when there is no such process, or only its zombie. */
function startTimeOf(pid: number): string | undefined {
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  try {
    const [state, ...fields] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ') ?? [];
    return state === 'Z' ? undefined : fields[18];
  } catch {
    return undefined;
  }
}
