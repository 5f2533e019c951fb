/**
 * What a private engine leaves on a host, and its removal: processes, mounts, control groups, shim sockets, network
 * namespace, files. It works without the engine's help, because the engine may have been killed in any state, and it
 * touches only what names the engine's own root, address or control group.
 */
import { existsSync, readFileSync, readdirSync, rmSync, rmdirSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { runToEnd } from './process.ts';
import { until } from './wait.ts';

export interface Traces {
  /** Directory that holds everything of the engine. */
  root: string;
  /** Socket of its containerd: on the command line of every shim. */
  address: string;
  /** Control group, below each hierarchy, of all its containers. */
  cgroup: string;
  /** Its own network namespace, if it has one. */
  netns?: string;
}

/** File in the engine's root that holds its Traces. */
export const tracesFile = 'engine.json';

const cgroupRoot = '/sys/fs/cgroup';

/** Ends every process of the engine and removes what it left; with keepData the data root and the namespace stay, for a restart. */
export async function removeTraces(traces: Traces, { keepData }: { keepData: boolean }): Promise<void> {
  await endProcesses(traces);
  await unmountBelow(traces.root);
  removeControlGroups(traces.cgroup);
  if (keepData) return;
  if (traces.netns !== undefined && existsSync(`/run/netns/${traces.netns}`)) {
    await runToEnd('ip', ['netns', 'delete', traces.netns]);
  }
  rmSync(traces.root, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
}

async function endProcesses(traces: Traces): Promise<void> {
  await until(
    () => {
      const running = commandLines();
      const shims = shimsOf(running, traces.address);
      const sandboxes = sandboxesOf(running, traces.root);
      const pids = [...shims.keys(), ...sandboxes, ...controlGroups(traces.cgroup).flatMap(processesIn)];
      for (const id of shims.values()) rmSync(shimSocket(traces.address, id), { force: true });
      for (const pid of pids) killQuietly(pid);
      return pids.length === 0;
    },
    { what: `the processes of the engine in ${traces.root} to end` },
  );
}

/** Process id and arguments of every process. */
type Running = [pid: number, argv: string[]][];

function commandLines(): Running {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map((pid) => [Number(pid), readQuietly(`/proc/${pid}/cmdline`).split('\0')]);
}

/** Process id to container id of each containerd shim that serves this address. */
function shimsOf(running: Running, address: string): Map<number, string> {
  const shims = running.filter(([, argv]) => argv.includes(address) && argv[0]?.includes('shim'));
  return new Map(shims.map(([pid, argv]) => [pid, argv[argv.indexOf('-id') + 1] ?? '']));
}

/** Process ids of gVisor's sandboxes and file servers: `--ignore-cgroups` leaves them in no control group of the engine. */
function sandboxesOf(running: Running, root: string): number[] {
  return running.filter(([, argv]) => argv.some((flag) => flag.startsWith(`--root=${root}/`))).map(([pid]) => pid);
}

/** Where containerd 1.7 puts a shim's socket, whatever its own state directory. */
function shimSocket(address: string, containerId: string): string {
  const key = join(address, 'moby', containerId);
  return join('/run/containerd/s', createHash('sha256').update(key).digest('hex'));
}

/** All control groups of this name in every hierarchy, children before parents (version 1 and 2). */
function controlGroups(name: string): string[] {
  const hierarchies = existsSync(join(cgroupRoot, 'cgroup.procs'))
    ? [cgroupRoot]
    : readdirSync(cgroupRoot).map((hierarchy) => join(cgroupRoot, hierarchy));
  return hierarchies
    .map((hierarchy) => join(hierarchy, name))
    .filter((path) => existsSync(path))
    .flatMap(withChildren);
}

function withChildren(path: string): string[] {
  const children = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return [...children.flatMap((child) => withChildren(join(path, child.name))), path];
}

function processesIn(controlGroup: string): number[] {
  return readQuietly(join(controlGroup, 'cgroup.procs')).split('\n').filter(Boolean).map(Number);
}

function removeControlGroups(name: string): void {
  for (const path of controlGroups(name)) {
    try {
      rmdirSync(path);
    } catch {
      // A process that is still being reaped holds it; an empty control group harms nobody and a later stop removes it.
    }
  }
}

/** Unmounts whatever is mounted below a directory. */
export async function unmountBelow(root: string): Promise<void> {
  const points = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map((line) =>
      (line.split(' ')[4] ?? '').replaceAll(/\\(\d{3})/g, (_, octal: string) =>
        String.fromCodePoint(Number.parseInt(octal, 8)),
      ),
    )
    .filter((point) => point.startsWith(`${root}/`))
    .toReversed();
  for (const point of points) await runToEnd('umount', ['--lazy', point]);
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // Ended by itself meanwhile.
  }
}

function readQuietly(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
