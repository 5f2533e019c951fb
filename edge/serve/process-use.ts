/** What the kernel says of a process: is it there, and does it work? */
import { readFileSync } from 'node:fs';

export type ProcessUse = { state: string; cpuTicks: number; ioCalls: number };

/** The kernel's state letter, the CPU ticks and the reads and writes of a process so far; undefined when it is gone or a zombie. */
export function findProcessUse(pid: number): ProcessUse | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const state = fields[0] ?? '';
  if (state === 'Z') return undefined;
  return { state, cpuTicks: Number(fields[11]) + Number(fields[12]), ioCalls: findIoCalls(pid) };
}

/** Reads and writes together; 0 where the kernel does not tell. */
function findIoCalls(pid: number): number {
  try {
    const io = readFileSync(`/proc/${pid}/io`, 'utf8');
    return Number(/^syscr: (\d+)/m.exec(io)?.[1] ?? 0) + Number(/^syscw: (\d+)/m.exec(io)?.[1] ?? 0);
  } catch {
    return 0;
  }
}
