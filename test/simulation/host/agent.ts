/**
 * A simulated host: a disk, a container engine with its containers, and the production agent on top, in virtual time.
 * The agent can be killed at any moment and comes back on the same disk; the host can lose its power. Whoever builds a
 * world connects `dial` and `post` to an edge and looks at `history` and `containers()`.
 */
import { gzipSync } from 'node:zlib';
import { Agent, type AgentConfig, type AgentPorts } from '../../../agent-daemon/agent.ts';
import type { Config } from '../../../agent-daemon/config.ts';
import { replaceDurably } from '../../../agent-daemon/disk.ts';
import { inside, labels, ownerOf } from '../../../agent-daemon/runtime/docker-spec.ts';
import type { Post, Put } from '../../../agent-daemon/tunnel/edge-api.ts';
import type { Membership } from '../../../agent-daemon/tunnel/identity.ts';
import type { Dial } from '../../../agent-daemon/tunnel/socket.ts';
import type { AgentFailpoint } from '../../../schema/failpoints.ts';
import type { Clock, Failpoints, Log, Random, Timers } from '../../../schema/ports.ts';
import { seededRandom } from '../../support/random.ts';
import type { Forgotten } from '../promises.ts';
import { SimDisk, type SimDiskOptions } from './disk.ts';
import { SimDoor } from './door.ts';
import { type ContainerLife, type SimContainer, SimEngine, type SimEngineOptions } from './engine.ts';
import { ModelInit } from './init.ts';
import type { BridgeWatch } from './interpreters.ts';
import { Life } from './life.ts';
import { plainScreens } from './plain-screen.ts';

export interface SimHostOptions {
  name: string;
  /** Of this host: may jump. Containers see the same. */
  clock: Clock;
  timers: Timers;
  /** Of this host alone. */
  random: Random;
  log: Log;
  /** Virtual time, for `history`. */
  now: () => number;
  dial: Dial;
  post: Post;
  /** Where output is handed over; without it nothing takes it. */
  put?: Put;
  /** Address of the edge, as the agent knows it now. */
  url?: () => string;
  /** Enrolled already; without it the agent enrols with `token`. */
  membership?: Membership;
  token?: () => string | undefined;
  /** Settings of the agent; the defaults suit a small world. */
  config?: Partial<Pick<Config, 'spoolTotalBytes' | 'networkPool' | 'handoverSeconds' | 'warmContainers'>>;
  /** What the hardware calls itself; undefined: nothing. */
  hardwareId?: string | undefined;
  engine?: Pick<SimEngineOptions, 'cpus' | 'memoryBytes' | 'liveRestore' | 'latencyMs'>;
  disk?: Pick<SimDiskOptions, 'limitBytes' | 'latencyMs' | 'fails'>;
  /** When a dead agent is started again; undefined: when `start` is called. Default 1,000. */
  restartMs?: number | undefined;
  /** The agent ended by itself: what for. */
  ended?: (error: unknown) => void;
  /** A run lease ran out in a container. */
  fenced?: () => void;
  /** A container got the name of a session. */
  renamed?: () => void;
  /** A session got a kernel that had been started in advance. */
  tookKernel?: () => void;
  /** Asked at each durable step: true kills the agent there, or loses the answer (`unknown`). */
  faultAt?: (name: AgentFailpoint, phase: 'before' | 'after' | 'unknown') => boolean;
  /** The agent asks its engine for a container of a session. */
  creating?: () => void;
  /** The init of a container hears that what a stream wrote before `offset` is safe. */
  forgets?: (what: Forgotten) => void;
  /** A kernel of a placement begins to run what was asked for under this id. */
  ran?: (placement: Placement, runId: string) => void;
  /** Who watches the bridge to a kernel of Jupyter of a placement. */
  watch?: (placement: Placement, processId: string) => BridgeWatch;
  /** A process with a terminal takes what was typed. */
  typed?: (placement: Placement, processId: string, bytes: Uint8Array) => void;
  /** Such a process has ended. */
  hungUp?: (placement: Placement, processId: string) => void;
  /** A container has ended. */
  died?: (placement: Placement) => void;
  /** What happened, one line each, for the hash of the world. */
  trace?: (line: string) => void;
}

