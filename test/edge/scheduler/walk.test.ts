/**
 * Random lives of a small cluster: agents that run what they are told, connections that break and come back, disks that are
 * lost, evictions between and crashes within turns, people who stop things. After every step the invariants hold; when all
 * is calm again everything ends.
 */
import { describe, expect, it } from 'vitest';
import { toText } from '../../../edge/manager/sessions/view.ts';
import { PlannedCrash } from '../../../edge/platform/undo-map.ts';
import { newId } from '../../../schema/ids.ts';
import { isTerminal } from '../../../schema/api/session-parts.ts';
import type { AgentEvent } from '../../../schema/protocol/events.ts';
import type { Intent } from '../../../schema/protocol/intents.ts';
import { FakeAgent, World } from './world.ts';

const lease = 60_000;
const gib = 1024 ** 3;
const seeds = 60;
const stepsPerLife = 150;
const situations = [
  'RUNNING',
  'UNREACHABLE agent-unreachable',
  'RUNNING agent-returned',
  'PENDING host-lost',
  'PENDING start-failed',
  'TERMINATED host-lost',
  'TERMINATED exited',
  'CANCELLED stopped',
  'TERMINATED stopped',
];

interface Container {
  sessionId: string;
  generation: number;
  state: 'present' | 'running' | 'ended';
  leaseMs: number | undefined;
}

/** An agent with a journal, containers and leases, on a machine that may be cut off. */
class Host {
  readonly world: World;
  readonly agent: FakeAgent;
  containers = new Map<string, Container>();
  seen = new Set<string>();
  newest = new Map<string, number>();
  events: { index: number; event: AgentEvent }[] = [];
  index = 0;
  acked = 0;
  socket = false;
  /** When the last ping was answered: leases are counted from here. */
  contactMs: number;

  constructor(world: World) {
    this.world = world;
    this.agent = new FakeAgent(world, { cpu: 8000, mem: 8 * gib });
    this.contactMs = world.nowMs;
  }

  connect(): void {
    const { agent } = this;
    const inventory = [...this.containers.values()].map(({ sessionId, generation, state }) => ({
      sessionId,
      generation,
      state,
    }));
    const { answer, intents, ackedIndex } = agent.attach(inventory);
    this.socket = true;
    this.contactMs = this.world.nowMs;
    this.acked = ackedIndex;
    for (const { sessionId, generation } of answer.destroy) this.#end(sessionId, generation, 'killed');
    this.take(intents);
    agent.intents = [];
  }
  cut(): void {
    if (this.socket) this.world.ledger.detached(this.agent.agentId, this.agent.epoch);
    this.socket = false;
  }
  /** The disk is replaced: containers, journal and events are gone. */
  lose(): void {
    this.containers.clear();
    this.seen.clear();
    this.newest.clear();
    this.events = [];
    this.index = 0;
    this.acked = 0;
    this.agent.journalId = newId('journal', this.world.nowMs, this.world.bytes(10));
    this.socket = false;
  }

  take(intents: readonly Intent[]): void {
    for (const intent of intents) {
      if (this.seen.has(intent.intentId)) continue;
      this.seen.add(intent.intentId);
      this.#obey(intent);
    }
    const ids = intents.map(({ intentId }) => intentId);
    this.world.ledger.intentsAcked(this.agent.agentId, this.agent.epoch, ids);
  }
  #obey({ sessionId, generation, order }: Intent): void {
    const key = `${sessionId} ${generation}`;
    // [M5] of a lower generation: acknowledged and dropped, but what is removed is removed.
    if (order.kind !== 'remove' && generation < (this.newest.get(sessionId) ?? 0)) return;
    if (order.kind === 'create') {
      for (const each of this.containers.values())
        if (each.sessionId === sessionId && each.generation < generation)
          this.#end(sessionId, each.generation, 'killed');
      this.newest.set(sessionId, generation);
      this.containers.set(key, { sessionId, generation, state: 'present', leaseMs: order.spec.leaseMs });
      return;
    }
    const known = this.containers.get(key);
    if (!known || known.state !== 'ended') this.#end(sessionId, generation, 'stopped', known);
    if (order.kind === 'remove') {
      this.containers.delete(key);
      this.#say(sessionId, generation, { kind: 'removed' });
    }
  }
  #end(
    sessionId: string,
    generation: number,
    reason: 'stopped' | 'killed' | 'lease-expired' | 'exited',
    known?: Container,
  ) {
    const container = known ?? this.containers.get(`${sessionId} ${generation}`);
    if (container) container.state = 'ended';
    this.#say(sessionId, generation, { kind: 'ended', reason });
  }
  #say(sessionId: string, generation: number, body: AgentEvent['body']): void {
    this.index += 1;
    this.events.push({ index: this.index, event: { sessionId, generation, atMs: 0, body } });
  }

  /** One step of one container. */
  work(number: number, outcome: 'ok' | 'fail' | 'exit'): void {
    const alive = [...this.containers.values()].filter(({ state }) => state !== 'ended');
    const container = alive[number % Math.max(1, alive.length)];
    if (!container) return;
    const { sessionId, generation } = container;
    if (container.state === 'running') {
      if (outcome === 'exit') this.#end(sessionId, generation, 'exited');
    } else if (outcome === 'fail') {
      container.state = 'ended';
      this.#say(sessionId, generation, { kind: 'failed', code: 'session_start_failed', detail: 'x', retryable: true });
    } else if (this.socket) {
      // [M6] only while the start lease holds; here: while connected.
      container.state = 'running';
      this.#say(sessionId, generation, { kind: 'running', containerId: 'c' });
    }
  }
  /** Starts what is there, while connected. */
  startAll(): void {
    const { size } = this.containers;
    for (let number = 0; number < size; number += 1) this.work(number, 'ok');
  }
  /** The init ends restartable work when it had no contact for the run lease. */
  leases(): void {
    if (this.socket) this.contactMs = this.world.nowMs;
    for (const container of this.containers.values())
      if (container.state === 'running' && container.leaseMs !== undefined)
        if (this.world.nowMs - this.contactMs >= container.leaseMs)
          this.#end(container.sessionId, container.generation, 'lease-expired');
  }
  /** Sends what is not acknowledged. */
  flush(): void {
    if (!this.socket) return;
    const { agentId, epoch, journalId } = this.agent;
    const waiting = this.events.filter(({ index }) => index > this.acked);
    if (waiting.length === 0) return;
    const answer = this.world.ledger.events(agentId, epoch, journalId, waiting);
    if (answer === 'stale') this.socket = false;
    else this.acked = answer.ackedIndex;
  }
}

