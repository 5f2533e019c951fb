/**
 * The edge of a simulated world: the production rooms and hubs in objects that come and go, over stores in memory, and the
 * Worker in front of them that lets hosts and people in.
 */
import { AdmissionRoom } from '../../../edge/manager/admission/admission-room.ts';
import {
  type MemoryStore as AdmissionMemory,
  memoryStore as admissionMemory,
} from '../../../edge/manager/admission/memory-store.ts';
import type { AdmissionRpc } from '../../../edge/manager/admission/rpc.ts';
import { Sealer } from '../../../edge/manager/audit/sealer.ts';
import { EventPublisher } from '../../../edge/event-bus/publish.ts';
import { LedgerRoom } from '../../../edge/manager/scheduler/ledger-room.ts';
import {
  type MemoryStore as LedgerMemory,
  memoryStore as ledgerMemory,
} from '../../../edge/manager/scheduler/memory-store.ts';
import type { LedgerRpc } from '../../../edge/manager/scheduler/rpc.ts';
import { productionTimers } from '../../../edge/manager/scheduler/timers.ts';
import { ControlHub, type ControlState } from '../../../edge/tunnel/control-hub.ts';
import { DataHub } from '../../../edge/tunnel/data-hub.ts';
import type { HubSocket } from '../../../edge/tunnel/hub-socket.ts';
import type { DataSocket } from '../../../edge/tunnel/links.ts';
import type { AgentSocketClaim, ClientSocketClaim, ControlHubRpc, DataHubRpc } from '../../../edge/tunnel/rpc.ts';
import { dataHubName, makeDataTicket, verifyDataTicket } from '../../../edge/tunnel/tickets.ts';
import { copyOf, PlannedCrash } from '../../../edge/platform/undo-map.ts';
import type { EdgeFailpoint } from '../../../schema/failpoints.ts';
import { parseSessionId } from '../../../schema/ids.ts';
import type { Clock, Failpoints, Log } from '../../../schema/ports.ts';
import { Chance } from '../chance.ts';
import { Life, never } from '../life.ts';
import { type CommitPorts, type FailingStore, storeThatFails } from './commits.ts';
import { type AgentEnd, type HubEnd, Link, type Way } from './links.ts';
import { Cell, type Instance, stubOf, type Waking, type WorldPorts } from './objects.ts';
import { D1Model, memorySealStore, type MemorySealStore, RedisModel } from './outside.ts';
import type { WatchLedger } from './watch.ts';
import { watchedAdmissionStore, watchedLedgerStore } from './watch.ts';

const keys = { hmac: [{ version: 1, key: 'simulated'.padEnd(43, '0') }] };

export interface EdgePorts extends WorldPorts {
  layout: 'production' | 'machine';
  log: Log;
  watch: WatchLedger;
}

/** An agent as the catalogue has it. */
export interface Enrolled {
  agentId: string;
  groupNumber: number;
  controlHub: string;
  isRevoked: boolean;
}

/** Upgrades that the Worker refuses. */
export class DialRefused extends Error {
  readonly status: number;
  readonly code: string;
  constructor(status: number, code: string) {
    super(code);
    this.status = status;
    this.code = code;
  }
}

export class SimEdge {
  readonly d1: D1Model;
  readonly redis: RedisModel;
  readonly catalogue = new Map<string, Enrolled>();
  readonly cells = new Map<string, Cell>();
  readonly links = new Map<string, Set<Link>>();
  readonly ledgerStores = new Map<number, LedgerMemory>();
  readonly admissionStores = new Map<string, AdmissionMemory>();
  readonly #seals = new Map<string, MemorySealStore>();
  readonly #ports: EdgePorts;
  readonly #clock: Clock;
  readonly #chance: Chance;
  /** Of the isolate that serves requests: those under way die with it. */
  #front = new Life('worker');

  constructor(ports: EdgePorts) {
    this.#ports = ports;
    this.#clock = { nowMs: () => ports.nowMs(), bootMs: () => ports.nowMs() };
    this.#chance = ports.chance.fork('edge');
    this.d1 = new D1Model({ ...ports, chance: ports.chance.fork('d1') });
    this.redis = new RedisModel({ ...ports, chance: ports.chance.fork('redis') });
  }

  get clock(): Clock {
    return this.#clock;
  }

