/**
 * From a kernel's specification to what Docker is asked to create. Pure, and an allow-list: every key of the answer is
 * written here, nothing of a request is passed on by name, so that no request can add a privilege.
 */
import type { ContainerCreateOptions, HostConfig } from 'dockerode';
import { Refusal } from '../../schema/errors.ts';
import type { InitTransport } from '../init/link-options.ts';
import type { KernelSpec } from '../../schema/protocol/intents.ts';
import type { ImageFacts } from './runtime.ts';

/** A container that is to be: what it is called, for what, and everything that the agent, not the request, decides about it. */
export interface Placement {
  name: string;
  labels: Record<string, string>;
  spec: Pick<KernelSpec, 'kernel' | 'slots'>;
  image: ImageFacts;
  /** Name of the session's own bridge network. */
  network: string;
  /** Absolute host paths: causeway-init, programs that images lack, the directory with the init's socket, the session's home. */
  initPath: string;
  toolsPath: string;
  runPath: string;
  homePath: string;
  /** How the init is reached: by default by the socket in `runPath`. */
  transport?: InitTransport | undefined;
}

/** Where things are inside a container. */
export const inside = {
  init: '/causeway/init',
  tools: '/causeway/tools',
  run: '/causeway/run',
  socket: '/causeway/run/agent.sock',
  home: '/home/work',
} as const;

export const labels = {
  instance: 'causeway.instance',
  agent: 'causeway.agent',
  session: 'causeway.session',
  generation: 'causeway.generation',
  kernel: 'causeway.kernel',
  project: 'causeway.project',
  /** Of one that was started in advance (`pool/`), also when a session has it: labels can not be changed. */
  warm: 'causeway.warm',
  /** Not of a session: the agent's own, of its start. */
  probe: 'causeway.probe',
} as const;

/** Who runs inside when an image names nobody, or root: with a bind-mounted home, uid 0 inside is uid 0 on the host. */
export const defaultUser = { uid: 1000, gid: 1000 } as const;

const mebibyte = 1024 * 1024;
/** Docker refuses less than 6 MiB; below this our own init and a shell do not fit. */
const minMemoryBytes = 8 * mebibyte;
/** What a request that names no amount gets: never "unlimited". */
const defaultSlots = { cpu: 1000, mem: 256 * mebibyte } as const;
const maxProcesses = 4096;
const maxTmpBytes = 4 * 1024 * mebibyte;

/** The name by which Docker itself refuses a second container of the same generation. */
export function containerName(sessionId: string, kernel: string, generation: number): string {
  return `${sessionId}-${kernel}-g${generation}`;
}

/**
 * Whose container it is: by its name, which the engine keeps unique and no request chooses. Labels do not tell it: an
 * image may bring any, and one that was taken has none of its session.
 */
export function ownerOf({ name }: { name: string }): { sessionId: string; generation: number } | undefined {
  const [, sessionId, generation] = /^(ses_[0-9a-z_]+)-[a-z]+[0-9]+-g([0-9]{1,15})$/.exec(name) ?? [];
  return sessionId === undefined ? undefined : { sessionId, generation: Number(generation) };
}

/** The name of one that is started in advance, until a session takes it. */
export function warmName(warmId: string): string {
  return `causeway-${warmId}`;
}

/** Slots of a kernel with the defaults filled in: cpu in milli-cpu, mem in bytes. */
export function kernelSlots(spec: Pick<KernelSpec, 'slots'>): { cpu: number; mem: number } {
  return { cpu: spec.slots['cpu'] ?? defaultSlots.cpu, mem: spec.slots['mem'] ?? defaultSlots.mem };
}

/**
 * The user to run as, in Docker's form. An image's named or numeric user is kept, unless it is root or absent.
 * A name may still mean uid 0 in the image's passwd: whoever creates the container checks that before it starts.
 */
export function containerUser(imageUser: string): string {
  const [user = '', group] = imageUser.split(':');
  const isRoot = user === '' || user === 'root' || /^0+$/.test(user);
  if (isRoot) return `${defaultUser.uid}:${defaultUser.gid}`;
  if (!/^[a-z0-9_][a-z0-9_.-]{0,31}$/i.test(user)) {
    throw new Refusal('session_image_invalid', 'the image names a user that is neither a name nor a number');
  }
  return group !== undefined && /^[a-z0-9_][a-z0-9_.-]{0,31}$/i.test(group) ? `${user}:${group}` : user;
}

/** Refuses a working directory by which an image or a request could reach a file descriptor of the runtime (CVE-2024-21626). */
export function checkWorkdir(path: string): void {
  if (/^\/+proc(\/|$)|\/fd(\/|$)/.test(path)) {
    throw new Refusal('session_image_invalid', 'a working directory below /proc, or with /fd/ in it, is not allowed');
  }
}

/**
 * What to ask Docker for.
 * @throws Refusal `session_image_invalid` for an image that may not run, `session_start_failed` for impossible amounts.
 */
