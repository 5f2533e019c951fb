/**
 * One world of a seed: an edge, hosts and people under a swarm of faults, then calm weather in which everything has to come
 * to rest. Nothing in it is random but the seed, and nothing moves but virtual time.
 */
import { noneHeld } from '../../edge/manager/admission/admission-store.ts';
import type { ProjectLimits } from '../../edge/manager/admission/rpc.ts';
import { parseAgentId, parseSessionId } from '../../schema/ids.ts';
import type { Log } from '../../schema/ports.ts';
import { Accounts, type Token } from './accounts.ts';
import { Chance } from './chance.ts';
import { VirtualTime } from './clock.ts';
import { Coders } from './coders.ts';
import { whoIsLate } from './crowd.ts';
import { SimEdge } from './edge/edge.ts';
import { Way } from './edge/links.ts';
import { drawFault, drawSwarm } from './faults.ts';
import type { HostSize, WorldHost } from './host-port.ts';
import { outputBytesOf } from './host/programs.ts';
import { Invariants, waitsForRoom } from './invariants.ts';
import { lie } from './liar.ts';
import { Logbook } from './logbook.ts';
import { Notebooks } from './notebooks.ts';
import { type Domain, People } from './people.ts';
import { Reader } from './reader.ts';
import type { Stage } from './stage.ts';
import { Sometimes } from './sometimes.ts';
import { Feeders } from './feeders.ts';
import { Typists } from './typists.ts';
import { Uploader } from './uploader.ts';
import { clear, drawWeather, type Weather } from './weather.ts';

export interface WorldOptions {
  seed: number;
  /** Most tasks of the storm. */
  events: number;
  /** Kinds of faults and weather that are left out. */
  without?: ReadonlySet<string>;
  makeHost(world: World, name: string, size: HostSize): WorldHost;
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
/** Some worlds are small and quiet, so that there is time for what takes minutes: leases that run out, say. */
const quiet = { hosts: 4, stormMs: 400_000, peopleEveryMs: 15_000, faultEveryMs: 10_000 };
const maxReaders = 10;
const maxUploads = 2;
/** Sessions whose output is read at rest. */
const readAtRest = 4;
/** How long an operator waits for a host that was given a token. */
const rejoinMs = 20_000;
/** Output that fills more than one window of a socket. */
const largeBytes = 100_000;
/** How often it is looked whether everything has converged. */
const lookMs = 5_000;
/** More tasks than this at one moment of time only come from something that wakes itself. */
const mostAtOnce = 50_000;
const birthMs = Date.UTC(2026, 10, 24);
const gib = 1024 ** 3;
/** What a host of this size keeps for itself. */
const reserveBytes = gib / 2;

export class World implements Stage {
  readonly chance: Chance;
  readonly time: VirtualTime;
  readonly weather: Weather = { ...clear };
  readonly sometimes: Sometimes;
  readonly invariants: Invariants;
  readonly edge: SimEdge;
  readonly people: People;
  readonly accounts: Accounts;
  readonly logbook: Logbook;
  readonly hosts: WorldHost[] = [];
  #readers = 0;
  /** Who began to read in the storm. */
  readonly #followers: Reader[] = [];
  readonly revoked = new Set<string>();
  readonly ways = new Map<string, Way>();
  readonly domains: Domain[];
  readonly groups: number[];
  readonly log: Log;
  readonly #options: WorldOptions;
  /** Resource groups of hosts, by their names. */
  readonly #groupOf = new Map<string, number>();
  readonly #limitsChance: Chance;
  /** Those who use what runs in sessions. */
  readonly #users = [new Coders(this), new Notebooks(this), new Typists(this), new Feeders(this)];
  readonly #isQuiet: boolean;
  #isCalm = false;

