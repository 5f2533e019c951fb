/** What the kernel itself says of a container's memory, in either version of cgroups. Read-only. */
import { join } from 'node:path';
import type { Disk } from '../disk.ts';

const root = '/sys/fs/cgroup';

/**
 * The file that tells of memory kills in the container with this PID 1 (on the host), found while it runs: it stays readable
 * until its control group is gone. Undefined when that can not be told.
 */
export async function findMemoryEvents(disk: Disk, pid: number): Promise<string | undefined> {
  const lines = (await readText(disk, `/proc/${pid}/cgroup`))?.split('\n') ?? [];
  const v1 = lines.find((line) => line.split(':')[1]?.split(',').includes('memory') === true);
  if (v1 !== undefined) return join(root, 'memory', pathOf(v1), 'memory.oom_control');
  const v2 = lines.find((line) => line.startsWith('0::'));
  return v2 === undefined ? undefined : join(root, pathOf(v2), 'memory.events');
}

/** How many processes of the container the kernel has killed for memory. */
export async function countOomKills(disk: Disk, events: string | undefined): Promise<number> {
  const text = events === undefined ? undefined : await readText(disk, events);
  return Number(/^oom_kill (\d+)$/m.exec(text ?? '')?.[1] ?? 0);
}

function pathOf(line: string): string {
  return line.split(':').slice(2).join(':');
}

async function readText(disk: Disk, path: string): Promise<string | undefined> {
  try {
    return (await disk.readFile(path)).toString();
  } catch {
    return undefined;
  }
}