class Cluster {
  readonly world = new World();
  readonly hosts = [new Host(this.world), new Host(this.world)];
  readonly sessions: string[] = [];
  readonly generations = new Map<string, number>();

  /** Carries out what the ledger wants of hubs; `lost` drops it, as a crash before it would. */
  effects(lost: boolean): void {
    for (const effect of this.world.effects.splice(0)) {
      if (lost || effect.kind === 'outbox') continue;
      if (effect.kind === 'liveness') {
        const sockets = this.hosts.filter((host) => host.socket && effect.agentIds.includes(host.agent.agentId));
        this.world.ledger.seen(
          effect.agentIds,
          Object.fromEntries(
            sockets.map(({ agent }) => [agent.agentId, { epoch: agent.epoch, silentMs: 0, closing: false }]),
          ),
        );
        continue;
      }
      const host = this.hosts.find(({ agent }) => agent.agentId === effect.agentId)!;
      if (effect.kind === 'fence') {
        if (host.agent.epoch <= effect.epoch) host.socket = false;
        this.world.ledger.fenced(effect.agentId, effect.epoch);
        continue;
      }
      const ids = effect.intents.map(({ intentId }) => intentId);
      const isThere = host.socket && host.agent.epoch === effect.epoch;
      this.world.ledger.sent(effect.agentId, effect.epoch, ids, isThere ? 'sent' : 'not_sent');
      if (isThere) host.take(effect.intents);
    }
  }

  /** Time passes in steps: alarms ring, leases run out. */
  pass(seconds: number): void {
    for (let step = 0; step < seconds; step += 5) {
      this.world.nowMs += 5_000;
      for (const host of this.hosts) host.leases();
      if ((this.world.alarmMs ?? Number.POSITIVE_INFINITY) <= this.world.nowMs) this.world.ledger.alarm();
      this.effects(false);
      for (const host of this.hosts) {
        host.startAll();
        host.flush();
      }
      this.checkRunning();
    }
  }

  /** I1: one session never runs twice. */
  checkRunning(): void {
    const running = this.hosts.flatMap(({ containers }) =>
      [...containers.values()].filter(({ state }) => state === 'running').map(({ sessionId }) => sessionId),
    );
    expect(running.length, 'something runs twice').toBe(new Set(running).size);
  }

  check(): void {
    this.world.checkReservations();
    this.checkRunning();
    for (const id of this.sessions) {
      const session = this.world.ledger.view.get(id);
      const shown = this.world.ledger.view.show(id);
      expect(shown?.text, 'a kept text is stale').toBe(session && toText(session));
      if (!session) continue;
      expect(session.generation).toBeGreaterThanOrEqual(this.generations.get(id) ?? 1);
      this.generations.set(id, session.generation);
      const history = this.world.ledger.view.history(id)!;
      // I7: contiguous versions, and nothing after the end.
      expect(history.map(({ version }) => version)).toEqual(history.map((_, at) => at + 1));
      expect(history.slice(0, -1).some(({ state }) => isTerminal(state))).toBe(false);
    }
  }
}