export interface Placement {
  sessionId: string;
  generation: number;
}

/** One run of one container, for a checker, from its first process on: an init alone does nothing. Times are virtual. */
export interface ContainerRun {
  host: string;
  containerId: string;
  name: string;
  sessionId: string | undefined;
  generation: number;
  startedAtMs: number;
  /** Nothing of it ran any more: the container ended, or its run lease was over. */
  endedAtMs: number | undefined;
}

const stateDir = '/var/lib/causeway';
const runnersPath = '/causeway/runners';
const syncMs = 1;
const defaultRestartMs = 1_000;

export class SimHost {
  readonly name: string;
  readonly disk: SimDisk;
  readonly engine: SimEngine;
  /** Every run of a container of a session, oldest first. */
  readonly history: ContainerRun[] = [];
  readonly #options: SimHostOptions;
  readonly #door: SimDoor;
  readonly #inits = new Map<string, ModelInit>();
  readonly #hostRandom: Random;
  #life: Life | undefined;
  #agent: Agent | undefined;
  #starts = 0;
  #isPowered = true;
  #cancelRestart: () => void = () => undefined;

  constructor(options: SimHostOptions) {
    const { timers } = options;
    // Whole milliseconds, as the clocks of a machine tell them.
    const clock = {
      nowMs: () => Math.floor(options.clock.nowMs()),
      bootMs: () => Math.floor(options.clock.bootMs()),
    };
    this.#options = { ...options, clock };
    this.name = options.name;
    this.#hostRandom = fork(options.random);
    const latencyMs = (op: string): number => (op === 'sync' ? syncMs : 0);
    const installed = { [`${runnersPath}/bash.sh`]: '# a runner' };
    this.disk = new SimDisk({ clock, timers, latencyMs, installed, ...options.disk });
    this.#door = new SimDoor(timers);
    this.engine = new SimEngine({
      clock,
      timers,
      random: fork(options.random),
      ...options.engine,
      // One that is started in advance is nobody's yet.
      creating: (given) => (labels.warm in given ? undefined : options.creating?.()),
      run: (container, exited) => this.#run(container, exited),
      onChange: (container, change) => this.#note(container, change),
      onRename: () => this.#options.renamed?.(),
    });
  }

  /** The agent as it runs now; undefined while it starts or is dead. */
  get agent(): Agent | undefined {
    return this.#agent;
  }

  get isRunning(): boolean {
    return this.#life !== undefined;
  }

  /** Containers that the engine knows, in whatever state. */
  containers(): readonly SimContainer[] {
    return this.engine.containers;
  }

  /** The model init of a running container, by the container's id. */
  init(containerId: string): ModelInit | undefined {
    return this.#inits.get(containerId);
  }

