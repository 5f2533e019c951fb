/**
 * One world of a seed: an edge, hosts and people under a swarm of faults, then calm weather in which everything has to come
 * to rest. Nothing in it is random but the seed, and nothing moves but virtual time.
 */
import type { EnrolledAgent } from '../../edge/manager/scheduler/rpc.ts';
import type { ProjectLimits } from '../../edge/manager/admission/rpc.ts';
import { newId, parseSessionId } from '../../schema/ids.ts';
import type { Log } from '../../schema/ports.ts';
import { Chance } from './chance.ts';
import { VirtualTime } from './clock.ts';
import { SimEdge } from './edge/edge.ts';
import { Way } from './edge/links.ts';
import { drawFault, drawSwarm } from './faults.ts';
import type { WorldHost } from './host-port.ts';
import { outputBytesOf } from './host/programs.ts';
import { Invariants } from './invariants.ts';
import { type Domain, People } from './people.ts';
import { Reader, within } from './reader.ts';
import type { Stage } from './stage.ts';
import { Sometimes } from './sometimes.ts';
import { clear, drawWeather, type Weather } from './weather.ts';

export interface WorldOptions {
  seed: number;
  /** Most tasks of the storm. */
  events: number;
  /** Kinds of faults and weather that are left out. */
  without?: ReadonlySet<string>;
  makeHost(world: World, name: string, enrolled: EnrolledAgent, groupNumber: number): WorldHost;
  onTrace?: ((line: string) => void) | undefined;
  /** Counts over many worlds. */
  sometimes?: Sometimes;
}

export interface Outcome {
  seed: number;
  events: number;
  hash: string;
  sessions: number;
  violations: string[];
}

/** Everything converges within this after the weather clears. */
const restMs = 120_000;
/** Most storms are short: rare combinations come with many worlds, not with long ones. */
const stormsMs = [10_000, 20_000, 40_000, 150_000];
const maxReaders = 10;
/** Sessions whose output is read at rest, and how long each may take in calm weather. */
const readAtRest = 4;
const readMs = 120_000;
/** An operator's call of a ledger is given up after this: by then it has come or is lost. */
const tellMs = 30_000;
/** How often it is looked whether everything has converged. */
const lookMs = 5_000;
/** More tasks than this at one moment of time only come from something that wakes itself. */
const mostAtOnce = 50_000;
const birthMs = Date.UTC(2026, 10, 24);
const gib = 1024 ** 3;

