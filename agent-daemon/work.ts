/**
 * What the agent does between tunnel and host: builds the rooms, connects them, and gives the tunnel its table of
 * handlers. It decides nothing itself.
 */
import { join } from 'node:path';
import { capacityOf, hostInfo, memoryOf } from './capacity/capacity.ts';
import { type Finding, stdioCosts } from './capacity/problems.ts';
import { Reporter } from './capacity/reporter.ts';
import type { Config } from './config.ts';
import type { Handlers, Services, Workload } from './dispatch.ts';
import { getStream, putStream } from './files/streams.ts';
import { pause } from './deadline.ts';
import type { Disk } from './disk.ts';
import { Uploads } from './files/uploads.ts';
import { freshId } from './fresh-id.ts';
import type { Host } from './host.ts';
import { Images } from './images/images.ts';
import type { InitDoor, InitTransport, Soon } from './init/link-options.ts';
import { type Gzip, HandOver } from './handover/handover.ts';
import { channelsStream } from './kernels/channels.ts';
import { executeStream, kernelCall, kernelsCall, kernelspecsCall } from './kernels/streams.ts';
import { HostGuard } from './networks/guard.ts';
import { Networks } from './networks/networks.ts';
import type { Loops } from './loops.ts';
import type { Log } from '../schema/ports.ts';
import type { Diagnosis } from '../schema/protocol/diagnosis.ts';
import { Spools } from './output/spools.ts';
import { Pool } from './pool/pool.ts';
import { connectStream } from './forward/streams.ts';
import { linesStream } from './processes/lines.ts';
import { logsStream, processStream, processesCall } from './processes/streams.ts';
import { EngineWatch } from './runtime/engine-watch.ts';
import type { ContainerRuntime, EngineEvent } from './runtime/runtime.ts';
import { TransportProbe } from './sessions/transport-probe.ts';
import { HomeSizes } from './sessions/home-sizes.ts';
import { Homes } from './sessions/homes.ts';
import { PlacementStore } from './sessions/placement.ts';
import { Semaphore } from './sessions/semaphore.ts';
import { Sessions } from './sessions/sessions.ts';
import { SshConnections } from './ssh/connections.ts';
import type { AgentStatus } from './status/status-file.ts';
import { ScreenPool } from './terminals/screen-pool.ts';
import type { Screens } from './terminals/screens.ts';
import { terminalCall, terminalsCall, terminalStream } from './terminals/streams.ts';
import { echoCall, echoStream } from './tunnel/echo.ts';
import type { Upload } from './tunnel/edge-api.ts';
import type { Membership } from './tunnel/identity.ts';

type WorkCall = 'echo' | 'processes' | 'kernels' | 'kernelspecs' | 'kernel' | 'terminals' | 'terminal';

export interface Work {
  workload: Workload;
  /** All but those of the agent itself. */
  handlers: Omit<Handlers, 'calls'> & { calls: Pick<Handlers['calls'], WorkCall> };
  /** Takes up what an earlier run left and begins to work, for the control plane that the agent belongs to now. */
  begin(membership: Membership): Promise<void>;
  /** What goes on here, for the local status. */
  status(): Pick<AgentStatus, 'host' | 'capacity' | 'report' | 'sessions' | 'outputBytes' | 'transport' | 'limits'>;
  /** Use, health and room, measured now. */
  diagnose(): Promise<Pick<Diagnosis, 'report' | 'disks' | 'inAdvance'>>;
  /** Ends the loops; containers live on. */
  stop(): Promise<void>;
}

/** This machine as the work sees it. */
export interface WorkPorts {
  runtime: ContainerRuntime;
  disk: Disk;
  door: InitDoor;
  soon: Soon;
  host: Host;
  screens: Screens;
  gzip: Gzip;
  upload: Upload;
  /** Of other rooms, for the report. */
  findings?: () => readonly Finding[];
}

/** Networks kept ready, so that no start waits for one. */
const readyNetworks = 4;
const guardMs = 60_000;
/** How long the start of the agent waits for the engine: after that it joins without it, as degraded. */
const engineMs = 10_000;
/** What could not be taken up is tried again after the first of these, later each time, up to the second. */
const adoptRetryMs = { first: 2_000, most: 16_000 };

export type WorkConfig = Pick<
  Config,
  | 'stateDir'
  | 'spoolTotalBytes'
  | 'homeBytes'
  | 'networkPool'
  | 'initTransport'
  | 'handoverSeconds'
  | 'warmContainers'
  | 'sshAgentForwarding'
>;