/** What may happen, and how often. */
const weights = {
  admit: 10,
  connect: 12,
  cut: 6,
  start: 8,
  exit: 3,
  fail: 3,
  flush: 8,
  pass: 16,
  evict: 3,
  stop: 2,
  loseDisk: 1,
  effects: 12,
  loseEffects: 2,
  drain: 1,
} as const;
type Action = keyof typeof weights;
const deck = (Object.keys(weights) as Action[]).flatMap((action) => Array<Action>(weights[action]).fill(action));

interface Dice {
  /** 0 to `below` - 1. */
  roll: (below: number) => number;
}
/** Numbers of a seed (mulberry32). */
function dice(seed: number): Dice {
  let state = seed;
  return {
    roll(below) {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
      return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
    },
  };
}

function act(cluster: Cluster, action: Action, host: Host, { roll }: Dice): void {
  const { world, sessions } = cluster;
  switch (action) {
    case 'admit':
      if (sessions.length < 12) sessions.push(world.admit(roll(3) > 0 ? { leaseMs: lease } : { type: 'interactive' }));
      return;
    case 'connect':
      if (!host.socket) host.connect();
      return;
    case 'cut':
      host.cut();
      return;
    case 'start':
      host.work(roll(20), 'ok');
      return;
    case 'exit':
    case 'fail':
      host.work(roll(20), action);
      return;
    case 'flush':
      host.flush();
      return;
    case 'pass':
      cluster.pass(roll(40) * 5);
      return;
    case 'evict':
      world.crash();
      return;
    case 'stop':
      if (sessions.length > 0)
        world.ledger.terminate(sessions[roll(sessions.length)]!, {
          graceMs: 0,
          force: roll(2) === 0,
          reason: 'stopped',
        });
      return;
    case 'loseDisk':
      host.lose();
      return;
    case 'effects':
    case 'loseEffects':
      cluster.effects(action === 'loseEffects');
      return;
    case 'drain':
      host.agent.put({ draining: roll(4) === 0 });
  }
}

/** Does one thing; sometimes its turn dies at a write, and the object starts anew or lives on and reads its storage again. */
function step(cluster: Cluster, random: Dice): void {
  const { world } = cluster;
  const action = deck[random.roll(deck.length)]!;
  const host = cluster.hosts[random.roll(cluster.hosts.length)]!;
  if (random.roll(8) === 0) world.store.crashAfter(1 + random.roll(8));
  try {
    act(cluster, action, host, random);
  } catch (error) {
    if (!(error instanceof PlannedCrash)) throw error;
    if (random.roll(2) === 0) world.crash();
    // Whoever called got no answer: a socket that was being accepted is not.
    if (action === 'connect') host.socket = false;
  }
  world.store.crashAfter(Number.POSITIVE_INFINITY);
}

describe('a ledger in random trouble', () => {
  it('never runs a session twice, overcommits an agent or loses count, and everything ends when it is calm', () => {
    const met = new Map<string, number>();
    for (let seed = 1; seed <= seeds; seed += 1)
      try {
        live(seed, met);
      } catch (error) {
        throw new Error(`with seed ${seed}: ${String(error)}`, { cause: error });
      }
    // A tame world proves nothing: each of these situations was met, and more than once.
    for (const situation of situations) expect(met.get(situation) ?? 0, situation).toBeGreaterThanOrEqual(3);
  }, 300_000);
});

function live(seed: number, met: Map<string, number>): void {
  const random = dice(seed);
  const cluster = new Cluster();
  const { ledger, store } = { ledger: () => cluster.world.ledger, store: cluster.world.store };
  for (let steps = 0; steps < stepsPerLife; steps += 1) {
    step(cluster, random);
    cluster.check();
  }
  calm(cluster);
  cluster.check();
  for (const id of cluster.sessions) {
    expect(isTerminal(ledger().view.get(id)!.state), `${id} is ${ledger().view.get(id)!.state}`).toBe(true);
    for (const { state, reason } of ledger().view.history(id)!) {
      const situation = `${state} ${reason?.code ?? ''}`.trim();
      met.set(situation, (met.get(situation) ?? 0) + 1);
    }
  }
  expect(
    ledger()
      .view.agents()
      .map(({ sessions }) => sessions),
  ).toEqual([0, 0]);
  expect(store.intents()).toEqual([]);
  const left = cluster.hosts.flatMap(({ containers }) => [...containers.values()]);
  expect(left.filter(({ state }) => state !== 'ended')).toEqual([]);
}

/** No more faults: everybody connects, everything is told to end, time passes. */
function calm(cluster: Cluster): void {
  const { world } = cluster;
  for (let round = 0; round < 40; round += 1) {
    for (const host of cluster.hosts) {
      host.agent.put({ draining: false });
      if (!host.socket) host.connect();
      for (const number of [0, 1, 2, 3]) host.work(number, 'ok');
      host.flush();
    }
    for (const id of cluster.sessions) world.ledger.terminate(id, { graceMs: 0, force: false, reason: 'stopped' });
    cluster.pass(60);
  }
}
