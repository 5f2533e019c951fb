/** What the kernel itself says of a container's memory, in either version of cgroups. Read-only. */
import { join } from 'node:path';
import type { Disk } from '../disk.ts';

const root = '/sys/fs/cgroup';

/** Files that tell of one container's memory, found while it runs: they stay readable until its control group is gone. */
export interface MemoryFiles {
  events: string;
  usage: string;
}

/** Where the memory of the container with this PID 1 (on the host) is accounted; undefined when that can not be told. */
export async function findMemoryFiles(disk: Disk, pid: number): Promise<MemoryFiles | undefined> {
  const lines = (await readText(disk, `/proc/${pid}/cgroup`))?.split('\n') ?? [];
  const v1 = lines.find((line) => line.split(':')[1]?.split(',').includes('memory') === true);
  if (v1 !== undefined) {
    const dir = join(root, 'memory', pathOf(v1));
    return { events: join(dir, 'memory.oom_control'), usage: join(dir, 'memory.usage_in_bytes') };
  }
  const v2 = lines.find((line) => line.startsWith('0::'));
  if (v2 === undefined) return undefined;
  const dir = join(root, pathOf(v2));
  return { events: join(dir, 'memory.events'), usage: join(dir, 'memory.current') };
}

/** How many processes of the container the kernel has killed for memory. */
export async function countOomKills(disk: Disk, files: MemoryFiles | undefined): Promise<number> {
  const text = files === undefined ? undefined : await readText(disk, files.events);
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
