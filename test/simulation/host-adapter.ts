/** A host of the world with the agent's production code on it: connects `host/` with the edge and with what may happen. */
import type { ContainerLife } from '../support/invariant-rules.ts';
import { dialOf, postOf, putOf } from './edge/front.ts';
import { MachineChanged } from '../../agent-daemon/machine.ts';
import { labels, ownerOf } from '../../agent-daemon/runtime/docker-spec.ts';
import { JoinError } from '../../agent-daemon/tunnel/enrol.ts';
import { SimHost } from './host/agent.ts';
import type { DiskOp, SimDisk } from './host/disk.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { HostSize, WorldHost } from './host-port.ts';
import { asLaterRelease } from './later-release.ts';
import type { World } from './world.ts';

/** Whose disk a host begins with. */
interface Original {
  /** As D1 has it. */
  name: string;
  disk: SimDisk;
  hardwareId: string | undefined;
}

/** After an agent has ended by itself. */
const keeperMs = 5_000;
/** How long an agent may take to an orderly end. */
const stopMs = 10_000;
/** Steps that a world takes once or never are met by a death so much more often. */
const seldomTaken = 6;
/** What of a bad disk may fail. */
const failing: ReadonlySet<DiskOp> = new Set([
  'open',
  'writeFile',
  'rename',
  'write',
  'truncate',
  'sync',
  'mkdir',
  'stat',
  'read',
  'readFile',
]);