export class World implements Stage {
  readonly chance: Chance;
  readonly time: VirtualTime;
  readonly weather: Weather = { ...clear };
  readonly sometimes: Sometimes;
  readonly invariants: Invariants;
  readonly edge: SimEdge;
  readonly people: People;
  readonly hosts: WorldHost[] = [];
  #readers = 0;
  readonly revoked = new Set<string>();
  readonly ways = new Map<string, Way>();
  readonly domains: Domain[];
  readonly groups: number[];
  readonly log: Log;
  readonly #options: WorldOptions;
  readonly #agents = new Map<string, { groupNumber: number; agent: EnrolledAgent; told?: Promise<void> }>();
  readonly #limitsChance: Chance;
  #isCalm = false;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.chance = new Chance(options.seed);
    this.time = new VirtualTime(options.onTrace);
    this.sometimes = options.sometimes ?? new Sometimes();
    const trace = (line: string) => this.time.trace(line);
    this.invariants = new Invariants(trace, this.sometimes, this.hosts);
    this.#limitsChance = this.chance.fork('limits');
    const say = (message: string, fields?: Record<string, unknown>) => {
      if (message.startsWith('cut a torn tail')) this.sometimes.reached('a journal was torn');
      options.onTrace?.(`${this.time.nowMs.toFixed(3)}   ${message} ${JSON.stringify(fields ?? {})}`);
    };
    this.log = { debug: () => undefined, info: say, warn: say, error: say };
    const shape = this.chance.fork('shape');
    this.domains = Array.from({ length: shape.integer(2, 5) }, (_, at) => ({
      id: `dom_${String(at + 1).padStart(26, '0')}`,
      number: at + 1,
      projects: Array.from(
        { length: shape.integer(1, 2) },
        (_, of) => `prj_${String(10 * (at + 1) + of).padStart(26, '0')}`,
      ),
    }));
    this.groups = Array.from({ length: shape.integer(1, 2) }, (_, at) => at + 1);
    this.edge = new SimEdge({
      time: this.time,
      chance: this.chance.fork('edge'),
      weather: this.weather,
      sometimes: this.sometimes,
      nowMs: () => birthMs + Math.floor(this.time.nowMs),
      asked: (...call) => this.invariants.asked(...call),
      answered: (method, args, answer, { name, isArmed }) => {
        this.invariants.answered(method, args, answer);
        const left = this.edge.admissionStores.get(name.replace('admission ', ''))?.todo(1);
        if (method === 'create' && !isArmed && left?.length === 1)
          this.invariants.violated(`[I2] ${name} has ${left.join()} to hand over and no alarm`);
      },
      layout: shape.isTrue(0.5) ? 'production' : 'machine',
      log: this.log,
      watch: this.invariants,
    });
    this.people = new People({
      time: this.time,
      chance: this.chance.fork('people'),
      sometimes: this.sometimes,
      edge: this.edge,
      domains: this.domains,
      groups: this.groups,
    });
    this.#settle(shape);
  }

  #settle(shape: Chance): void {
    const count = shape.isTrue(0.8) ? shape.integer(3, 8) : shape.integer(9, 30);
    const random = this.chance.fork('ids').port();
    for (let at = 0; at < count; at += 1) {
      const groupNumber = shape.pick(this.groups)!;
      const name = `host-${at + 1}`;
      const agentId = `${newId('agent', birthMs + at, random.bytes(10))}_${groupNumber}`;
      const agent: EnrolledAgent = {
        agentId,
        name,
        controlHub: String(shape.integer(0, 1)),
        approved: { cpu: shape.integer(1, 8) * 1000, mem: shape.integer(1, 8) * gib },
        state: 'active',
        draining: false,
        approval: 1,
      };
      this.#agents.set(agentId, { groupNumber, agent });
      this.edge.catalogue.set(agentId, { agentId, groupNumber, controlHub: agent.controlHub, isRevoked: false });
      this.ways.set(name, new Way());
      this.hosts.push(this.#options.makeHost(this, name, agent, groupNumber));
      this.#tellLedger(agentId);
    }
  }

  /** Runs a task of the world's own later; in calm weather all of them are due. */
  later(delayMs: number, task: () => void): void {
    const entry = { task };
    this.#pending.add(entry);
    this.time.after(delayMs, () => this.#run(entry));
  }
  readonly #pending = new Set<{ task: () => void }>();
  #run(entry: { task: () => void }): void {
    if (this.#pending.delete(entry)) entry.task();
  }

  /** An operator changes an agent; the ledger is told until it knows. */
  operate(agentId: string, change: Partial<Pick<EnrolledAgent, 'draining' | 'state' | 'approval'>>): void {
    const known = this.#agents.get(agentId);
    if (!known) return;
    Object.assign(known.agent, change);
    this.#tellLedger(agentId);
  }

  /** Until it knows, one call at a time: one that is late must not bring back what was before. */
  #tellLedger(agentId: string): void {
    const known = this.#agents.get(agentId)!;
    const tell = async (): Promise<boolean> => {
      await this.edge.ledger(known.groupNumber).putAgent(known.groupNumber, { ...known.agent });
      return true;
    };
    const before = known.told;
    known.told = (async () => {
      await before;
      while ((await within(this.time, tellMs, tell())) === undefined) await this.time.sleep(500);
    })();
  }

  /** An operator revokes an agent for good; its host is of no more use to anybody. */
  revoke(agentId: string): void {
    const enrolled = this.edge.catalogue.get(agentId);
    if (enrolled) enrolled.isRevoked = true;
    this.revoked.add(agentId);
    this.operate(agentId, { state: 'revoked' });
  }

  limit(limits: ProjectLimits): void {
    const domain = this.#limitsChance.pick(this.domains)!;
    const told = this.edge
      .admission(String(domain.number))
      .setLimits({ id: domain.id, number: domain.number }, undefined, limits);
    told.catch(() => undefined);
  }

  async run(): Promise<Outcome> {
    const chance = this.chance.fork('storm');
    for (const host of this.hosts) this.later(chance.integer(0, 3_000), () => host.start());
    const without = this.#options.without ?? new Set<string>();
    const swarm = drawSwarm(chance.fork('swarm')).map((kind) =>
      without.has(kind.name) ? { ...kind, strike: () => undefined } : kind,
    );
    Object.assign(this.weather, drawWeather(chance.fork('weather')));
    for (const kind of Object.keys(clear) as (keyof Weather)[]) if (without.has(kind)) this.weather[kind] = 0;
    this.#people(this.chance.fork('demand'));
    this.#storm(chance, swarm);
    const stormMs = chance.pick(stormsMs)!;
    const isStormy = () =>
      this.time.nowMs < stormMs && this.time.events < this.#options.events && this.invariants.violations.length === 0;
    while (isStormy()) await this.#step();
    await this.#calm();
    if (this.invariants.violations.length === 0) this.invariants.atRest(this.edge, this.people, this.#ours());
    if (this.invariants.violations.length === 0) await this.#readEnded();
    return {
      seed: this.#options.seed,
      events: this.time.events,
      hash: this.time.hash,
      sessions: this.people.promised.size,
      violations: this.invariants.violations,
    };
  }

  /** Somebody begins to read what a session says. */
  read(chance: Chance): void {
    const chosen = chance.pick([...this.people.promised.keys()].slice(-30));
    if (chosen !== undefined && this.#readers < maxReaders) void this.#reader(chosen, { slowness: 0.02 }).run();
  }

  #reader(sessionId: string, how: { slowness?: number; restlessness?: number }): Reader {
    this.#readers += 1;
    const way = new Way();
    this.ways.set(`reader-${this.#readers}`, way);
    return new Reader(sessionId, {
      time: this.time,
      chance: this.chance.fork(`reader ${this.#readers}`),
      sometimes: this.sometimes,
      edge: this.edge,
      way,
      slowness: how.slowness ?? 0,
      restlessness: how.restlessness ?? 0,
      violated: (what) => this.invariants.violated(what),
    });
  }

  /** [I5] at rest: what ended by itself can be read from its first byte to its last, also after every fault. */
  async #readEnded(): Promise<void> {
    const ours = new Set(this.#ours().map(({ agentId }) => agentId));
    const ended = [...this.people.promised.values()].filter(({ sessionId }) => {
      const row = this.edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.session(sessionId);
      return row?.result?.reason === 'exited' && row.agentId !== null && ours.has(row.agentId);
    });
    for (const { sessionId, spec } of ended.slice(0, readAtRest)) {
      const reader = this.#reader(sessionId, { restlessness: 0.3 });
      void reader.run();
      const deadline = this.time.nowMs + readMs;
      while (!reader.isOver && this.time.nowMs < deadline && this.invariants.violations.length === 0)
        await this.#step();
      if (this.invariants.violations.length > 0) return;
      if (!reader.isOver) this.invariants.violated(`[I5] ${sessionId} can not be read to its end`);
      const wanted = outputBytesOf(spec.command ?? []);
      const { totalBytes } = reader;
      // A host that lost its power may have lost what it had not synced.
      if (totalBytes !== undefined && totalBytes !== wanted && !this.hosts.some(({ lostPower }) => lostPower))
        this.invariants.violated(`[I5] ${sessionId} has written ${wanted} bytes and shows ${totalBytes}`);
    }
  }

  /** One task. Time that stands still while tasks go on is a fault of its own. */
  async #step(): Promise<void> {
    const before = this.time.nowMs;
    await this.time.step();
    this.#still = this.time.nowMs === before ? this.#still + 1 : 0;
    if (this.#still > mostAtOnce) this.invariants.violated(`[live] something spins at ${before} ms`);
  }
  #still = 0;

  /** Hosts that belong to this control plane still: what runs on a revoked one is nobody's business here. */
  #ours(): WorldHost[] {
    return this.hosts.filter(({ agentId }) => !this.revoked.has(agentId));
  }

  #people(chance: Chance): void {
    const everyMs = chance.pick([300, 1_000, 4_000])!;
    const stops = chance.next() * 0.8;
    const next = (): void =>
      void this.time.after(chance.delayMs(everyMs), () => {
        if (this.#isCalm || this.people.asked >= 200) return;
        if (chance.isTrue(0.1)) this.read(chance);
        if (chance.isTrue(stops)) this.people.stop(chance.isTrue(0.3));
        else this.people.create();
        next();
      });
    next();
  }

  #storm(chance: Chance, swarm: ReturnType<typeof drawSwarm>): void {
    const everyMs = chance.pick([500, 3_000, 10_000])!;
    const next = (): void =>
      void this.time.after(chance.delayMs(everyMs), () => {
        if (this.#isCalm) return;
        const fault = drawFault(chance, swarm);
        this.time.trace(`FAULT ${fault.name}`);
        fault.strike(this, chance);
        next();
      });
    next();
  }

  /** The weather clears, what is broken is mended, and everybody gets the time that is promised. */
  async #calm(): Promise<void> {
    this.time.trace('CALM');
    this.#isCalm = true;
    Object.assign(this.weather, clear);
    for (const entry of this.#pending) this.#run(entry);
    for (const way of this.ways.values()) {
      way.latencyMs = 5;
      way.heal();
    }
    for (const host of this.hosts) if (!host.isRunning) host.start();
    const deadline = this.time.nowMs + restMs;
    for (let at = this.time.nowMs + lookMs; at <= deadline; at += lookMs) {
      while ((this.time.nextMs ?? Number.POSITIVE_INFINITY) <= at && this.invariants.violations.length === 0)
        await this.#step();
      if (this.invariants.violations.length > 0) return;
      if (this.invariants.isAtRest(this.edge, this.people, this.#ours())) return;
    }
  }
}