export async function startWork(config: WorkConfig, ports: WorkPorts, services: Services, loops: Loops): Promise<Work> {
  const { clock, timers, random, log, failpoints } = services;
  const { runtime, disk, door, soon, host, screens } = ports;
  const { initPath } = host;
  const { stateDir } = config;
  const images = new Images(runtime, { log, timers, architecture: imageArch(host) });
  const homes = new Homes(join(stateDir, 'homes'), { clock, disk, loops });
  const uploads = new Uploads(join(stateDir, 'uploads'), { clock, disk, loops });
  const stagingRoot = join(stateDir, 'homes', '.staging');
  const spools = new Spools({
    root: join(stateDir, 'output'),
    totalBytes: config.spoolTotalBytes,
    disk,
    clock,
    timers,
    loops,
    log,
    failpoints,
  });
  const handOver = new HandOver({
    spools,
    everyMs: config.handoverSeconds * 1000,
    upload: ports.upload,
    gzip: ports.gzip,
    disk,
    clock,
    timers,
    random,
    loops,
    log,
    failpoints,
  });
  let sessions: Sessions | undefined;
  let networks: Networks | undefined;
  let pool: Pool | undefined;
  let probe: TransportProbe | undefined;
  const runRoot = join(stateDir, 'run');
  const toolsRoot = join(stateDir, 'toolbox');
  const stopping = new AbortController();

  const engine = new EngineWatch({
    runtime,
    timers,
    log,
    onEvent,
    onBack: () => void adopt(),
    onGone: () => reporter.poke(),
  });
  const homeSizes = new HomeSizes({
    root: join(stateDir, 'homes'),
    limitBytes: config.homeBytes,
    disk,
    measureTree: (path) => host.measureTree(path),
    loops,
    log,
    onChange: () => reporter.poke(),
  });
  const guard = new HostGuard({
    pool: config.networkPool,
    readRoutes: () => host.readRoutes(),
    iptables: (args) => host.iptables(args),
    log,
  });
  const guarding = loops.every('guard of the host', guardMs, () => guard.check());
  const reporter = new Reporter({
    clock,
    disk,
    loops,
    stateDir,
    engine: () => ({ info: engine.info, error: engine.error, transport: probe?.found }),
    work: () => ({ used: sessions?.promised ?? {}, sessions: sessions?.live ?? 0 }),
    homes: () => homeSizes.oversized,
    others: () => [...(ports.findings?.() ?? []), ...guard.findings],
    report: (report) => services.report(report),
  });

  function onEvent(event: EngineEvent): void {
    sessions?.onEngineEvent(event);
    if (event.kind === 'image' && /^(pull|tag|untag|delete|import|load|build)$/.test(event.action)) {
      services.imagesChanged();
    }
  }

  /** Looks at every container and network, again and again until the engine has told. */
  async function adopt(): Promise<void> {
    reporter.poke();
    const all = sessions;
    if (all === undefined) return;
    let waitMs = adoptRetryMs.first;
    while (!stopping.signal.aborted && engine.error === undefined) {
      try {
        await all.adopt();
        return;
      } catch (error) {
        log.warn('what runs here could not be taken up yet', { error: String(error) });
        await pause(timers, waitMs, stopping.signal);
        waitMs = Math.min(2 * waitMs, adoptRetryMs.most);
      }
    }
  }

  // What lies there was being unpacked when the agent died; whoever still waits for it sends its last part again.
  const swept = disk.rm(stagingRoot, { recursive: true, force: true });
  await Promise.all([homes.start(), uploads.start(), spools.start(), swept]);
  engine.start();
  await engine.whenAnswered(engineMs);

  const capacity = () => capacityOf(engine.info ?? host);
  const core = (): Sessions => {
    if (sessions === undefined) throw new Error('an order came before the agent had joined');
    return sessions;
  };
  const streams = {
    find: (sessionId: string, generation: number) => sessions?.find(sessionId, generation),
    spools,
    timers,
    nowMs: () => clock.nowMs(),
  };

  const freshProcessId = () => freshId('process', { clock, random });
  const attended = { ...streams, log, freshProcessId };
  const ssh = new SshConnections({
    ...attended,
    gatherRsync: gatheringRsync(host, toolsRoot, log),
    forwardsAgents: config.sshAgentForwarding === 'allow',
  });

  return {
    workload: {
      capacity: () => Promise.resolve(capacity()),
      host: () => Promise.resolve(hostOf(engine, host)),
      inventory: () => Promise.resolve(core().inventory()),
      // A hello does not wait for an engine that is known to be silent: what was there is still there.
      images: () =>
        engine.error === undefined ? images.list().catch(() => images.listed) : Promise.resolve(images.listed),
      reconcile: (answer) => Promise.resolve(core().reconcile(answer)),
      retell: () => core().retell(),
      liveSessions: () => sessions?.live ?? 0,
    },
    handlers: {
      intents: {
        create: (intent, superseded) => core().create(intent, superseded),
        stop: (intent, superseded) => core().stop(intent, superseded),
        remove: (intent) => core().remove(intent),
      },
      calls: {
        echo: echoCall,
        processes: processesCall(streams),
        kernels: kernelsCall(streams),
        kernel: kernelCall(streams),
        kernelspecs: kernelspecsCall(streams),
        terminals: terminalsCall(streams),
        terminal: terminalCall(streams),
      },
      streams: {
        process: processStream(streams),
        logs: logsStream(streams),
        lines: linesStream({ ...streams, soon }),
        execute: executeStream(streams),
        channels: channelsStream(streams),
        terminal: terminalStream(streams),
        get: getStream(homes),
        put: putStream(homes, uploads, stagingRoot),
        ssh: ssh.serve,
        connect: connectStream(attended),
        echo: echoStream,
      },
    },
    async begin({ agentId, instance }) {
      networks = new Networks({
        runtime,
        random,
        timers,
        log,
        agentId,
        instanceId: instance,
        pool: config.networkPool,
        ready: readyNetworks,
        guard: (subnet) => guard.ensure(subnet),
        readRoutes: () => host.readRoutes(),
      });
      const asked = new TransportProbe({
        runtime,
        clock,
        timers,
        random,
        log,
        disk,
        door,
        soon,
        agentId,
        stateDir,
        runRoot,
        initPath,
        configured: config.initTransport,
        engine: () => (engine.error === undefined ? engine.info : undefined),
      });
      probe = asked;
      const forSessions = {
        clock,
        timers,
        loops,
        random,
        log,
        failpoints,
        services,
        disk,
        door,
        soon,
        runtime,
        images,
        networks,
        spools,
        homes,
        agentId,
        instanceId: instance,
        store: new PlacementStore(join(stateDir, 'sessions'), disk),
        starts: new Semaphore(2 * host.parallelism),
        initPath,
        runnersPath: host.runnersPath,
        screenPool: new ScreenPool(screens),
        runRoot,
        toolsRoot,
        transport: () => asked.transport(),
        uploads,
      };
      pool = new Pool(forSessions, { most: config.warmContainers, memory: () => memoryOf(disk) });
      sessions = new Sessions({ ...forSessions, warm: pool });
      await sessions.load();
      void asked.transport().then(() => reporter.poke());
      void adopt();
      reporter.start();
      homeSizes.start();
      handOver.start();
    },
    status: () => ({
      host: hostOf(engine, host),
      capacity: capacity(),
      report: reporter.latest,
      sessions: sessions?.list() ?? [],
      outputBytes: spools.usedBytes,
      transport: probe?.found,
      limits: hostLimits(probe?.found, config.homeBytes),
    }),
    diagnose: async () => {
      const inAdvance = pool?.found;
      return { ...(await reporter.look()), ...(inAdvance === undefined ? {} : { inAdvance }) };
    },
    async stop() {
      stopping.abort();
      reporter.stop();
      await handOver.stop();
      void guarding.stop();
      homeSizes.stop();
      await homes.stop();
      await uploads.stop();
      await pool?.stop();
      await engine.stop();
      await networks?.stop();
      await sessions?.close();
      await spools.stop();
    },
  };
}