  constructor(options: WorldOptions) {
    this.#options = options;
    this.chance = new Chance(options.seed);
    this.#isQuiet = this.chance.fork('quiet').isTrue(0.15);
    this.time = new VirtualTime(options.onTrace);
    this.sometimes = options.sometimes ?? new Sometimes();
    const trace = (line: string) => this.time.trace(line);
    this.invariants = new Invariants(trace, this.sometimes, this.hosts);
    this.logbook = new Logbook({
      sometimes: this.sometimes,
      ran: (placement, id) => {
        this.time.trace(`a kernel of ${placement.sessionId} runs ${id}`);
        this.invariants.ran(placement, id);
      },
      violated: (what) => this.invariants.seen(what),
    });
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
        const left = this.edge.admissionStores.get(name.replace('admission ', ''))?.todo(1, noneHeld);
        if (method === 'create' && !isArmed && left?.length === 1)
          this.invariants.violated(`[I2] ${name} has ${left.join()} to hand over and no alarm`);
      },
      layout: shape.isTrue(0.5) ? 'production' : 'machine',
      log: this.log,
      watch: this.invariants,
      forgets: () => this.accounts.forget(),
    });
    this.accounts = new Accounts({
      time: this.time,
      chance: this.chance.fork('accounts'),
      sometimes: this.sometimes,
      edge: this.edge,
      domains: this.domains,
      groups: this.groups,
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
    const many = shape.isTrue(0.8) ? shape.integer(3, 8) : shape.integer(9, 30);
    const count = this.#isQuiet ? quiet.hosts : many;
    for (let at = 0; at < count; at += 1) {
      const name = `host-${at + 1}`;
      this.#groupOf.set(name, shape.pick(this.groups)!);
      this.ways.set(name, new Way());
      const memoryBytes = shape.integer(1, 8) * gib + reserveBytes;
      this.hosts.push(this.#options.makeHost(this, name, { cpus: shape.integer(1, 8), memoryBytes }));
    }
  }

  /** An operator makes a token and starts the agent with it; some hosts wait for an approval, some got another's token. */
  async #join(host: WorldHost, chance: Chance): Promise<void> {
    const isApproved = chance.isTrue(0.8);
    const isShared = chance.isTrue(0.05);
    const approvesMs = chance.integer(100, 30_000);
    const token = await this.accounts.joinToken(this.#groupOf.get(host.name)!, isApproved);
    if (!isApproved) {
      this.sometimes.reached('an agent waited for its approval');
      this.later(approvesMs, () => void this.#approve(host));
    }
    const former = isShared ? this.#last : undefined;
    if (former?.host.agentId === '') {
      former.host.crash();
      former.host.join(former.token);
    }
    host.join(former?.token ?? token);
    // A token is good for one machine: the other needs its own.
    if (former)
      for (const each of [host, former.host]) {
        this.later(rejoinMs, () => void this.#rejoin(each));
        this.later(25_000, () => void this.#approve(each));
      }
    this.#last = { host, token };
  }
  #last: { host: WorldHost; token: string } | undefined;

  /** Until it is in: what it asked with the other's token may come late, and it is of the other's group then. */
  async #rejoin(host: WorldHost): Promise<void> {
    if (host.identity() !== undefined) return;
    const known = parseAgentId(this.edge.worker.agentOf(host.name)?.agentId ?? '');
    const token = await this.accounts.joinToken(known?.groupNumber ?? this.#groupOf.get(host.name)!, true);
    if (host.identity() === undefined) {
      host.crash();
      host.join(token);
    }
    this.later(rejoinMs, () => void this.#rejoin(host));
  }

  async #approve(host: WorldHost): Promise<void> {
    while (host.agentId === '') await this.time.sleep(1_000);
    await this.accounts.approve(host.agentId);
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

  drain(host: WorldHost, draining: boolean): void {
    void this.accounts.drain(host.agentId, draining);
  }

  /** Its host is of no more use to anybody; some drain it first, and do not wait for that. */
  revoke(host: WorldHost): void {
    if (host.agentId === '' || this.revoked.has(host.name)) return;
    this.revoked.add(host.name);
    if (this.#limitsChance.isTrue(0.5)) void this.accounts.drain(host.agentId, true);
    void this.accounts.revoke(host.agentId);
  }

  /** The clone never belongs to this control plane; the original has to be well again when it is gone and that is approved. */
  copy(host: WorldHost, clearedMs: number): void {
    const name = `${host.name}, copied`;
    if (host.agentId === '' || this.ways.has(name) || this.revoked.has(host.name)) return;
    this.ways.set(name, new Way());
    const copy = host.copy(name);
    this.hosts.push(copy);
    this.revoked.add(name);
    copy.start();
    if (!host.hasHardwareId) this.invariants.copied(host.name);
    this.later(clearedMs, () => {
      copy.scrap();
      this.#approveAgain(host);
    });
  }

  /** Whenever its ledger finds out that there were two. */
  #approveAgain(host: WorldHost): void {
    const ledgers = [...this.edge.ledgerStores.values()];
    const row = ledgers.flatMap((store) => store.agents()).find(({ agentId }) => agentId === host.agentId);
    if (row?.state === 'suspended') void this.accounts.approve(host.agentId);
    this.time.after(lookMs, () => this.#approveAgain(host));
  }

  changeRights(): void {
    this.accounts.change((delayMs, task) => this.later(delayMs, task));
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
    const joins = this.chance.fork('joins');
    for (const host of this.hosts) this.later(joins.integer(0, 3_000), () => void this.#join(host, joins));
    const without = this.#options.without ?? new Set<string>();
    const swarm = drawSwarm(chance.fork('swarm')).map((kind) =>
      without.has(kind.name) ? { ...kind, strike: () => undefined } : kind,
    );
    Object.assign(this.weather, drawWeather(chance.fork('weather')));
    for (const kind of Object.keys(clear) as (keyof Weather)[]) if (without.has(kind)) this.weather[kind] = 0;
    this.#people(this.chance.fork('demand'));
    this.#liar(this.chance.fork('liar'));
    for (const users of this.#users) users.begin(this.chance.fork(users.name));
    this.#storm(chance, swarm);
    const loudMs = chance.pick(stormsMs)!;
    const stormMs = this.#isQuiet ? quiet.stormMs : loudMs;
    const isStormy = () =>
      this.time.nowMs < stormMs && this.time.events < this.#options.events && this.invariants.violations.length === 0;
    while (isStormy()) await this.#step();
    await this.#calm();
    if (this.invariants.violations.length === 0) this.invariants.atRest(this.edge, this.people, this.#ours());
    if (this.invariants.violations.length === 0) await this.#readEnded();
    for (const users of this.#users)
      if (this.invariants.violations.length === 0)
        await users.atRest(
          (sessionId) => this.#takesCode(sessionId),
          () => this.#step(),
        );
    if (this.invariants.violations.length === 0) await this.#askWhoIsIn();
    if (this.invariants.violations.length === 0) await this.#hearEnds();
    this.accounts.forget();
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
    // Of a session that was made for kernels alone there is nothing to read.
    const readable = [...this.people.promised].slice(-30).filter(([, { spec }]) => spec.command !== undefined);
    const [chosen] = chance.pick(readable) ?? [];
    if (chosen === undefined || this.#readers >= maxReaders) return;
    const token = chance.pick(this.accounts.tokens)!;
    this.accounts.lastRead = token;
    const reader = this.#reader(chosen, { token, slowness: 0.02 });
    this.#followers.push(reader);
    void reader.run();
  }

  /** Somebody begins to upload to a session. */
  upload(chance: Chance): void {
    const chosen = chance.pick([...this.people.promised.keys()].slice(-10));
    if (chosen === undefined || this.#uploads >= maxUploads) return;
    this.#uploads += 1;
    const way = new Way();
    this.ways.set(`upload-${this.#uploads}`, way);
    const { time, sometimes, edge } = this;
    void new Uploader(chosen, {
      time,
      chance: this.chance.fork(`upload ${this.#uploads}`),
      sometimes,
      edge,
      way,
      token: this.accounts.owner.text,
      uploadId: `upload-${this.#uploads}`,
      kept: (...given) => this.#kept(...given),
      violated: (what) => this.invariants.violated(what),
    }).run();
  }
  #uploads = 0;

  /** Where code can be run: one whose output waits for room is not over before somebody takes it, and may take no more orders. */
  #takesCode(sessionId: string): boolean {
    const row = this.edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.session(sessionId);
    if (row?.state !== 'RUNNING' || row.stop !== null || row.agentId === null) return false;
    const isOurs = this.#ours().some(({ agentId }) => agentId === row.agentId);
    return isOurs && !waitsForRoom(this.people.promised.get(sessionId)?.spec);
  }

  /** What the host of this placement of a session has of an upload; once the session is over, all of it may be gone. */
  #kept(
    { sessionId, generation }: { sessionId: string; generation: number },
    uploadId: string,
    bytes: number,
  ): Buffer | undefined {
    const row = this.edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.session(sessionId);
    // Of two that are the same agent, one a copy of the other, nobody can say which one answered.
    const [host, ...others] = this.hosts.filter(({ agentId }) => agentId === row?.agentId);
    if (row?.generation !== generation || host === undefined || others.length > 0) return undefined;
    const kept = host.uploaded(sessionId, uploadId);
    const isOver = row.endedAtMs !== null || row.stop !== null;
    return isOver && kept.byteLength < bytes ? undefined : kept;
  }

  #reader(sessionId: string, how: { token?: Token; slowness?: number; restlessness?: number }): Reader {
    this.#readers += 1;
    const way = new Way();
    this.ways.set(`reader-${this.#readers}`, way);
    return new Reader(sessionId, {
      time: this.time,
      chance: this.chance.fork(`reader ${this.#readers}`),
      sometimes: this.sometimes,
      edge: this.edge,
      way,
      token: how.token ?? this.accounts.owner,
      slowness: how.slowness ?? 0,
      restlessness: how.restlessness ?? 0,
      violated: (what) => this.invariants.violated(what),
    });
  }

  /** Ended by itself, on a host that is still there. */
  #hasExited(sessionId: string): boolean {
    const row = this.edge.ledgerStores.get(parseSessionId(sessionId)!.groupNumber)?.session(sessionId);
    return row?.result?.reason === 'exited' && this.#ours().some(({ agentId }) => agentId === row.agentId);
  }

  /** [I5] at rest: who follows what has ended hears of its end, whatever became of the ways to it meanwhile. */
  async #hearEnds(): Promise<void> {
    const late = await whoIsLate(
      this,
      this.#followers.filter(({ sessionId }) => this.#hasExited(sessionId)),
      () => this.#step(),
    );
    if (late !== undefined) this.invariants.violated(`[I5] who follows ${late.sessionId} does not hear of its end`);
  }

  /** [I5] at rest: what ended by itself can be read from its first byte to its last, also after every fault. */
  async #readEnded(): Promise<void> {
    const ended = [...this.people.promised.values()].filter(({ sessionId }) => this.#hasExited(sessionId));
    for (const { sessionId, spec } of ended.slice(0, readAtRest)) {
      const reader = this.#reader(sessionId, { restlessness: 0.3 });
      void reader.run();
      await whoIsLate(this, [reader], () => this.#step());
      if (this.invariants.violations.length > 0) return;
      if (!reader.isOver) this.invariants.violated(`[I5] ${sessionId} can not be read to its end`);
      const wanted = outputBytesOf(spec.command ?? []);
      const { totalBytes } = reader;
      // A host that lost its power may have lost what it had not synced.
      if (totalBytes !== undefined && totalBytes !== wanted && !this.hosts.some(({ lostPower }) => lostPower))
        this.invariants.violated(`[I5] ${sessionId} has written ${wanted} bytes and shows ${totalBytes}`);
    }
  }

  /** [A3] at rest: who is in and who is out is what D1 says. */
  async #askWhoIsIn(): Promise<void> {
    const asked: { faults?: string[] } = {};
    void this.accounts.faults().then((faults) => Object.assign(asked, { faults }));
    while (asked.faults === undefined && (await this.time.step()));
    for (const fault of asked.faults ?? ['[A3] nobody says who is in']) this.invariants.violated(fault);
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
    return this.hosts.filter(({ name }) => !this.revoked.has(name));
  }

  #people(chance: Chance): void {
    const loudMs = chance.pick([300, 1_000, 4_000])!;
    const everyMs = this.#isQuiet ? quiet.peopleEveryMs : loudMs;
    const stops = chance.next() * 0.8;
    const next = (): void =>
      void this.time.after(chance.delayMs(everyMs), () => {
        if (this.#isCalm || this.people.asked >= 200) return;
        if (chance.isTrue(0.1)) this.read(chance);
        if (chance.isTrue(0.02)) this.upload(chance);
        if (chance.isTrue(stops)) this.people.stop(chance.isTrue(0.3));
        else this.people.create();
        next();
      });
    next();
  }

  /** In some worlds somebody lies to a hub about what was read. */
  #liar(chance: Chance): void {
    if (!chance.isTrue(0.2)) return;
    const { time, sometimes, edge } = this;
    const next = (): void =>
      void this.time.after(chance.delayMs(3_000), () => {
        if (this.#isCalm) return;
        const large = [...this.people.promised.values()].filter(
          ({ spec }) => (outputBytesOf(spec.command ?? []) ?? 0) > largeBytes,
        );
        const chosen = chance.pick(large);
        if (chosen) void lie(chosen.sessionId, { time, chance, sometimes, edge, token: this.accounts.owner.text });
        else next();
      });
    next();
  }

  #storm(chance: Chance, swarm: ReturnType<typeof drawSwarm>): void {
    const loudMs = chance.pick([500, 3_000, 10_000])!;
    const everyMs = this.#isQuiet ? quiet.faultEveryMs : loudMs;
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
    for (const users of this.#users) users.tire();
    Object.assign(this.weather, clear);
    for (const entry of this.#pending) this.#run(entry);
    for (const way of this.ways.values()) way.calm();
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
