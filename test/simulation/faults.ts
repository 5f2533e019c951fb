/** What may happen to a simulated world, each kind by itself. A swarm of a seed uses some of them, with weights of its own. */
import type { Chance } from './chance.ts';
import type { Stage } from './stage.ts';

export interface FaultKind {
  name: string;
  weight: number;
  strike(world: Stage, chance: Chance): void;
}

/** What spoke so long before carries somebody's stream, most likely. */
const inUseMs = 500;
const seconds = (chance: Chance, least: number, most: number) => chance.integer(least * 1000, most * 1000);

export const faultKinds: readonly FaultKind[] = [
  {
    name: 'agent killed',
    weight: 3,
    strike(world, chance) {
      const host = chance.pick(world.hosts.filter(({ isRunning }) => isRunning));
      if (!host) return;
      host.crash();
      world.sometimes.reached('an agent process was killed');
      world.later(seconds(chance, 0, 60), () => host.start());
    },
  },
  {
    name: 'agent upgraded',
    weight: 1,
    strike(world, chance) {
      chance.pick(world.hosts.filter(({ isRunning }) => isRunning))?.upgrade(seconds(chance, 0, 5));
    },
  },
  {
    name: 'power lost',
    weight: 2,
    strike(world, chance) {
      const host = chance.pick(world.hosts);
      if (!host) return;
      if (chance.isTrue(0.5)) host.powerLoss();
      else host.powerLossAtSync(20_000);
      world.sometimes.reached('a host lost its power');
      world.later(seconds(chance, 5, 180), () => host.start());
    },
  },
  {
    name: 'way cut',
    weight: 3,
    strike(world, chance) {
      const host = chance.pick(world.hosts);
      const way = host && world.ways.get(host.name);
      if (!way) return;
      const which = chance.integer(0, 2);
      way.upIsCut = which !== 1;
      way.downIsCut = which !== 0;
      if (which < 2) world.sometimes.reached('a partition was one way');
      // Some just beyond a run lease, and back before anybody else may have what it covers.
      world.later(chance.isTrue(0.3) ? seconds(chance, 65, 110) : seconds(chance, 1, 200), () => way.heal());
    },
  },
  {
    name: 'connection reset',
    weight: 3,
    strike(world, chance) {
      const links = [...world.ways.values()].flatMap((way) => [...way.links]);
      const link = chance.pick(links);
      const ofHosts = world.hosts.flatMap(({ name }) => [...world.ways.get(name)!.links]);
      // All of them, in some worlds.
      const areForgotten = chance.fork('forgotten').isTrue(0.3);
      if (link === undefined || !ofHosts.includes(link) || !areForgotten) return link?.cut();
      // Mostly one in use: what nobody waits for is missed by nobody.
      const inUse = ofHosts.filter(({ spokeMs }) => world.time.nowMs - spokeMs < inUseMs);
      ((chance.isTrue(0.7) ? chance.pick(inUse) : undefined) ?? link).forget();
    },
  },
  {
    name: 'herd',
    weight: 1,
    strike(world) {
      for (const way of world.ways.values()) for (const link of way.links) link.cut();
      world.sometimes.reached('a herd of agents dialled at once');
    },
  },
  {
    name: 'slow way',
    weight: 1,
    strike(world, chance) {
      const way = chance.pick([...world.ways.values()]);
      if (way) way.latencyMs = chance.pick([1, 20, 200, 1000])!;
    },
  },
  {
    name: 'engine hangs',
    weight: 1,
    strike(world, chance) {
      chance.pick(world.hosts)?.hangEngine(seconds(chance, 5, 120));
      world.sometimes.reached('dockerd hung');
    },
  },
  {
    name: 'engine killed',
    weight: 1,
    strike(world, chance) {
      chance.pick(world.hosts)?.killEngine(seconds(chance, 1, 30));
      world.sometimes.reached('dockerd was killed');
    },
  },
  {
    name: 'disk full',
    weight: 1,
    strike(world, chance) {
      chance.pick(world.hosts)?.fillDisk(seconds(chance, 5, 60));
      world.sometimes.reached('a disk was full');
    },
  },
  {
    name: 'clock jumps',
    weight: 1,
    strike(world, chance) {
      chance.pick(world.hosts)?.jumpClock(chance.pick([-86_400_000, -5_000, 5_000, 3_600_000, 86_400_000])!);
      world.sometimes.reached('a clock jumped');
    },
  },
  {
    name: 'edge killed',
    weight: 2,
    strike: (world) => world.edge.crash(),
  },
  {
    name: 'edge restarted',
    weight: 1,
    strike(world, chance) {
      world.edge.drain();
      world.sometimes.reached('an edge said that it stops, and stopped');
      world.later(chance.integer(0, 2_000), () => world.edge.crash());
    },
  },
  {
    name: 'edge deployed',
    weight: 1,
    strike(world, chance) {
      // Each object goes on with the old code until its turn, and loses its sockets then.
      const awake = [...world.edge.cells.values()].filter(({ isAwake }) => isAwake);
      for (const { name } of awake) world.later(seconds(chance, 0, 30), () => world.edge.kill(name));
      if (awake.length > 1) world.sometimes.reached('a deploy replaced one object after the other');
    },
  },
  {
    name: 'object killed',
    weight: 4,
    strike(world, chance) {
      const awake = [...world.edge.cells.values()].filter(({ isAwake }) => isAwake);
      const cell = chance.pick(awake);
      if (cell) world.edge.kill(cell.name);
    },
  },
  {
    name: 'objects evicted',
    weight: 6,
    strike(world, chance) {
      for (const cell of world.edge.cells.values()) if (chance.isTrue(0.5)) world.edge.evict(cell.name);
    },
  },
  {
    name: 'redis flushed',
    weight: 1,
    strike: (world) => world.edge.redis.flush(),
  },
  {
    name: 'agent drained',
    weight: 1,
    strike(world, chance) {
      const host = chance.pick(world.hosts);
      if (!host) return;
      world.drain(host, true);
      world.sometimes.reached('an agent was drained');
      world.later(seconds(chance, 5, 120), () => world.drain(host, false));
    },
  },
  {
    name: 'agent revoked',
    weight: 0.6,
    strike(world, chance) {
      const busy = world.hosts.filter((host) => host.running().length > 0);
      const host = chance.pick(busy.length > 0 ? busy : world.hosts);
      if (!host || world.hosts.length < 4) return;
      if (host.running().length > 0) world.sometimes.reached('an agent was revoked with sessions on it');
      // Another operator changes it at the same time, and may be heard later.
      if (chance.isTrue(0.6)) world.drain(host, true);
      world.revoke(host);
    },
  },
  {
    name: 'identity copied',
    weight: 0.6,
    strike(world, chance) {
      const host = chance.pick(world.hosts.filter(({ agentId }) => agentId !== ''));
      if (host) world.copy(host, seconds(chance, 5, 180));
    },
  },
  {
    name: 'rights changed',
    weight: 6,
    strike: (world) => world.changeRights(),
  },
  {
    name: 'limits changed',
    weight: 3,
    strike(world, chance) {
      world.limit(
        chance.pick([{ concurrentSessions: chance.integer(1, 2) }, { liveSessions: chance.integer(1, 6) }, {}])!,
      );
    },
  },
  {
    name: 'object cut off',
    weight: 2,
    strike(world, chance) {
      const cell = chance.pick([...world.edge.cells.values()].filter(({ isAwake }) => isAwake));
      if (!cell) return;
      cell.isCutOff = true;
      world.sometimes.reached('an object was cut off and its sockets went on');
      world.later(seconds(chance, 5, 240), () => (cell.isCutOff = false));
      const cut = world.hosts.filter(
        ({ name }) => `control ${world.edge.worker.agentOf(name)?.controlHub}` === cell.name,
      );
      const host = chance.pick(cut);
      // Its leases go on while nobody can tell its hub.
      if (host && world.hosts.length >= 4 && chance.isTrue(0.3)) world.revoke(host);
    },
  },
  {
    name: 'object slow',
    weight: 2,
    strike(world, chance) {
      const cell = chance.pick([...world.edge.cells.values()].filter(({ isAwake }) => isAwake));
      if (!cell) return;
      cell.lagMs = seconds(chance, 1, 20);
      world.sometimes.reached('an object was slow and later calls overtook earlier ones');
      world.later(seconds(chance, 5, 120), () => (cell.lagMs = 0));
    },
  },
  {
    name: 'host stalls',
    weight: 1,
    strike(world, chance) {
      const host = chance.pick(world.hosts);
      const way = host && world.ways.get(host.name);
      if (!way) return;
      const stalledMs = seconds(chance, 5, 200);
      host.hangEngine(stalledMs);
      way.upIsCut = true;
      way.downIsCut = true;
      world.sometimes.reached('a host was cut off while its dockerd hung');
      world.later(stalledMs + seconds(chance, 1, 60), () => way.heal());
    },
  },
];

/** A swarm: some kinds are absent, others come often. */
export function drawSwarm(chance: Chance): FaultKind[] {
  const swarm = faultKinds.flatMap((kind) =>
    chance.isTrue(0.5) ? [{ ...kind, weight: kind.weight * chance.next() }] : [],
  );
  return swarm.length > 0 ? swarm : [faultKinds[0]!];
}

export function drawFault(chance: Chance, swarm: readonly FaultKind[]): FaultKind {
  let left = chance.next() * swarm.reduce((sum, { weight }) => sum + weight, 0);
  for (const kind of swarm) {
    left -= kind.weight;
    if (left <= 0) return kind;
  }
  return swarm.at(-1)!;
}