/** What is promised elsewhere and this version can not do on a host like this. */
function hostLimits(transport: InitTransport | undefined, homeBytes: number): string[] {
  const told = homeBytes > 0 ? `; homes over ${Math.round(homeBytes / 1024 ** 2)} MiB are told` : '';
  return [
    ...(transport === 'stdio' ? [stdioCosts] : []),
    `Homes and writable layers of containers have no hard limit, the disk of the host bounds them${told}.`,
  ];
}

/** The architecture of this host in the words of images. */
function imageArch({ arch }: Host): string {
  return arch === 'x64' ? 'amd64' : arch;
}

function hostOf(engine: EngineWatch, host: Host) {
  if (engine.info !== undefined) return hostInfo(engine.info, host);
  return hostInfo({ os: 'Linux', kernel: host.kernel, description: 'none that answers' }, host);
}

/** One look at a time; who asks meanwhile gets the same answer. */
function gatheringRsync(host: Host, toolsRoot: string, log: Log): () => Promise<string | undefined> {
  let looking: Promise<string | undefined> | undefined;
  return () => {
    looking ??= host
      .gatherRsync(toolsRoot)
      .catch((error: unknown) => {
        log.warn('rsync of this machine could not be copied', { error: String(error) });
        return undefined;
      })
      .finally(() => (looking = undefined));
    return looking;
  };
}
