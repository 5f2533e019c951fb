import { describe, expect, it } from 'vitest';
import { defaultOutputPolicy } from '../../../schema/api/session-parts.ts';
import { newId, newSessionId } from '../../../schema/ids.ts';
import type { AgentFailpoint } from '../../../schema/failpoints.ts';
import type { Intent, KernelSpec } from '../../../schema/protocol/intents.ts';
import { mainProcessId } from '../../../agent-daemon/sessions/main-process.ts';
import { parseHeader } from '../../../agent-daemon/output/record.ts';
import { type Rng, seededRandom } from '../../support/random.ts';
import { byTier } from '../../support/tier.ts';
import { VirtualTime } from '../clock.ts';
import { SimHost, type SimHostOptions } from './agent.ts';
import { outputBytesOf, patternBytes } from './programs.ts';
import { ScriptedEdge } from './scripted-edge.ts';

const agentId = `agt_${'0'.repeat(26)}_1`;
const image = 'sim:latest';
const quiet = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

/** One host and one edge. */
class World {
  readonly time: VirtualTime;
  readonly edge: ScriptedEdge;
  readonly host: SimHost;
  readonly #rng;
  #seq = 0;

  constructor(seed: number, options: Partial<SimHostOptions> = {}) {
    this.time = new VirtualTime();
    this.edge = new ScriptedEdge(this.time);
    this.#rng = seededRandom(seed);
    const { time, edge } = this;
    const startMs = 1_800_000_000_000;
    this.host = new SimHost({
      name: 'host1',
      clock: { nowMs: () => startMs + time.nowMs, bootMs: () => time.nowMs },
      timers: time,
      random: { bytes: (count) => this.#rng.bytes(count), fraction: () => this.#rng.next() },
      log: quiet,
      now: () => time.nowMs,
      dial: edge.dial,
      post: edge.post,
      membership: {
        agentId,
        name: 'host1',
        instance: 'test',
        controlHub: '0',
        resourceGroup: 'default',
        approved: true,
        url: 'https://edge.test',
      },
      trace: (line) => time.trace(line),
      ...options,
    });
    this.host.engine.addImage({ name: image });
    this.host.start();
  }

  sessionId(): string {
    return newSessionId(1_800_000_000_000 + Math.floor(this.time.nowMs), this.#rng.bytes(10), 1, 1);
  }

  order(sessionId: string, order: Intent['order'], generation = 1): void {
    const intentId = newId('intent', 1_800_000_000_000, this.#rng.bytes(10));
    this.edge.order({ intentId, sessionId, generation, seq: ++this.#seq, order });
  }

  create(command: string[], changes: Partial<KernelSpec> = {}): string {
    const sessionId = this.sessionId();
    this.order(sessionId, { kind: 'create', spec: spec(command, changes) });
    return sessionId;
  }

  until(isSo: () => boolean, withinMs = 120_000): Promise<boolean> {
    return this.time.runWhile(() => !isSo(), this.time.nowMs + withinMs);
  }

  /** What is in the spool of a session's main process, put together. */
  output(sessionId: string, generation = 1): Buffer {
    const dir = `/var/lib/causeway/output/${sessionId}/g${generation}/${mainProcessId(sessionId, generation)}`;
    const parts: Buffer[] = [];
    for (const path of this.host.disk.tree(dir).filter((name) => name.includes('/stdout-'))) {
      const bytes = this.host.disk.peek(path) ?? Buffer.alloc(0);
      for (let at = 0; ;) {
        const header = parseHeader(bytes, at);
        if (header === undefined) break;
        parts.push(bytes.subarray(at + 24, at + 24 + header.length));
        at += 24 + header.length;
      }
    }
    return Buffer.concat(parts);
  }
}

function spec(command: string[], changes: Partial<KernelSpec>): KernelSpec {
  return {
    kernel: 'main1',
    projectId: newId('project', 1_800_000_000_000, new Uint8Array(10)),
    ownerId: newId('user', 1_800_000_000_000, new Uint8Array(10)),
    name: 'test',
    type: 'batch',
    image,
    command,
    env: {},
    stdin: false,
    tty: false,
    slots: { cpu: 500, mem: 64 * 1024 * 1024 },
    output: defaultOutputPolicy,
    ...changes,
  };
}

const life = ['pulled', 'creating', 'running', 'ended'];

/** Runs one session through a death of the agent in the middle of its output. */
async function throughACrash(seed: number): Promise<World> {
  const world = new World(seed);
  const sessionId = world.create(['count', '200', '50', '7']);
  expect(await world.until(() => world.edge.kinds(sessionId).includes('running'))).toBe(true);
  await world.time.runUntil(world.time.nowMs + 3_000);
  world.host.crash();
  expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'))).toBe(true);
  expect(world.edge.kinds(sessionId)).toEqual(life);
  expect(world.edge.events.at(-1)?.body).toMatchObject({ kind: 'ended', reason: 'exited', exitCode: 7 });
  expect(world.output(sessionId).equals(patternBytes(0, 1600))).toBe(true);
  expect(world.host.history).toHaveLength(1);
  return world;
}

describe('a simulated host', () => {
  it('runs a session in virtual time, from the order to its end, with every byte of its output', async () => {
    const world = new World(1);
    const argv = ['burst', '300000'];
    const sessionId = world.create(argv);
    expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'))).toBe(true);
    expect(world.edge.kinds(sessionId)).toEqual(life);
    expect(world.output(sessionId).equals(patternBytes(0, outputBytesOf(argv) ?? 0))).toBe(true);
    expect(await world.until(() => world.host.containers().length === 0)).toBe(true);
  });

  it('goes on after a death of the agent in the middle, with the same container and no byte lost or doubled', async () => {
    await throughACrash(2);
  });

  it('is the same world again for the same seed, and another for another', async () => {
    const hashes = [await throughACrash(3), await throughACrash(3), await throughACrash(4)].map(
      ({ time }) => time.hash,
    );
    expect(hashes[0]).toBe(hashes[1]);
    expect(hashes[2]).not.toBe(hashes[0]);
  });

  it('lets nothing of a dead agent run on', async () => {
    const world = new World(5, { restartMs: undefined });
    const sessionId = world.create(['sleep', '600000']);
    await world.until(() => world.edge.kinds(sessionId).includes('running'));
    const files = (): string =>
      JSON.stringify(world.host.disk.tree().map((path) => world.host.disk.peek(path)?.length));
    world.host.crash();
    const [before, events] = [files(), world.edge.events.length];
    world.order(sessionId, { kind: 'stop', graceMs: 0, force: true, reason: 'test' });
    await world.time.runUntil(world.time.nowMs + 60_000);
    expect([files(), world.edge.events.length]).toEqual([before, events]);
    expect(world.host.containers()[0]?.status).toBe('running');
    world.host.start();
    expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'))).toBe(true);
  });

  it.each(['before', 'after', 'unknown'] as const)(
    'ends a session well whichever durable step the agent dies at (%s)',
    async (phase) => {
      const seen = new Set<AgentFailpoint>();
      const world = new World(6, {
        faultAt: (name, at) => at === phase && !seen.has(name) && seen.add(name) !== undefined,
      });
      const sessionId = world.create(['count', '100', '20']);
      expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'), 600_000)).toBe(true);
      world.order(sessionId, { kind: 'remove' });
      expect(await world.until(() => world.edge.kinds(sessionId).includes('removed'), 600_000)).toBe(true);
      expect(new Set(world.edge.kinds(sessionId))).toEqual(new Set([...life, 'removed']));
      expect(world.output(sessionId).equals(patternBytes(0, 800))).toBe(true);
      expect(world.host.history).toHaveLength(1);
      expect(seen.size).toBeGreaterThan(10);
    },
  );

  it('tells a session lost with the power of its host, and never starts it again', async () => {
    const world = new World(7);
    const sessionId = world.create(['count', '10000', '50']);
    await world.until(() => world.edge.kinds(sessionId).includes('running'));
    await world.time.runUntil(world.time.nowMs + 10_000);
    world.host.powerLoss();
    await world.time.runUntil(world.time.nowMs + 20_000);
    world.host.powerOn();
    expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'))).toBe(true);
    expect(world.edge.events.at(-1)?.body).toMatchObject({ kind: 'ended', reason: 'host-lost' });
    expect(world.host.history).toHaveLength(1);
    const kept = world.output(sessionId);
    expect(kept.equals(patternBytes(0, kept.byteLength))).toBe(true);
    expect(kept.byteLength).toBeGreaterThan(1000);
  });

  it('keeps its containers through a hang and a death of the engine with live-restore, and loses them without', async () => {
    const world = new World(8);
    const sessionId = world.create(['count', '2000', '50']);
    await world.until(() => world.edge.kinds(sessionId).includes('running'));
    world.host.engine.hang();
    await world.time.runUntil(world.time.nowMs + 40_000);
    world.host.engine.resume();
    world.host.engine.kill();
    await world.time.runUntil(world.time.nowMs + 10_000);
    world.host.engine.start();
    await world.time.runUntil(world.time.nowMs + 10_000);
    expect(world.edge.kinds(sessionId)).not.toContain('ended');
    world.host.engine.liveRestore = false;
    world.host.engine.kill();
    world.host.engine.start();
    expect(await world.until(() => world.edge.kinds(sessionId).includes('ended'))).toBe(true);
    expect(world.host.history).toHaveLength(1);
  });

  const storms = byTier({ daily: 25, full: 500 });
  const stormsMs = byTier({ daily: 120_000, full: 1_200_000 });
  it(
    'comes through random faults with every session over, none started twice, and nothing left',
    { timeout: stormsMs },
    async () => {
      for (let seed = 1; seed <= storms; seed++) {
        expect(await throughFaults(seed), `seed ${seed}`).toEqual({ over: true, removed: true, twice: 0, left: [] });
      }
    },
  );
});

const programs = [
  ['count', '100', '100'],
  ['burst', '500000'],
  ['sleep', '5000'],
  ['exit', '3'],
  ['ignore-term'],
  ['nope'],
];
const troubledMs = 100_000;

/** Eight sessions on one host while faults come down on it; then calm, and everything is to come to its end. */
async function throughFaults(seed: number) {
  const rng = seededRandom(seed + 1_000_000);
  let world!: World;
  const isTroubled = (): boolean => world !== undefined && world.time.nowMs < troubledMs;
  const isSlow = (): boolean => isTroubled() && rng.next() < 0.1;
  world = new World(seed, {
    faultAt: () => isTroubled() && rng.next() < 0.01,
    engine: { latencyMs: (op) => (op === 'createContainer' ? 40 : 3) * (isSlow() ? 100 : 1) },
  });
  const { time, host, edge } = world;
  const sessions: string[] = [];
  for (let made = 0; made < 8; made++) {
    time.after(rng.integer(0, 60_000), () => {
      const sessionId = world.create(programs[rng.integer(0, programs.length - 1)] ?? []);
      sessions.push(sessionId);
      const stop = { kind: 'stop', graceMs: 2000, force: rng.next() < 0.3, reason: 'test' } as const;
      time.after(rng.integer(1000, 60_000), () => world.order(sessionId, stop));
    });
  }
  for (let faults = 0; faults < 12; faults++) time.after(rng.integer(0, 90_000), () => trouble(world, rng));
  await time.runUntil(troubledMs + 1);
  host.disk.limitBytes = Number.POSITIVE_INFINITY;
  host.engine.resume();
  host.engine.start();
  host.powerOn();
  host.start();
  const isOver = (id: string): boolean => edge.kinds(id).some((kind) => kind === 'ended' || kind === 'failed');
  const over = await world.until(() => sessions.every(isOver), 300_000);
  for (const id of sessions) world.order(id, { kind: 'remove', purge: true });
  const removed = await world.until(() => sessions.every((id) => edge.kinds(id).includes('removed')), 300_000);
  const twice = host.history.length - new Set(host.history.map(({ name }) => name)).size;
  return { over, removed, twice, left: host.containers().map(({ name }) => name) };
}

function trouble({ host, time, edge }: World, rng: Rng): void {
  const later = (mostMs: number, task: () => void): void => void time.after(rng.integer(100, mostMs), task);
  switch (rng.integer(0, 5)) {
    case 0:
      return host.crash();
    case 1:
      host.powerLoss();
      return later(20_000, () => host.powerOn());
    case 2:
      host.engine.hang();
      return later(40_000, () => host.engine.resume());
    case 3:
      host.engine.kill();
      return later(10_000, () => host.engine.start());
    case 4:
      host.disk.limitBytes = host.disk.usedBytes + rng.integer(0, 5000);
      return later(20_000, () => (host.disk.limitBytes = Number.POSITIVE_INFINITY));
    default:
      return edge.cut();
  }
}
