/**
 * A private container engine for one test or bench: its own containerd, data root, socket, cgroup parent and network
 * namespace, so that bridges, rules and containers touch neither the machine's engine nor another test's. It can be
 * killed and brought back like the real one (live-restore is on), and nothing of it stays after `stop()`, nor, after
 * a killed run, after the next start. The containers' network is not reachable from the host; give `netns` to place
 * the engine beside an agent in a namespace of `netns.ts`.
 */
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import Docker from 'dockerode';
import { type Traces, removeTraces, tracesFile } from './dockerd-traces.ts';
import { type Started, runToEnd, start } from './process.ts';
import { sweepAbandoned } from './sweep.ts';
import { tmpDir } from './tmp.ts';
import { until } from './wait.ts';

export interface DockerdOptions {
  /** An existing network namespace to run in; default one of its own, removed at the end. */
  netns?: string;
  /** Puts the data root on a disk of its own of this size, which can be filled; default the machine's. */
  dataBytes?: number;
  /** Runs every container under gVisor (Debian's `runsc`) instead of runc. */
  gvisor?: boolean;
}

export interface Dockerd {
  /** Path of the API's unix socket. */
  readonly socket: string;
  /** The same for the environment: `unix://...`. */
  readonly dockerHost: string;
  readonly netns: string;
  /** Images and containers. */
  readonly dataRoot: string;
  /** A client of this engine. */
  readonly docker: Docker;
  /** Process id of the dockerd that runs now. */
  readonly pid: number;
  /** What dockerd and containerd printed, for messages. */
  output(): string;
  /** SIGKILL to dockerd alone; containers and containerd go on, as with live-restore on a host. */
  kill9(): Promise<void>;
  /** SIGKILL to containerd alone; `restart` brings it back. */
  killContainerd9(): Promise<void>;
  /** SIGKILL to everything at once, containers included: the host lost its power. The data root stays. */
  powerLoss(): Promise<void>;
  /** Starts what is not running; a dockerd that runs is asked to stop first. Returns when it answers. */
  restart(): Promise<void>;
  /** Ends and removes everything. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const gvisorFile = 'runsc';
/** It leaves cgroups alone, and uses the network of the container's namespace instead of a stack of its own. */
const gvisorProgram = '#!/bin/sh\nexec /usr/bin/runsc --ignore-cgroups --network=host "$@"\n';

/** Starts an engine and returns when it answers. */
export async function startDockerd({ netns, dataBytes, gvisor = false }: DockerdOptions = {}): Promise<Dockerd> {
  await sweepAbandoned();
  const dir = tmpDir('dkr', { swept: true });
  const id = randomBytes(4).toString('hex');
  const traces: Traces = {
    root: dir.path,
    address: join(dir.path, 'containerd.sock'),
    cgroup: `cwt-${id}`,
    ...(netns === undefined ? { netns: `cwt-${id}` } : {}),
  };
  writeFileSync(join(dir.path, tracesFile), JSON.stringify(traces));
  writeFileSync(join(dir.path, 'containerd.toml'), 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n');
  if (traces.netns !== undefined) await makeNamespace(traces.netns);

  if (gvisor) writeFileSync(join(dir.path, gvisorFile), gvisorProgram, { mode: 0o755 });
  const engine = new Engine(traces, netns ?? `cwt-${id}`, dataBytes);
  try {
    await engine.restart();
  } catch (error) {
    await engine.stop();
    throw error;
  }
  return engine;
}

/** Mounts a file of this size, made at the first time, as a disk, unless it is mounted already. */
async function mountDisk(image: string, point: string, sizeBytes: number): Promise<void> {
  if (readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${point} `)) return;
  if (!existsSync(image)) {
    mkdirSync(point);
    writeFileSync(image, '');
    truncateSync(image, sizeBytes);
    await runToEnd('mkfs.ext4', ['-q', '-F', '-m', '0', image]);
  }
  await runToEnd('mount', ['-o', 'loop', image, point]);
}

async function makeNamespace(name: string): Promise<void> {
  await runToEnd('ip', ['netns', 'add', name]);
  await runToEnd('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
}

class Engine implements Dockerd {
  readonly socket: string;
  readonly dockerHost: string;
  readonly docker: Docker;
  readonly netns: string;
  readonly dataRoot: string;
  readonly #traces: Traces;
  readonly #dataBytes: number | undefined;
  #containerd: Started | undefined;
  #dockerd: Started | undefined;

  constructor(traces: Traces, netns: string, dataBytes: number | undefined) {
    this.#traces = traces;
    this.#dataBytes = dataBytes;
    this.netns = netns;
    this.dataRoot = join(traces.root, 'data');
    this.socket = join(traces.root, 'docker.sock');
    this.dockerHost = `unix://${this.socket}`;
    this.docker = new Docker({ socketPath: this.socket });
  }

  get pid(): number {
    return this.#dockerd?.pid ?? 0;
  }

  output(): string {
    return `containerd:\n${this.#containerd?.output() ?? ''}\ndockerd:\n${this.#dockerd?.output() ?? ''}`;
  }

  async kill9(): Promise<void> {
    await this.#dockerd?.kill9();
  }

  async killContainerd9(): Promise<void> {
    await this.#containerd?.kill9();
  }

  async powerLoss(): Promise<void> {
    await this.#end({ keepData: true });
    // Its disk is there to be looked at, and emptied, before it is back.
    await this.#mountData();
  }

  async restart(): Promise<void> {
    await this.#dockerd?.stop();
    const { root, address } = this.#traces;
    await this.#mountData();
    if (this.#containerd === undefined || this.#containerd.exit !== undefined) {
      this.#containerd = this.#start('containerd', {
        config: join(root, 'containerd.toml'),
        root: join(root, 'containerd'),
        state: join(root, 'containerd-state'),
        address,
        'log-level': 'warn',
      });
    }
    const gvisor = join(root, gvisorFile);
    this.#dockerd = this.#start('dockerd', {
      ...(existsSync(gvisor) ? { 'add-runtime': `runsc=${gvisor}`, 'default-runtime': 'runsc' } : {}),
      host: this.dockerHost,
      containerd: address,
      pidfile: join(root, 'dockerd.pid'),
      'data-root': this.dataRoot,
      'exec-root': join(root, 'exec'),
      'cgroup-parent': `/${this.#traces.cgroup}`,
      'live-restore': 'true',
      // One pause of 5 s instead of four that grow: what is tried again is tried again once.
      'max-download-attempts': '2',
      'log-level': 'warn',
    });
    const dockerd = this.#dockerd;
    await until(() => this.docker.ping(), {
      what: 'a private dockerd to answer',
      timeoutMs: 60_000,
      giveUp: () => (dockerd.exit === undefined ? undefined : `it ended:\n${this.output()}`),
    });
  }

  async #end(how: { keepData: boolean }): Promise<void> {
    await this.#dockerd?.kill9();
    await this.#containerd?.kill9();
    await removeTraces(this.#traces, how);
  }

  async #mountData(): Promise<void> {
    if (this.#dataBytes === undefined) return;
    await mountDisk(join(this.#traces.root, 'data.img'), this.dataRoot, this.#dataBytes);
  }

  #start(program: string, flags: Record<string, string>): Started {
    const args = Object.entries(flags).map(([flag, value]) => `--${flag}=${value}`);
    return start(program, args, { netns: this.netns, logFile: join(this.#traces.root, `${program}.log`) });
  }

  async stop(): Promise<void> {
    await this.#end({ keepData: false });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