export function containerOptions(placement: Placement): ContainerCreateOptions {
  const { spec, image } = placement;
  checkWorkdir(image.workingDir);
  const stdio = placement.transport === 'stdio';
  return {
    name: placement.name,
    Image: image.id,
    Hostname: spec.kernel,
    User: containerUser(image.user),
    WorkingDir: inside.home,
    // The init sizes its ring by the memory, which cgroups do not always show inside.
    Entrypoint: [inside.init, stdio ? '--stdio' : inside.socket, '--memory', String(kernelSlots(spec).mem)],
    Cmd: [],
    // A name without `=` takes the image's variable away: hooks of the host's runtime read them (CVE-2025-23266), and
    // processes get theirs from the init.
    Env: image.env.map((pair) => pair.split('=')[0] ?? '').filter((name) => name !== ''),
    Labels: placement.labels,
    Healthcheck: { Test: ['NONE'] },
    Tty: false,
    // Attached by the agent when the container runs, again and again; stdin stays open between.
    OpenStdin: stdio,
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    HostConfig: hostConfig(placement),
    NetworkingConfig: { EndpointsConfig: { [placement.network]: {} } },
  };
}

/** Labels of everything that an agent has made. */
export function agentLabels({ instanceId, agentId }: { instanceId: string; agentId: string }): Record<string, string> {
  return { [labels.instance]: instanceId, [labels.agent]: agentId };
}

/** Those of a session's container, beside its agent's. */
export function sessionLabels(of: { sessionId: string; generation: number; spec: KernelSpec }): Record<string, string> {
  return {
    [labels.session]: of.sessionId,
    [labels.generation]: String(of.generation),
    [labels.kernel]: of.spec.kernel,
    [labels.project]: of.spec.projectId,
  };
}

/** An empty container with nothing but an init in it: whether that reaches the agent is what the probe asks. */
export function probeOptions(probe: {
  agentId: string;
  image: string;
  initPath: string;
  runPath: string;
}): ContainerCreateOptions {
  const user = `${defaultUser.uid}:${defaultUser.gid}`;
  const mem = 2 * minMemoryBytes;
  return {
    name: `causeway-probe-${probe.agentId}`,
    Image: probe.image,
    User: user,
    Entrypoint: [inside.init, inside.socket, '--memory', String(mem)],
    Cmd: [],
    Labels: { [labels.probe]: probe.agentId },
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      ...restrictions,
      NetworkMode: 'none',
      PidsLimit: 16,
      Memory: mem,
      MemorySwap: mem,
      Mounts: [bind(probe.initPath, inside.init, true), bind(probe.runPath, inside.run, true)],
    },
  };
}

/** Docker's types lack this one. */
type OurHostConfig = HostConfig & { CgroupnsMode: 'private' };

/** What holds for every container. */
const restrictions = {
  Privileged: false,
  CapDrop: ['ALL'],
  SecurityOpt: ['no-new-privileges=true'],
  IpcMode: 'private',
  CgroupnsMode: 'private',
  RestartPolicy: { Name: 'no' },
  AutoRemove: false,
  Init: false,
  LogConfig: { Type: 'none', Config: {} },
} satisfies OurHostConfig;

function hostConfig(placement: Placement): OurHostConfig {
  const { cpu, mem } = kernelSlots(placement.spec);
  if (mem < minMemoryBytes) {
    throw new Refusal(
      'session_start_failed',
      `mem is ${mem} bytes, below the least that can start (${minMemoryBytes})`,
    );
  }
  if (cpu < 1) throw new Refusal('session_start_failed', 'cpu is 0: a process without any CPU time never starts');
  return {
    ...restrictions,
    NetworkMode: placement.network,
    PidsLimit: maxProcesses,
    Memory: mem,
    MemorySwap: mem,
    // Docker takes nothing below a hundredth of a CPU.
    NanoCpus: Math.max(cpu, 10) * 1_000_000,
    // Both are charged to the container's memory, so these bound only how much of it they may take.
    ShmSize: Math.floor(mem / 2),
    Tmpfs: { '/tmp': `rw,exec,nosuid,nodev,mode=1777,size=${Math.min(Math.floor(mem / 2), maxTmpBytes)}` },
    // Open files keep the engine's own limit: a higher one than its own can not be given on every host.
    Ulimits: [{ Name: 'core', Soft: 0, Hard: 0 }],
    Mounts: [
      bind(placement.initPath, inside.init, true),
      bind(placement.toolsPath, inside.tools, true),
      ...(placement.transport === 'stdio' ? [] : [bind(placement.runPath, inside.run, true)]),
      bind(placement.homePath, inside.home, false),
    ],
  };
}

function bind(source: string, target: string, readOnly: boolean) {
  return {
    Type: 'bind' as const,
    Source: source,
    Target: target,
    ReadOnly: readOnly,
    BindOptions: { Propagation: 'rprivate' as const },
  };
}