  /** Starts the agent; what comes of it is seen in `agent` and in the trace. */
  start(): void {
    if (this.#life !== undefined || !this.#isPowered) return;
    this.#cancelRestart();
    const life = new Life(this.#options.timers);
    this.#life = life;
    this.#starts++;
    this.#trace('agent starts');
    this.#startAgent(life).then(
      (agent) => {
        if (life.isOver) return;
        this.#agent = agent;
        this.#trace('agent runs');
      },
      (error: unknown) => {
        if (life.isOver) return;
        this.#trace(`agent ended: ${String(error)}`);
        this.crash();
        this.#options.ended?.(error);
      },
    );
  }

  /** kill -9: nothing more of the agent runs. Containers live on. */
  crash(): void {
    if (this.#life === undefined) return;
    this.#trace('agent dies');
    this.#endLife({ sayGoodbye: true });
    const restartMs = 'restartMs' in this.#options ? this.#options.restartMs : defaultRestartMs;
    if (restartMs === undefined) return;
    this.#cancelRestart = this.#options.timers.after(restartMs, () => this.start());
  }

  /** An orderly end, as by SIGTERM. Containers live on. */
  async stop(): Promise<void> {
    this.#cancelRestart();
    const life = this.#life;
    await this.#agent?.stop();
    if (this.#life === life) this.#endLife({ sayGoodbye: true });
  }

  /** The host is dark: agent, engine and containers are gone, and of the disk what was not synced. */
  powerLoss(): void {
    this.#trace('power lost');
    this.#cancelRestart();
    this.#endLife({ sayGoodbye: false });
    this.#isPowered = false;
    this.engine.powerLoss();
    this.disk.powerLoss(this.#hostRandom);
  }

  /** The host boots: the engine first, then the agent. */
  powerOn(): void {
    if (this.#isPowered) return;
    this.#isPowered = true;
    this.engine.start();
    this.start();
  }

  #endLife(how: { sayGoodbye: boolean }): void {
    this.#life?.end(how);
    this.#life = undefined;
    this.#agent = undefined;
    this.#door.abandon();
  }

  async #startAgent(life: Life): Promise<Agent> {
    const { membership, config = {}, token, name } = this.#options;
    const disk = life.disk(this.disk);
    if (membership !== undefined && this.disk.peek(`${stateDir}/identity.json`) === undefined) {
      await disk.mkdir(stateDir, { recursive: true, mode: 0o700 });
      await replaceDurably(disk, `${stateDir}/identity.json`, JSON.stringify(membership));
    }
    const settings: AgentConfig = {
      stateDir,
      spoolTotalBytes: config.spoolTotalBytes ?? 10 * 1024 ** 3,
      networkPool: config.networkPool ?? '10.213.0.0/16',
      homeBytes: 0,
      handoverSeconds: config.handoverSeconds ?? 60,
      initTransport: 'socket',
      warmContainers: config.warmContainers ?? 0,
      sshAgentForwarding: 'deny',
      token: token?.(),
      name,
    };
    return Agent.start(settings, this.#ports(life, disk), new AbortController().signal);
  }

  #ports(life: Life, disk: AgentPorts['disk']): AgentPorts {
    const { clock, log, dial, post, put = refusePut, membership, url } = this.#options;
    return {
      clock,
      random: fork(this.#hostRandom),
      timers: life,
      log: {
        debug: life.guard((message, fields) => log.debug(message, fields)),
        info: life.guard((message, fields) => log.info(message, fields)),
        warn: life.guard((message, fields) => log.warn(message, fields)),
        error: life.guard((message, fields) => log.error(message, fields)),
      },
      failpoints: this.#failpoints(life),
      disk,
      soon: (task) => void life.after(0, task),
      nowMs: () => clock.bootMs(),
      url: url ?? (() => membership?.url ?? 'https://edge.test'),
      dial: life.dial(dial),
      post: (...args) => life.call(() => post(...args)),
      put: (...args) => life.call(() => put(...args)),
      // At once: a thread of its own takes a real moment, and a world has none.
      gzip: (bytes) => life.call(() => Promise.resolve(gzipSync(bytes))),
      hung: life.guard(() => {
        this.#trace('agent hung');
        this.crash();
      }),
      runtime: life.port(this.engine),
      door: life.port(this.#door),
      host: {
        hostname: this.name,
        pid: this.#starts,
        arch: 'x64',
        kernel: '6.12.0',
        runtimeVersion: 'simulated',
        cpus: this.#options.engine?.cpus ?? 8,
        parallelism: 8,
        memoryBytes: this.#options.engine?.memoryBytes ?? 32 * 1024 ** 3,
        initPath: '/causeway/init',
        runnersPath,
        gatherRsync: () => Promise.resolve(undefined),
        readRoutes: () => Promise.resolve('Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n'),
        readHardwareId: () => Promise.resolve(this.#options.hardwareId),
        iptables: () => Promise.resolve('none in a simulation'),
        measureTree: () => Promise.resolve(undefined),
      },
      screens: plainScreens,
    };
  }

  #failpoints(life: Life): Failpoints<AgentFailpoint> {
    const { faultAt } = this.#options;
    const dieAt = (name: AgentFailpoint, phase: 'before' | 'after'): Promise<void> => {
      if (faultAt?.(name, phase) !== true) return Promise.resolve();
      this.#trace(`fault ${name}:${phase}`);
      this.crash();
      return new Promise(() => undefined);
    };
    return {
      before: (name) => life.call(() => dieAt(name, 'before')),
      after: (name) => life.call(() => dieAt(name, 'after')),
      unknown: (name) => !life.isOver && faultAt?.(name, 'unknown') === true,
    };
  }

  #run(container: SimContainer, exited: (code: number) => void): ContainerLife {
    const { clock, timers, watch } = this.#options;
    const { HostConfig: host } = container.options;
    const dir = host?.Mounts?.find(({ Target }) => Target === inside.run)?.Source ?? '';
    const init = new ModelInit({
      clock,
      timers,
      random: fork(this.#hostRandom),
      memoryBytes: host?.Memory ?? 0,
      forgets: (processId, stream, offset) => {
        this.#options.forgets?.({ ...placementOf(container), processId, stream, offset });
      },
      ran: (runId) => this.#options.ran?.(placementOf(container), runId),
      took: () => this.#options.tookKernel?.(),
      typed: (processId, bytes) => this.#options.typed?.(placementOf(container), processId, bytes),
      hungUp: (processId) => this.#options.hungUp?.(placementOf(container), processId),
      ...(watch === undefined ? {} : { watch: (processId) => watch(placementOf(container), processId) }),
      dial: (name) => this.#door.dial(dir, name),
      exited: (code) => {
        this.#inits.delete(container.id);
        exited(code);
      },
      began: () => this.#noteStart(container),
      fenced: () => {
        this.#options.fenced?.();
        this.#noteEnd(container.id);
      },
    });
    this.#inits.set(container.id, init);
    return init;
  }

  #note(container: SimContainer, change: 'start' | 'die'): void {
    this.#trace(`container ${change} ${container.name} ${container.exitCode}`);
    if (change !== 'die') return;
    this.#noteEnd(container.id);
    this.#options.died?.(placementOf(container));
  }

  /** The first process of whoever has the container: what was started there before is nobody's. */
  #noteStart(container: SimContainer): boolean {
    const { id: containerId, name } = container;
    const owner = ownerOf(container);
    if (owner === undefined && labels.warm in container.labels) return false;
    const { sessionId, generation = 0 } = owner ?? {};
    const startedAtMs = this.#options.now();
    this.history.push({ host: this.name, containerId, name, sessionId, generation, startedAtMs, endedAtMs: undefined });
    this.#trace(`container begins ${name}`);
    return true;
  }

  #noteEnd(containerId: string): void {
    const run = this.history.findLast((each) => each.containerId === containerId);
    if (run !== undefined) run.endedAtMs ??= this.#options.now();
  }

  #trace(line: string): void {
    this.#options.trace?.(`${this.name} ${line}`);
  }
}

const refusePut: Put = () =>
  Promise.resolve({ status: 410, retryAfter: undefined, text: JSON.stringify({ code: 'archive_closed' }) });

function placementOf(container: SimContainer): Placement {
  return ownerOf(container) ?? { sessionId: '', generation: 0 };
}

/** A stream of random numbers of its own, so that a draw more in one part moves no other. */
function fork(random: Random): Random {
  const rng = seededRandom(Buffer.from(random.bytes(4)).readUInt32LE());
  return { bytes: (count) => rng.bytes(count), fraction: () => rng.next() };
}
