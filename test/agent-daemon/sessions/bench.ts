/**
 * The session core of an agent in this process, against a private engine: orders go in by hand, events come out into a
 * list. `restart` is what a crash and a new start of the agent do to it.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { newId, newSessionId } from '../../../schema/ids.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { KernelSpec } from '../../../schema/protocol/intents.ts';
import { Uploads } from '../../../agent-daemon/files/uploads.ts';
import { Images } from '../../../agent-daemon/images/images.ts';
import type { InitTransport } from '../../../agent-daemon/init/link-options.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import { Networks } from '../../../agent-daemon/networks/networks.ts';
import { Spools } from '../../../agent-daemon/output/spools.ts';
import { Pool, type PoolHost } from '../../../agent-daemon/pool/pool.ts';
import { systemClock, systemDisk, systemRandom, systemSoon, systemTimers } from '../../../agent-daemon/platform.ts';
import { DockerRuntime } from '../../../agent-daemon/runtime/docker.ts';
import { EngineWatch } from '../../../agent-daemon/runtime/engine-watch.ts';
import { Homes } from '../../../agent-daemon/sessions/homes.ts';
import type { SessionHost } from '../../../agent-daemon/sessions/host.ts';
import { mainProcessId } from '../../../agent-daemon/sessions/main-process.ts';
import { PlacementStore } from '../../../agent-daemon/sessions/placement.ts';
import { Semaphore } from '../../../agent-daemon/sessions/semaphore.ts';
import { Sessions } from '../../../agent-daemon/sessions/sessions.ts';
import { ScreenPool } from '../../../agent-daemon/terminals/screen-pool.ts';
import { ScreenThread } from '../../../agent-daemon/terminals/screen-thread.ts';
import { MergedReader } from '../../../agent-daemon/output/merged-reader.ts';
import { initBinary } from '../init/harness.ts';
import { runnersFolder } from '../kernels/runner-process.ts';
import { keptLog, noFailpoints } from '../ports.ts';
import { agentId, kernelSpec } from '../support.ts';
import { until } from '../../support/wait.ts';
import { unixDoor } from '../../../agent-daemon/init/door.ts';

export const never = new AbortController().signal;

export function freshSessionId(): string {
  return newSessionId(Date.now(), systemRandom.bytes(10), 1, 1);
}

export class CoreBench {
  readonly events: AgentEvent[] = [];
  readonly log = keptLog();
  readonly runtime: DockerRuntime;
  readonly stateDir: string;
  readonly pool: string;
  leaseHeld = true;
  /** Events can not be kept, as of an agent that ends while its disk is full. */
  isJournalClosed = false;
  /** What happens while an agent that begins has its sessions from the disk, and has not heard of the engine. */
  beforeAdopt: () => Promise<void> = () => Promise.resolve();
  runLeaseMs = 600_000;
  /** How the inits of new containers are reached. */
  transport: InitTransport = 'socket';
  warmContainers = 0;
  /** Of the host, as the pool sees it. */
  memory: { freeBytes: number; totalBytes: number } | undefined;
  warm!: Pool;
  host!: SessionHost;
  sessions!: Sessions;
  #engine!: EngineWatch;
  readonly #renewals = new Set<() => void>();
  #seq = 0;

  constructor(socket: string, stateDir: string, pool = '10.213.0.0/16') {
    this.runtime = new DockerRuntime(socket);
    this.stateDir = stateDir;
    this.pool = pool;
    mkdirSync(stateDir, { recursive: true });
  }

  async start(): Promise<this> {
    const ports = {
      clock: systemClock,
      timers: systemTimers(this.log),
      random: systemRandom,
      log: this.log,
      disk: systemDisk,
    };
    const loops = new Loops(ports);
    const { runtime, stateDir } = this;
    const spools = new Spools({
      root: join(stateDir, 'output'),
      totalBytes: 1024 ** 3,
      ...ports,
      loops,
      failpoints: noFailpoints,
    });
    const homes = new Homes(join(stateDir, 'homes'), { ...ports, loops });
    const uploads = new Uploads(join(stateDir, 'uploads'), { ...ports, loops });
    await Promise.all([spools.start(), homes.start(), uploads.start()]);
    const networks = new Networks({
      ...ports,
      runtime,
      agentId,
      instanceId: 'test',
      pool: this.pool,
      ready: 1,
      guard: () => Promise.resolve(),
      readRoutes: () => Promise.resolve(readFileSync('/proc/net/route', 'utf8')),
    });
    const host: PoolHost & Omit<SessionHost, 'warm'> = {
      ...ports,
      loops,
      door: unixDoor,
      soon: systemSoon,
      failpoints: noFailpoints,
      services: {
        recordEvent: (event) =>
          this.isJournalClosed
            ? Promise.reject(new Error('the journal is closed'))
            : Promise.resolve(void this.events.push(event)),
        progress: () => undefined,
        leases: {
          startHeld: () => this.leaseHeld,
          whenStartHeld: () => Promise.resolve(),
          runRemainingMs: () => this.runLeaseMs,
          onRenew: (task) => {
            this.#renewals.add(task);
            return () => this.#renewals.delete(task);
          },
        },
      },
      runtime,
      images: new Images(runtime, { ...ports, architecture: 'amd64' }),
      networks,
      spools,
      homes,
      uploads,
      store: new PlacementStore(join(stateDir, 'sessions'), systemDisk),
      starts: new Semaphore(4),
      agentId,
      instanceId: 'test',
      initPath: initBinary,
      runnersPath: runnersFolder,
      screenPool: new ScreenPool(new ScreenThread(this.log)),
      runRoot: join(stateDir, 'run'),
      toolsRoot: join(stateDir, 'toolbox'),
      transport: () => Promise.resolve(this.transport),
    };
    this.warm = new Pool(host, { most: this.warmContainers, memory: () => Promise.resolve(this.memory) });
    this.host = { ...host, warm: this.warm };
    this.sessions = new Sessions(this.host);
    await this.sessions.load();
    this.#engine = new EngineWatch({
      runtime,
      timers: ports.timers,
      log: this.log,
      onEvent: (event) => this.sessions.onEngineEvent(event),
      onBack: () => undefined,
      onGone: () => undefined,
    });
    this.#engine.start();
    await this.beforeAdopt();
    await this.sessions.adopt();
    return this;
  }

  renew(): void {
    for (const task of this.#renewals) task();
  }

  /** Ends the core as a crash would leave the world: nothing of what it holds is tidied up. */
  async stop(): Promise<void> {
    await this.#engine.stop();
    await this.host.networks.stop();
    await this.warm.close();
    await this.sessions.close();
    await this.host.spools.stop();
    await this.host.homes.stop();
    await this.host.uploads.stop();
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  intent(sessionId: string, generation = 1) {
    return { intentId: newId('intent', Date.now(), systemRandom.bytes(10)), sessionId, generation, seq: ++this.#seq };
  }

  async create(sessionId: string, changes: Partial<KernelSpec> = {}, generation = 1, signal = never): Promise<void> {
    const order = { kind: 'create' as const, spec: kernelSpec(changes) };
    await this.sessions.create({ ...this.intent(sessionId, generation), order }, signal);
  }

  async stopSession(sessionId: string, { force = false, graceMs = 5_000 } = {}, generation = 1): Promise<void> {
    const order = { kind: 'stop' as const, force, graceMs, reason: 'test' };
    await this.sessions.stop({ ...this.intent(sessionId, generation), order }, never);
  }

  async remove(sessionId: string, generation = 1, purge = false): Promise<void> {
    await this.sessions.remove({ ...this.intent(sessionId, generation), order: { kind: 'remove', purge } });
  }

  eventsOf(sessionId: string): AgentEvent['body'][] {
    return this.events.filter((event) => event.sessionId === sessionId).map((event) => event.body);
  }

  kindsOf(sessionId: string): string[] {
    return this.eventsOf(sessionId).map((body) => body.kind);
  }

  /** Waits for the event of this kind. */
  event<Kind extends AgentEvent['body']['kind']>(sessionId: string, kind: Kind) {
    return until(
      () => this.eventsOf(sessionId).find((body) => body.kind === kind) as Extract<AgentEvent['body'], { kind: Kind }>,
      { what: `"${kind}" of ${sessionId} (so far ${this.kindsOf(sessionId).join(', ')})`, timeoutMs: 60_000 },
    );
  }

  /** Everything that is kept of a process, by stream. */
  async output(sessionId: string, processId = mainProcessId(sessionId, 1), generation = 1) {
    const read = await this.host.spools.read({ sessionId, generation, processId });
    if (read === undefined) throw new Error(`nothing is kept of ${processId}`);
    const reader = new MergedReader(read.spool, { stdout: 0, stderr: 0 }, { live: false });
    const found = { stdout: '', stderr: '', gaps: 0 };
    for (let item = await reader.next(); item !== undefined; item = await reader.next()) {
      if (item.kind === 'gap') found.gaps += item.gap.to - item.gap.from;
      else found[item.stream] += item.bytes.toString();
    }
    await reader.close();
    await read.done();
    return found;
  }
}