/** A host of `world`; its clocks are its own. */
export function makeSimHost(world: World, name: string, size: HostSize, original?: Original): WorldHost {
  const { time, edge, weather, sometimes, invariants } = world;
  const chance = world.chance.fork(name);
  const way = world.ways.get(name)!;
  const { promises } = invariants;
  let skewMs = 0;
  /** Its disk refused something, at any time. */
  let wasFull = false;
  let token: string | undefined;
  /** Its agent is of the release after this one. */
  let isLater = false;
  let agentId = '';
  /** When this run of the agent last heard that a ping was answered. */
  let pongMs = Number.NEGATIVE_INFINITY;
  const front = {
    edge,
    way,
    time,
    chance: chance.fork('front'),
    says: (bytes: Uint8Array) => {
      promises.agentSays(name, host.disk, bytes);
      return isLater ? asLaterRelease(bytes) : bytes;
    },
    hears: () => {
      pongMs = time.nowMs;
      if (original) sometimes.reached('a copied machine spoke as the original');
    },
  };
  const knownAs = original?.name ?? name;
  const hasHardwareId = original ? original.hardwareId !== undefined : chance.fork('hardware').isTrue(0.7);
  const hardwareId = hasHardwareId ? `the hardware of ${name}` : undefined;
  const steps = chance.fork('steps');
  const inAdvance = chance.fork('in advance');
  const mostInAdvance = inAdvance.isTrue(world.people.areForKernels ? 0.9 : 0.3) ? inAdvance.integer(1, 3) : 0;
  const slowness = chance.fork('disk');
  const writes = chance.fork('writes');
  const badBlocks = chance.fork('bad blocks');
  const isBad = badBlocks.isTrue(0.4);
  const laziness = chance.fork('engine');
  let losesPowerAtSync = false;
  const diskMs = (op: string, path: string): number => {
    if (op !== 'sync' && op !== 'write') return 0;
    if (losesPowerAtSync && op === 'sync' && path.includes('/journal.log')) {
      time.after(0, () => {
        if (losesPowerAtSync) adapter.powerLoss();
      });
      world.later(steps.integer(1_000, 60_000), () => revive());
    }
    const often = path.endsWith('.kernels') ? 2 * seldomTaken : 1;
    if (op === 'write' && !path.includes('/output/') && writes.isTrue(weather.agentStep * often)) {
      time.after(0, () => diesBehindWrite());
      return 1;
    }
    if (slowness.isTrue(weather.slowDisk)) return slowness.delayMs(200);
    return op === 'sync' ? 1 : 0;
  };
  const diskFails = (op: DiskOp): string | undefined => {
    if (!isBad || !failing.has(op) || !badBlocks.isTrue(weather.diskFails)) return undefined;
    sometimes.reached('a disk failed');
    wasFull = true;
    return 'EIO';
  };
  const host = new SimHost({
    name,
    clock: { nowMs: () => edge.clock.nowMs() + skewMs, bootMs: () => Math.floor(time.nowMs) },
    timers: { after: (delayMs, task) => time.after(delayMs, task) },
    random: chance.fork('random').port(),
    log: world.log,
    now: () => time.nowMs,
    dial: dialOf(front),
    post: postOf(front),
    put: putOf(front),
    token: () => token,
    hardwareId,
    config: { warmContainers: mostInAdvance },
    // As its keeper does, but where the next start would end the same way.
    ended: (error) => {
      if (!(error instanceof JoinError || error instanceof MachineChanged)) world.later(keeperMs, () => revive());
    },
    fenced: () => sometimes.reached('a run lease ran out in the container'),
    renamed: () => sometimes.reached('a session took a container that was started in advance'),
    tookKernel: () => sometimes.reached('a session took a kernel that was started in advance'),
    engine: {
      cpus: size.cpus,
      memoryBytes: size.memoryBytes,
      latencyMs: () => (laziness.isTrue(weather.slowEngine) ? laziness.delayMs(2_000) : undefined),
    },
    disk: { latencyMs: diskMs, fails: diskFails },
    restartMs: undefined,
    faultAt: (step) => {
      const often = /^(handover|warm)\./.test(step) ? seldomTaken : 1;
      if (!steps.isTrue((weather.agentStep / 3) * often)) return false;
      sometimes.reached('an agent process was killed within a step');
      if (step.startsWith('warm.')) sometimes.reached('an agent was killed while a session took a container');
      world.later(steps.integer(100, 20_000), () => revive());
      return true;
    },
    creating: () => {
      if (time.nowMs - pongMs > limits.startLeaseMs)
        invariants.violated(`[M6] ${name} makes a container and holds no start lease`);
    },
    forgets: (what) => {
      // What a full disk refuses is given up, and announced.
      if (!wasFull) promises.initForgets(name, host.disk, what);
    },
    ran: (placement, runId) => {
      time.trace(`${name} runs ${runId}`);
      invariants.ran(placement, runId);
    },
    typed: (placement, processId, bytes) => world.logbook.typed(placement, processId, bytes),
    hungUp: (placement, processId) => world.logbook.hungUp(placement, processId),
    died: (placement) => world.logbook.died(placement),
    watch: (placement, processId) => world.logbook.watch(placement, processId),
    trace: (line) => {
      time.trace(line);
      if (line.includes('MachineChanged')) sometimes.reached('a copied machine found out by itself that it is one');
      if (line.endsWith('agent starts')) pongMs = Number.NEGATIVE_INFINITY;
      if (line.includes('container begins')) noteStart();
    },
  });
  host.engine.addImage({ name: 'busybox:latest' });
  host.engine.addImage({ name: 'busybox' });
  if (original) host.disk.takeImageOf(original.disk);
  let isDark = false;
  let lostPower = false;
  let isScrapped = false;

  function revive(): void {
    if (isScrapped) return;
    if (running().length > 0) sometimes.reached('a container was adopted');
    if (isDark) {
      isDark = false;
      host.powerOn();
    } else host.start();
  }

  /** What was written is there, and who wrote it does nothing more with that. */
  function diesBehindWrite(): void {
    if (!host.isRunning) return;
    sometimes.reached('an agent process was killed right behind a write');
    host.crash();
    world.later(writes.integer(100, 20_000), () => revive());
  }

  function noteStart(): void {
    const run = host.history.at(-1);
    if (run?.sessionId !== undefined) invariants.started(adapter, run.sessionId, run.generation);
  }

  const running = () =>
    host.history.flatMap(({ sessionId, generation, name: container, endedAtMs }) =>
      sessionId === undefined || endedAtMs !== undefined ? [] : [{ sessionId, generation, name: container }],
    );

  const adapter: WorldHost = {
    name,
    get agentId() {
      // For good, once it has joined.
      agentId ||= edge.worker.agentOf(knownAs)?.agentId ?? '';
      return agentId;
    },
    get isRunning() {
      return host.isRunning;
    },
    hasHardwareId,
    get lostPower() {
      return lostPower;
    },
    // Nobody starts an agent before there is a token to join by.
    start: () => {
      if (token !== undefined || original !== undefined) revive();
    },
    copy: (copyName) => makeSimHost(world, copyName, size, { name: knownAs, disk: host.disk, hardwareId }),
    scrap() {
      isScrapped = true;
      adapter.powerLoss();
    },
    join(given) {
      token = given;
      revive();
    },
    crash: () => host.crash(),
    upgrade(ms) {
      if (running().length > 0) sometimes.reached('an agent was upgraded with sessions on it');
      if (isLater) sometimes.reached('an agent went back to the release before');
      let hasEnded = false;
      const ended = () => {
        if (hasEnded) return;
        hasEnded = true;
        host.crash();
        isLater = !isLater;
        world.later(ms, () => revive());
      };
      // Who does not come to an end in time is killed, as any supervisor does.
      world.later(stopMs, ended);
      host.stop().then(ended, ended);
    },
    powerLoss() {
      losesPowerAtSync = false;
      isDark = true;
      lostPower = true;
      for (const link of way.links) link.hostVanishes();
      for (const { sessionId, generation } of host.history)
        if (sessionId !== undefined) world.logbook.lostPower({ sessionId, generation });
      host.powerLoss();
    },
    powerLossAtSync(withinMs) {
      losesPowerAtSync = true;
      world.later(withinMs, () => (losesPowerAtSync = false));
    },
    killEngine(ms) {
      host.engine.kill();
      world.later(ms, () => host.engine.start());
    },
    hangEngine(ms) {
      host.engine.hang();
      world.later(ms, () => host.engine.resume());
    },
    fillDisk(ms) {
      wasFull = true;
      host.disk.limitBytes = host.disk.usedBytes;
      world.later(ms, () => {
        host.disk.limitBytes = Number.POSITIVE_INFINITY;
      });
    },
    jumpClock(ms) {
      skewMs += ms;
    },
    get approved() {
      return edge.worker.agentOf(knownAs)?.approved ?? {};
    },
    used() {
      const used = { cpu: 0, mem: 0 };
      const runs = new Set(running().map(({ name: container }) => container));
      for (const { name: container, options } of host.containers()) {
        if (!runs.has(container)) continue;
        used.cpu += (options.HostConfig?.NanoCpus ?? 0) / 1_000_000;
        used.mem += options.HostConfig?.Memory ?? 0;
      }
      return used;
    },
    lives: () => livesOf(host),
    mostInAdvance,
    running,
    hollow: () =>
      host.containers().flatMap((container) => {
        const processes = host.init(container.id)?.processes ?? [];
        const isHollow = processes.length > 0 && processes.every(({ exited }) => exited);
        const { sessionId } = ownerOf(container) ?? {};
        return isHollow && sessionId !== undefined ? [sessionId] : [];
      }),
    leftovers: () => ({
      containers: host.containers().flatMap((container) => {
        const { sessionId } = ownerOf(container) ?? {};
        return sessionId === undefined
          ? []
          : [{ sessionId, name: container.name, running: container.status === 'running' }];
      }),
      inAdvance: host.containers().filter((container) => ownerOf(container) === undefined).length,
      networks: host.engine.networks.map(({ name: network, labels: own }) => ({
        sessionId: own[labels.session],
        name: network,
      })),
    }),
    uploaded: (sessionId, uploadId) =>
      host.disk.synced(`/var/lib/causeway/uploads/${sessionId}/${uploadId}`) ?? Buffer.alloc(0),
    identity: () => {
      const kept = host.disk.peek('/var/lib/causeway/identity.json');
      return kept && (JSON.parse(kept.toString()) as { agentId: string }).agentId;
    },
    inventory: () => host.agent?.status().sessions ?? [],
  };
  return adapter;
}

function livesOf(host: SimHost): ContainerLife[] {
  const lives = new Map<string, ContainerLife>();
  for (const { containerId, name, sessionId, generation, startedAtMs, endedAtMs } of host.history) {
    if (sessionId === undefined) continue;
    const life = lives.get(containerId) ?? { containerId, name, sessionId, generation, runs: [] };
    life.runs.push({ startMs: startedAtMs, ...(endedAtMs === undefined ? {} : { endMs: endedAtMs }) });
    lives.set(containerId, life);
  }
  return [...lives.values()];
}