  // ---- objects ----

  ledger(groupNumber: number, caller: Life = this.#front): LedgerRpc {
    return stubOf(
      () => this.#cell(`ledger ${groupNumber}`, (waking) => this.#wakeLedger(groupNumber, waking)),
      caller,
    ) as LedgerRpc;
  }
  admission(name: string, caller: Life = this.#front): AdmissionRpc {
    return stubOf(
      () => this.#cell(`admission ${name}`, (waking) => this.#wakeAdmission(name, waking)),
      caller,
    ) as AdmissionRpc;
  }
  controlHub(name: string, caller: Life = this.#front): ControlHubRpc {
    return stubOf(() => this.#controlCell(name), caller) as ControlHubRpc;
  }
  dataHub(name: string, caller: Life = this.#front): DataHubRpc {
    return stubOf(() => this.#dataCell(name), caller) as DataHubRpc;
  }

  #controlCell(name: string): Cell {
    return this.#cell(`control ${name}`, (waking) => this.#wakeControl(name, waking));
  }
  #dataCell(name: string): Cell {
    return this.#cell(`data ${name}`, (waking) => this.#wakeData(name, waking));
  }

  #cell(name: string, wake: (waking: Waking) => Instance): Cell {
    const known = this.cells.get(name);
    if (known) return known;
    const cell = new Cell(name, { ...this.#ports, chance: this.#ports.chance.fork(name) }, wake);
    this.cells.set(name, cell);
    return cell;
  }

  /** An object dies by itself; sockets of a hub are cut with it. */
  kill(name: string): void {
    const cell = this.cells.get(name);
    if (!cell?.isAwake) return;
    cell.die();
    for (const link of this.links.get(name) ?? []) link.hubDies();
    this.links.delete(name);
  }

  /** Hibernation: memory goes, sockets stay. Only of who has nothing under way. */
  evict(name: string): void {
    const cell = this.cells.get(name);
    if (cell?.isAwake && cell.isIdle) cell.die();
  }

  /** The whole process: every object, every request, every socket. It is back at once; who was connected is not. */
  crash(): void {
    this.#ports.sometimes.reached('the edge died with everything in it');
    this.#front.end();
    this.#front = new Life('worker');
    for (const cell of this.cells.values()) cell.die();
    for (const links of this.links.values()) for (const link of links) link.hubDies();
    this.links.clear();
  }

  #failpoints(name: string): Failpoints<EdgeFailpoint> {
    const { weather, time, sometimes } = this.#ports;
    const chance = this.#ports.chance.fork(`failpoints of ${name}`);
    const maybeDie = (): Promise<void> => {
      if (!chance.isTrue(weather.edgeStep / 2)) return Promise.resolve();
      sometimes.reached('an object died within a step');
      time.after(0, () => (this.#ports.layout === 'machine' && chance.isTrue(0.3) ? this.crash() : this.kill(name)));
      return never();
    };
    return { before: maybeDie, after: maybeDie, unknown: () => chance.isTrue(weather.edgeStep / 2) };
  }

  /** The store of an object as one life of it has it. */
  #storeOf<Store extends FailingStore>(store: Store, name: string, life: Life, beside?: CommitPorts['beside']): Store {
    const chance = this.#ports.chance.fork(`commits of ${name} ${this.cells.get(name)?.wakes}`);
    return storeThatFails(store, life, { ...this.#ports, chance, beside, kill: () => this.kill(name) });
  }

  #world(name: string) {
    return { clock: this.#clock, log: this.#ports.log, random: this.#ports.chance.fork(`random of ${name}`).port() };
  }

  #wakeLedger(groupNumber: number, { life, timers, setAlarm, alarmMs, keepAlive }: Waking): Instance {
    const name = `ledger ${groupNumber}`;
    const store =
      this.ledgerStores.get(groupNumber) ?? watchedLedgerStore(ledgerMemory(), groupNumber, this.#ports.watch);
    this.ledgerStores.set(groupNumber, store);
    const { layout } = this.#ports;
    // A fresh name for each life: its random numbers must not repeat.
    const world = this.#world(`${name} ${this.cells.get(name)?.wakes}`);
    const room = new LedgerRoom({
      ...world,
      groupNumber,
      store: this.#storeOf(store, name, life),
      timers: productionTimers,
      failpoints: this.#failpoints(name),
      after: (delayMs, task) => timers.after(delayMs, task),
      dataHub: (agentId) => dataHubName(layout, agentId),
      dataTicket: (agentId, epoch, hub) => makeDataTicket(keys, { agentId, epoch, hub }),
      controlHub: (hub) => this.controlHub(hub, life),
      dataHubOf: (agentId) => this.dataHub(dataHubName(layout, agentId), life),
      admission: (domainNumber) => this.admission(String(domainNumber), life),
      list: (rows, gone) => life.guard(this.d1.list(rows, gone)),
      publisher: new EventPublisher({ ...world, redis: this.#redis(life) }),
      setAlarm,
      keepAlive,
    });
    room.woke(alarmMs);
    return { rpc: room, alarm: () => room.alarm() };
  }

  #wakeAdmission(name: string, { life, timers, setAlarm, alarmMs, keepAlive }: Waking): Instance {
    const store = this.admissionStores.get(name) ?? watchedAdmissionStore(admissionMemory(), this.#ports.watch);
    this.admissionStores.set(name, store);
    const cellName = `admission ${name}`;
    const world = this.#world(`${cellName} ${this.cells.get(cellName)?.wakes}`);
    const failpoints = this.#failpoints(cellName);
    const room = new AdmissionRoom({
      ...world,
      store: this.#storeOf(store, cellName, life, this.#sealStore(name)),
      audit: this.#audit(name, life),
      failpoints,
      after: (delayMs, task) => timers.after(delayMs, task),
      ledger: (groupNumber) => this.ledger(groupNumber, life),
      list: (rows) => life.guard(this.d1.list(rows)),
      publisher: new EventPublisher({ ...world, redis: this.#redis(life) }),
      durable: () => Promise.resolve(),
      setAlarm,
      keepAlive,
    });
    room.woke(alarmMs !== null);
    return { rpc: room, alarm: () => room.alarm() };
  }

  #sealStore(name: string): MemorySealStore {
    const store = this.#seals.get(name) ?? memorySealStore();
    this.#seals.set(name, store);
    return store;
  }

  #audit(name: string, life: Life) {
    const store = this.#sealStore(name);
    const chance = this.#ports.chance.fork(`audit of ${life.name} ${this.cells.get(life.name)?.wakes}`);
    const sealer = new Sealer({
      store,
      readHead: () => life.guard(this.d1.head(name)),
      readIdsAfter: (seq) => life.guard(this.d1.idsAfter(name, seq)),
      readPending: () => Promise.resolve([]),
      commit: (batch) => life.guard(this.d1.seal(name, batch)),
      durably: (_, work) => work(),
    });
    return {
      add: (entry: { id: string }) => {
        if (chance.isTrue(this.#ports.weather.commitFails)) throw new PlannedCrash('planned crash');
        store.add({ id: entry.id, text: JSON.stringify(entry) });
      },
      expect: () => undefined,
      refused: () => undefined,
      isDue: () => sealer.hasWork(),
      seal: () => sealer.seal(),
      catchUp: () => sealer.catchUp(),
    };
  }

  /** What the audit trails tell of, sealed or not yet. */
  noted(): Set<string> {
    const waiting = [...this.#seals.values()].flatMap((store) => [...store.batch(), ...store.entries(Infinity)]);
    const all = [...this.d1.sealed.values(), waiting].flat();
    return new Set(all.map(({ text }) => (JSON.parse(text) as { objectId: string }).objectId));
  }

  #redis(life: Life) {
    const door = this.redis.door();
    return { ...door, run: (...given: Parameters<typeof door.run>) => life.guard(door.run(...given)) };
  }

  #wakeControl(name: string, { timers, setAlarm, alarmMs, life }: Waking): Instance {
    const cellName = `control ${name}`;
    let armed = alarmMs !== null;
    const arm = () => {
      if (armed) return;
      armed = true;
      setAlarm(this.#clock.nowMs() + 60_000);
    };
    const { sockets, find } = this.#hubSockets<ControlState>(cellName, ({ agentId, groupNumber }, bytes) =>
      this.#ports.watch.hubSays(agentId, groupNumber, bytes),
    );
    const core = new ControlHub(
      {
        hub: name,
        clock: this.#clock,
        timers,
        log: this.#ports.log,
        ledger: (groupNumber) => this.ledger(groupNumber, life),
        armReports: arm,
        writeReports: () => Promise.resolve(),
      },
      sockets,
    );
    const rpc: ControlHubRpc = {
      sendIntents: async (agentId, epoch, intents) => core.sendIntents(agentId, epoch, intents),
      call: (agentId, callId, op, input, deadlineMs) => core.call(agentId, callId, op, input, deadlineMs),
      liveness: async (agentIds) => core.liveness(agentIds),
      fence: async (agentId, epoch) => core.fence(agentId, epoch),
      dial: async (agentId, epoch, purpose, dataHub, dataTicket) =>
        core.dial(agentId, epoch, { purpose, dataHub, dataTicket }),
      drain: async () => core.drain('restarting'),
    };
    const hub: HubInstance = {
      rpc,
      alarm: async () => {
        armed = false;
        await core.flushReports().catch(arm);
      },
      opened: (link, state) => core.opened(find(link, state as ControlState)),
      message: (link, message) => core.message(find(link), message),
      closed: (link) => core.closed(find(link)),
    };
    return hub;
  }

  #wakeData(name: string, { timers, life }: Waking): Instance {
    const cellName = `data ${name}`;
    const { sockets, find } = this.#hubSockets<DataSocket['state']>(cellName);
    const core = new DataHub(
      {
        hub: name,
        clock: this.#clock,
        timers,
        random: this.#world(`${cellName} ${this.cells.get(cellName)?.wakes}`).random,
        log: this.#ports.log,
        checkAccess: (principals) => Promise.resolve(principals.map(() => 'ok' as const)),
        controlHub: (hub) => this.controlHub(hub, life),
        route: (sessionId) => this.ledger(parseSessionId(sessionId)?.groupNumber ?? 0, life).route(sessionId),
        ticketEpoch: (ticket, agentId) => verifyDataTicket(keys, ticket, { agentId, hub: name }),
      },
      sockets,
    );
    const rpc: DataHubRpc = {
      fence: async (agentId, epoch) => core.fence(agentId, epoch),
      status: async () => core.status(),
      drain: async () => undefined,
    };
    const hub: HubInstance = {
      rpc,
      opened: (link, state) => core.opened(find(link, state as DataSocket['state'])),
      agentState: (claim) => core.agentState(claim),
      clientState: (claim) => core.clientState(claim),
      message: (link, message) => core.message(find(link), message),
      closed: (link) => core.closed(find(link)),
    };
    return hub;
  }

  /** The sockets of an object at its wake, with the state that their attachments kept. */
  #hubSockets<State>(cellName: string, says: (state: State, bytes: Uint8Array) => void = () => undefined) {
    const known = new Map<Link, HubSocket<State>>();
    const wrap = (link: Link, state: State): HubSocket<State> => {
      const socket: HubSocket<State> = {
        state,
        keep: () => void (link.attachment = copyOf(state)),
        send: (bytes) => {
          if (bytes instanceof Uint8Array) says(state, bytes);
          link.hubSend(bytes);
        },
        close: (code, reason) => {
          link.attachment = copyOf(state);
          link.hubClose(code, reason);
        },
        lastPongMs: () => link.lastPongMs,
      };
      known.set(link, socket);
      return socket;
    };
    for (const link of this.links.get(cellName) ?? [])
      if (link.isHubOpen && link.attachment !== undefined) wrap(link, copyOf(link.attachment) as State);
    const sockets = [...known.values()];
    const find = (link: Link, fresh?: State): HubSocket<State> => {
      if (fresh === undefined) return known.get(link) ?? wrap(link, copyOf(link.attachment) as State);
      const socket = wrap(link, fresh);
      socket.keep();
      return socket;
    };
    return { sockets, find };
  }

  // ---- the Worker ----

  /** An agent's upgrade, as `manager/agents/tunnel.ts` judges it. Rejects with {@link DialRefused}. */
  dial(way: Way, url: URL, headers: Record<string, string>, end: AgentEnd): Promise<Link> {
    const { time } = this.#ports;
    const chance = this.#chance;
    const front = this.#front;
    return new Promise((resolve, reject) => {
      time.after(chance.delayMs(2 * way.latencyMs), () => {
        if (way.upIsCut || way.downIsCut || !front.isAlive) {
          if (!way.upIsCut) reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' }));
          return; // packets are dropped: the caller's own time-out speaks
        }
        try {
          const { cell, claim } = this.#admit(url, headers);
          resolve(this.#open(cell, way, claim, end));
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  /** A client's upgrade, as `manager/sessions/streams.ts` judges it. Undefined when there is nowhere to go. */
  async openClient(
    way: Way,
    sessionId: string,
    end: AgentEnd,
  ): Promise<{ link: Link; generation: number } | undefined> {
    const route = await this.ledger(parseSessionId(sessionId)?.groupNumber ?? 0).route(sessionId);
    if (!route?.agent?.reachable) return undefined;
    const { generation, projectId, ownerId, agent } = route;
    const { agentId, epoch, controlHub, dataTicket, dataHub } = agent;
    const principal = { userId: ownerId, tokenId: 'tok', projectId, accessVersion: 0 };
    const claim: ClientSocketClaim = {
      sessionId,
      generation,
      agentId,
      epoch,
      controlHub,
      dataTicket,
      actorId: ownerId,
      principal,
      checkedAtMs: this.#clock.nowMs(),
      ops: ['logs'],
      write: false,
    };
    const cell = this.#dataCell(dataHub);
    const state = (cell.instance() as HubInstance).clientState!(claim);
    return { link: this.#connect(cell, way, `${sessionId} ${agentId}`, end, state), generation };
  }

  #admit(url: URL, headers: Record<string, string>): { cell: Cell; claim: AgentSocketClaim } {
    const purpose = url.searchParams.get('purpose');
    if (purpose === 'interactive' || purpose === 'bulk') {
      const agentId = headers['x-causeway-agent'] ?? '';
      const hub = url.searchParams.get('hub') ?? '';
      const epoch = verifyDataTicket(keys, headers['x-causeway-ticket'] ?? '', { agentId, hub });
      const agent = this.catalogue.get(agentId);
      if (epoch === undefined || !agent) throw new DialRefused(401, 'auth_invalid');
      return { cell: this.#dataCell(hub), claim: { agentId, groupNumber: agent.groupNumber, purpose, epoch } };
    }
    const agentId = /id=([a-z0-9_]+)/.exec(headers['authorization'] ?? '')?.[1] ?? '';
    const agent = this.catalogue.get(agentId);
    if (!agent) throw new DialRefused(401, 'agent_signature_invalid');
    if (agent.isRevoked) throw new DialRefused(403, 'agent_revoked');
    const { groupNumber, controlHub } = agent;
    return { cell: this.#controlCell(controlHub), claim: { agentId, groupNumber, purpose: 'control' } };
  }

  #open(cell: Cell, way: Way, claim: AgentSocketClaim, end: AgentEnd): Link {
    const { agentId, groupNumber } = claim;
    const state = (cell.instance() as HubInstance).agentState?.(claim) ?? {
      agentId,
      groupNumber,
      phase: 'greeting',
      epoch: 0,
      openedAtMs: this.#clock.nowMs(),
      reportDirty: false,
    };
    return this.#connect(cell, way, agentId, end, state);
  }

  #connect(cell: Cell, way: Way, name: string, end: AgentEnd, state: unknown): Link {
    const hub: HubEnd = {
      message: (link, message) => (cell.instance() as HubInstance).message(link, message),
      closed: (link) => {
        const instance = cell.instance() as HubInstance;
        this.links.get(cell.name)?.delete(link);
        instance.closed(link);
      },
    };
    const chance = this.#chance.fork(`${name} ${this.#ports.time.events}`);
    const link = new Link(way, { ...this.#ports, chance }, end, hub);
    const links = this.links.get(cell.name) ?? new Set();
    this.links.set(cell.name, links);
    const instance = cell.instance() as HubInstance;
    links.add(link);
    instance.opened(link, state);
    return link;
  }
}

interface HubInstance extends Instance {
  opened(link: Link, state: unknown): void;
  agentState?(claim: AgentSocketClaim): DataSocket['state'];
  clientState?(claim: Parameters<DataHub['clientState']>[0]): DataSocket['state'];
  message(link: Link, message: ArrayBuffer): void;
  closed(link: Link): void;
}
