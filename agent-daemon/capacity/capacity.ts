/** What this host can give to sessions, and what of it is in use, in integer base units. */
import type { HostInfo, Slots } from '../../schema/protocol/messages.ts';
import { type Disk, readIfThere } from '../disk.ts';
import type { EngineInfo } from '../runtime/runtime.ts';

const gibibyte = 1024 ** 3;

/** Kept for the host itself, the engine and the agent: a twentieth, at least half a GiB, never more than 4 GiB. */
export function memoryReserveBytes(totalBytes: number): number {
  return Math.round(Math.min(4 * gibibyte, Math.max(gibibyte / 2, totalBytes / 20)));
}

/** Slots for sessions: cpu in milli-cpu, mem in bytes. `limits` are the host owner's own, and only lower them. */
export function capacityOf(engine: Pick<EngineInfo, 'cpus' | 'memoryBytes'>, limits: Partial<Slots> = {}): Slots {
  const mem = Math.max(0, Math.floor(engine.memoryBytes - memoryReserveBytes(engine.memoryBytes)));
  const cpu = engine.cpus * 1000;
  return { cpu: Math.min(cpu, limits['cpu'] ?? cpu), mem: Math.min(mem, limits['mem'] ?? mem) };
}

/** Free and total bytes of the filesystem that holds `path`; undefined when it can not be asked. */
export async function diskOf(disk: Disk, path: string): Promise<{ freeBytes: number; totalBytes: number } | undefined> {
  try {
    const { bavail, blocks, bsize } = await disk.statfs(path);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch {
    return undefined;
  }
}

/** Memory of this host that is free for use, and all of it; undefined when the kernel does not say. */
export async function memoryOf(disk: Disk): Promise<{ freeBytes: number; totalBytes: number } | undefined> {
  const text = (await readIfThere(disk, '/proc/meminfo'))?.toString() ?? '';
  const bytesOf = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1]) * 1024;
  const [freeBytes, totalBytes] = [bytesOf('MemAvailable'), bytesOf('MemTotal')];
  return Number.isFinite(freeBytes) && Number.isFinite(totalBytes) ? { freeBytes, totalBytes } : undefined;
}

export function hostInfo(
  engine: Pick<EngineInfo, 'os' | 'kernel' | 'description'>,
  host: { hostname: string; arch: string },
): HostInfo {
  return {
    hostname: host.hostname.slice(0, 255),
    os: engine.os.slice(0, 255),
    kernel: engine.kernel.slice(0, 255),
    arch: host.arch === 'arm64' ? 'aarch64' : 'x86_64',
    engine: engine.description.slice(0, 255),
  };
}
