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
import type { ControlHubRpc, DataHubRpc } from '../../../edge/tunnel/rpc.ts';
import { dataHubName, makeDataTicket, verifyDataTicket } from '../../../edge/tunnel/tickets.ts';
import { PlannedCrash } from '../../../edge/platform/undo-map.ts';
import type { EdgeFailpoint } from '../../../schema/failpoints.ts';
import type { AccessStore } from '../../../edge/http/access-core.ts';
import type { AccessRpc } from '../../../edge/http/access-rpc.ts';
import { checkAccess } from '../../../edge/http/access.ts';
import type { Clock, Failpoints } from '../../../schema/ports.ts';
import { Life, never } from '../life.ts';
import { memoryAccessStore, wakeAccess } from './access.ts';
import { SimArchive } from './archive.ts';
import { type CommitPorts, type FailingStore, storeThatFails } from './commits.ts';
import { type HubPorts, wakeControlHub, wakeDataHub } from './hubs.ts';
import type { Link } from './links.ts';
import { Cell, type Instance, stubOf, type Waking } from './objects.ts';
import { D1Model, memorySealStore, type MemorySealStore, RedisModel } from './outside.ts';
import { bindingsOf, keys } from './request.ts';
import { SqliteD1 } from './sqlite-d1.ts';
import type { WatchLedger } from './watch.ts';
import { watchedAdmissionStore, watchedLedgerStore } from './watch.ts';
import { SimWorker, type WorkerPorts } from './worker.ts';

export interface EdgePorts extends WorkerPorts {
  watch: WatchLedger;
}

export class SimEdge {
  readonly d1: D1Model;
  readonly redis: RedisModel;
  readonly worker: SimWorker;
  readonly archive: SimArchive;
  readonly cells = new Map<string, Cell>();
  readonly links = new Map<string, Set<Link>>();
  readonly ledgerStores = new Map<number, LedgerMemory>();
  readonly admissionStores = new Map<string, AdmissionMemory>();
  /** D1's tables of accounts and agents. */
  readonly accounts: SqliteD1;
  readonly #accessStores = new Map<string, AccessStore>();
  readonly #seals = new Map<string, MemorySealStore>();
  readonly #ports: EdgePorts;
  readonly #clock: Clock;
  /** Of the isolate that serves requests: those under way die with it. */
  #front = new Life('worker');

  constructor(ports: EdgePorts) {
    this.#ports = ports;
    this.#clock = { nowMs: () => ports.nowMs(), bootMs: () => ports.nowMs() };
    this.accounts = new SqliteD1({ ...ports, chance: ports.chance.fork('accounts') }, () => this.worker.lookWhoIsOut());
    this.d1 = new D1Model({ ...ports, chance: ports.chance.fork('d1') });
    this.redis = new RedisModel({ ...ports, chance: ports.chance.fork('redis') });
    this.worker = new SimWorker(this, ports);
    this.archive = new SimArchive(ports);
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
    return stubOf(() => this.controlCell(name), caller) as ControlHubRpc;
  }
  dataHub(name: string, caller: Life = this.#front): DataHubRpc {
    return stubOf(() => this.dataCell(name), caller) as DataHubRpc;
  }

  access(name: string, caller: Life = this.#front): AccessRpc {
    const store = this.#accessStores.get(name) ?? memoryAccessStore();
    this.#accessStores.set(name, store);
    const wake = (waking: Waking) => wakeAccess(store, () => this.#clock.nowMs(), waking);
    return stubOf(() => this.#cell(`access ${name}`, wake), caller) as AccessRpc;
  }

  /** The isolate that serves requests. */
  get front(): Life {
    return this.#front;
  }
  controlCell(name: string): Cell {
    const cell = `control ${name}`;
    return this.#cell(cell, (waking) => wakeControlHub(name, waking, this.#hubPorts(cell, waking)));
  }
  dataCell(name: string): Cell {
    const cell = `data ${name}`;
    return this.#cell(cell, (waking) => wakeDataHub(name, waking, this.#hubPorts(cell, waking)));
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

  /** Every hub closes its sockets in order: the process is about to stop. */
  drain(): void {
    for (const { name, isAwake } of this.cells.values()) {
      const [kind, hub = ''] = name.split(' ');
      if (!isAwake || (kind !== 'control' && kind !== 'data')) continue;
      const drained = kind === 'control' ? this.controlHub(hub).drain() : this.dataHub(hub).drain();
      drained.catch(() => undefined);
    }
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
    this.worker.restarts();
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
      list: (rows, gone) => life.guard(this.d1.list(rows, gone)),
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

  #hubPorts(cell: string, { life }: Waking): HubPorts {
    const bindings = bindingsOf(this, life);
    return {
      ...this.#world(`${cell} ${this.cells.get(cell)?.wakes}`),
      links: this.links.get(cell) ?? [],
      watch: this.#ports.watch,
      ledger: (groupNumber) => this.ledger(groupNumber, life),
      controlHub: (name) => this.controlHub(name, life),
      checkAccess: (principals) => checkAccess(bindings, principals),
      clientHears: (tokenId, bytes) => this.worker.mustBeIn(tokenId, bytes),
      ticketEpoch: (ticket, agentId, hub) => verifyDataTicket(keys, ticket, { agentId, hub }),
    };
  }
}
