/**
 * A model of the container engine behind `ContainerRuntime`, checked against the real one by a differential test: names,
 * states, conflicts, events. It can hang, die and come back, with and without live-restore, and its calls take virtual
 * time. Containers run a model init; what the engine is asked of their insides it does not know.
 */
import type { ContainerCreateOptions } from 'dockerode';
import type {
  Attached,
  ContainerFacts,
  ContainerRuntime,
  ContainerSummary,
  EngineEvent,
  EngineInfo,
  ImageFacts,
  ImageSummary,
  NetworkFacts,
  PullProgress,
} from '../../../agent-daemon/runtime/runtime.ts';
import { RuntimeError } from '../../../agent-daemon/runtime/runtime.ts';
import type { Clock, Random, Timers } from '../../../schema/ports.ts';

export interface SimImage {
  name: string;
  entrypoint?: string[];
  cmd?: string[];
  user?: string;
  sizeBytes?: number;
}

/** What a started container runs. */
export interface ContainerLife {
  kill(): void;
}

export interface SimContainer extends ContainerFacts {
  options: ContainerCreateOptions;
  life: ContainerLife | undefined;
  /** The network that it was first started in: a later one of the same name is another. */
  networkId: string | undefined;
}

export interface SimEngineOptions {
  clock: Clock;
  timers: Timers;
  random: Random;
  cpus?: number;
  memoryBytes?: number;
  liveRestore?: boolean;
  /** Virtual milliseconds of a call; undefined: a few, more for a create or a start. */
  latencyMs?: (op: EngineOp) => number | undefined;
  /** Brings the container to life; its end is told by `exited`. */
  run(container: SimContainer, exited: (code: number) => void): ContainerLife;
  /** The agent asks for a container. */
  creating?: (labels: Readonly<Record<string, string>>) => void;
  /** After each start and each end. */
  onChange?: (container: SimContainer, change: 'start' | 'die') => void;
  onRename?: () => void;
}

export type EngineOp = keyof ContainerRuntime;

/** As `docker.ts` has them. */
const deadlines: Partial<Record<EngineOp, number>> = {
  ping: 5_000,
  findImage: 5_000,
  findContainer: 5_000,
  readContainerFile: 5_000,
  attachContainer: 5_000,
  createContainer: 60_000,
  startContainer: 60_000,
  pullImage: 6 * 3_600_000,
  info: 15_000,
  listImages: 15_000,
  listNetworks: 15_000,
  listContainers: 15_000,
};
const changeMs = 30_000;
/** What an inspect shows of a container that could not be started. */
const failedStartCode = 128;
const latencies: Partial<Record<EngineOp, number>> = { createContainer: 40, startContainer: 120, createNetwork: 60 };
const lookMs = 2;

type Mode = 'up' | 'hung' | 'down';

interface Watcher {
  onEvent: (event: EngineEvent) => void;
  fail: (error: Error) => void;
}

export class SimEngine implements ContainerRuntime {
  readonly #options: SimEngineOptions;
  readonly #containers = new Map<string, SimContainer>();
  readonly #networks = new Map<string, NetworkFacts & { members: Set<string> }>();
  readonly #images = new Map<string, SimImage>();
  /** What the registries of the world have. */
  readonly #registry = new Map<string, SimImage>();
  readonly #watchers = new Set<Watcher>();
  readonly #events: EngineEvent[] = [];
  /** Calls under way, which a death of the engine ends. */
  readonly #calls = new Set<(error: Error) => void>();
  /** What happens when a hung engine goes on. */
  #waiting: (() => void)[] = [];
  #mode: Mode = 'up';
  #made = 0;
  liveRestore: boolean;
  /** Set: the disk of the engine is full, and nothing new is made. */
  diskFull = false;

  constructor(options: SimEngineOptions) {
    this.#options = options;
    this.liveRestore = options.liveRestore ?? true;
  }

  // ---- for the world ----

  get mode(): Mode {
    return this.#mode;
  }

  get containers(): readonly SimContainer[] {
    return [...this.#containers.values()];
  }

  get networks(): readonly NetworkFacts[] {
    return [...this.#networks.values()];
  }

  addImage(image: SimImage): void {
    this.#images.set(image.name, image);
  }

  /** An image that is not here and can be pulled. */
  publish(image: SimImage): void {
    this.#registry.set(image.name, image);
  }

  /** SIGSTOP: takes calls and answers none, until `resume`. */
  hang(): void {
    if (this.#mode === 'up') this.#mode = 'hung';
  }

  resume(): void {
    if (this.#mode !== 'hung') return;
    this.#mode = 'up';
    for (const go of this.#waiting.splice(0)) go();
  }

  /** SIGKILL: containers live on until it comes back, and beyond that with live-restore. */
  kill(): void {
    if (this.#mode === 'down') return;
    this.#mode = 'down';
    this.#waiting = [];
    const gone = new RuntimeError('unavailable', 'the engine closed the connection');
    for (const fail of [...this.#calls, ...[...this.#watchers].map((watcher) => watcher.fail)]) fail(gone);
    this.#calls.clear();
    this.#watchers.clear();
  }

  start(): void {
    if (this.#mode !== 'down') return;
    this.#mode = 'up';
    if (this.liveRestore) return;
    for (const container of this.#containers.values()) container.life?.kill();
  }

  /** The host loses its power: nothing runs, the engine is down until `start`. What it knew it knows again. */
  powerLoss(): void {
    this.kill();
    for (const network of this.#networks.values()) network.members.clear();
    for (const container of this.#containers.values()) {
      const { life } = container;
      container.life = undefined;
      if (container.status !== 'running') continue;
      this.#died(container, 255);
      life?.kill();
    }
  }

  /** A process of the container was killed for memory: the engine says so of the whole when it ends. */
  oom(idOrName: string): void {
    const container = this.#container(idOrName);
    if (container === undefined) return;
    container.oomKilled = true;
    container.life?.kill();
  }

  // ---- ContainerRuntime ----

  ping(): Promise<void> {
    return this.#call('ping', () => undefined);
  }

  info(): Promise<EngineInfo> {
    return this.#call('info', () => ({
      version: '26.1.5',
      description: 'Docker 26.1.5 (runc 1.3.3, containerd 1.7.24)',
      runcVersion: '1.3.3',
      kernel: '6.12.0',
      os: 'Debian GNU/Linux 13 (trixie)',
      cpus: this.#options.cpus ?? 8,
      memoryBytes: this.#options.memoryBytes ?? 32 * 1024 ** 3,
      liveRestore: this.liveRestore,
      seccomp: true,
      dataRoot: '/var/lib/docker',
    }));
  }

  findImage(reference: string): Promise<ImageFacts | undefined> {
    return this.#call('findImage', () => {
      const image = this.#image(reference);
      return image === undefined ? undefined : toFacts(image);
    });
  }

  listImages(): Promise<ImageSummary[]> {
    return this.#call('listImages', () => [...this.#images.values()].map(toFacts));
  }

  pullImage(reference: string, onProgress: (progress: PullProgress) => void, signal: AbortSignal): Promise<void> {
    const pulled = this.#call('pullImage', () => {
      const image = this.#registry.get(reference);
      if (image === undefined) throw new RuntimeError('not-found', `pull: manifest for ${reference} not found`);
      if (this.diskFull) throw new RuntimeError('disk-full', 'pull: no space left on device');
      onProgress({ detail: '1 of 1 layers', doneBytes: image.sizeBytes ?? 1, totalBytes: image.sizeBytes ?? 1 });
      this.#images.set(reference, image);
      this.#tell('image', 'pull', reference, {});
    });
    const { promise: aborted, reject } = Promise.withResolvers<never>();
    signal.addEventListener('abort', () => reject(new RuntimeError('timeout', 'pull: aborted')), { once: true });
    return Promise.race([pulled, aborted]);
  }

  listNetworks(labels: Record<string, string>): Promise<NetworkFacts[]> {
    return this.#call('listNetworks', () =>
      this.networks.filter((network) => has(network.labels, labels)).map((network) => ({ ...network })),
    );
  }

  createNetwork(name: string, subnet: string, labels: Record<string, string>): Promise<string> {
    return this.#call('createNetwork', () => {
      if (this.#network(name) !== undefined) {
        throw new RuntimeError('conflict', `network create: network with name ${name} already exists`);
      }
      if (this.networks.some((network) => network.subnets.includes(subnet))) {
        throw new RuntimeError('failed', 'network create: Pool overlaps with other one on this address space');
      }
      const id = this.#freshId();
      this.#networks.set(id, { id, name, labels, subnets: [subnet], members: new Set() });
      this.#tell('network', 'create', id, { name });
      return id;
    });
  }

  removeNetwork(idOrName: string): Promise<void> {
    return this.#call('removeNetwork', () => {
      const network = this.#network(idOrName);
      if (network === undefined) return;
      if (network.members.size > 0) {
        throw new RuntimeError('failed', `network remove: network ${network.name} has active endpoints`);
      }
      this.#networks.delete(network.id);
      this.#tell('network', 'destroy', network.id, { name: network.name });
    });
  }

  createContainer(options: ContainerCreateOptions): Promise<string> {
    this.#options.creating?.(options.Labels ?? {});
    return this.#call('createContainer', () => {
      const name = options.name ?? '';
      if (this.#image(options.Image ?? '') === undefined) {
        throw new RuntimeError('not-found', `create: No such image: ${options.Image}`);
      }
      const taken = this.#container(name);
      if (taken !== undefined) {
        throw new RuntimeError('conflict', `create: The container name "/${name}" is already in use by ${taken.id}`);
      }
      if (this.diskFull) throw new RuntimeError('disk-full', 'create: no space left on device');
      const id = this.#freshId();
      const container: SimContainer = {
        id,
        name,
        labels: options.Labels ?? {},
        status: 'created',
        pid: 0,
        exitCode: 0,
        oomKilled: false,
        createdAtMs: this.#options.clock.nowMs(),
        startedAtMs: 0,
        finishedAtMs: 0,
        options,
        life: undefined,
        networkId: undefined,
      };
      this.#containers.set(id, container);
      this.#tell('container', 'create', id, attributesOf(container));
      return id;
    });
  }

  startContainer(idOrName: string): Promise<void> {
    return this.#call('startContainer', () => {
      const container = this.#require(idOrName, 'start');
      if (container.status === 'running') return;
      const mode = container.options.HostConfig?.NetworkMode;
      const network = mode === undefined || mode === 'none' ? undefined : this.#network(container.networkId ?? mode);
      if (network === undefined && mode !== undefined && mode !== 'none') {
        container.exitCode = failedStartCode;
        throw new RuntimeError('not-found', `start: network ${mode} not found`);
      }
      network?.members.add(container.id);
      container.networkId = network?.id;
      Object.assign(container, { status: 'running', pid: ++this.#made, exitCode: 0, oomKilled: false });
      container.startedAtMs = this.#options.clock.nowMs();
      this.#tell('container', 'start', container.id, attributesOf(container));
      this.#options.onChange?.(container, 'start');
      container.life = this.#options.run(container, (code) => this.#died(container, code));
    });
  }

  favour(): Promise<void> {
    return Promise.resolve(); // nothing is run here
  }

  findContainer(idOrName: string): Promise<ContainerFacts | undefined> {
    return this.#call('findContainer', () => {
      const container = this.#container(idOrName);
      if (container === undefined) return undefined;
      const { options: _, life: __, networkId: ___, ...facts } = container;
      return facts;
    });
  }

  listContainers(labels: Record<string, string>): Promise<ContainerSummary[]> {
    return this.#call('listContainers', () =>
      this.containers
        .filter((container) => has(container.labels, labels))
        .toReversed()
        .map(({ id, name, labels: own, status, createdAtMs }) => ({
          id,
          name,
          labels: own,
          status,
          createdAtMs: Math.floor(createdAtMs / 1000) * 1000,
        })),
    );
  }

  renameContainer(idOrName: string, name: string): Promise<void> {
    return this.#call('renameContainer', () => {
      const container = this.#require(idOrName, 'rename');
      const taken = this.#container(name);
      if (taken === container) throw new RuntimeError('invalid', 'rename: the same name as its current name');
      if (taken !== undefined)
        throw new RuntimeError('conflict', `rename: The container name "/${name}" is already in use`);
      container.name = name;
      this.#options.onRename?.();
      this.#tell('container', 'rename', container.id, attributesOf(container));
    });
  }

  killContainer(idOrName: string): Promise<void> {
    return this.#call('killContainer', () => {
      this.#container(idOrName)?.life?.kill();
    });
  }

  removeContainer(idOrName: string): Promise<void> {
    return this.#call('removeContainer', () => {
      const container = this.#container(idOrName);
      if (container === undefined) return;
      container.life?.kill();
      this.#containers.delete(container.id);
      this.#tell('container', 'destroy', container.id, attributesOf(container));
    });
  }

  attachContainer(): Promise<Attached> {
    return Promise.reject(new RuntimeError('failed', 'attach: simulated containers are reached by their socket'));
  }

  importImage(name: string, tag: string): Promise<void> {
    return this.#call('importImage', () => this.addImage({ name: `${name}:${tag}` }));
  }

  removeImage(reference: string): Promise<void> {
    return this.#call('removeImage', () => void this.#images.delete(reference));
  }

  readContainerFile(): Promise<string | undefined> {
    return this.#call('readContainerFile', () => undefined);
  }

  watch(since: string | undefined, onEvent: (event: EngineEvent) => void, signal: AbortSignal): Promise<void> {
    const over = Promise.withResolvers<void>();
    const watcher: Watcher = { onEvent, fail: over.reject };
    const begin = (): void => {
      if (since !== undefined) this.#events.filter((event) => Number(event.at) >= Number(since)).forEach(onEvent);
      this.#watchers.add(watcher);
    };
    if (this.#mode === 'down') over.reject(new RuntimeError('unavailable', 'events: connect ECONNREFUSED'));
    else if (this.#mode === 'hung') this.#waiting.push(begin);
    else begin();
    const abort = (): void => over.reject(new RuntimeError('timeout', 'events: aborted'));
    signal.addEventListener('abort', abort, { once: true });
    return over.promise.finally(() => {
      this.#watchers.delete(watcher);
      signal.removeEventListener('abort', abort);
    });
  }

  // ---- inside ----

  #died(container: SimContainer, code: number): void {
    container.life = undefined;
    if (container.status !== 'running') return;
    Object.assign(container, { status: 'exited', pid: 0, exitCode: code, finishedAtMs: this.#options.clock.nowMs() });
    for (const network of this.#networks.values()) network.members.delete(container.id);
    this.#options.onChange?.(container, 'die');
    this.#tell('container', 'die', container.id, attributesOf(container));
  }

  /**
   * One call: it takes its time, its effect comes in the middle of it, and the caller gives up at the deadline. An
   * engine that hung goes on with what it had been asked, whoever still waits for it or not.
   */
  #call<T>(op: EngineOp, effect: () => T): Promise<T> {
    const { timers, latencyMs } = this.#options;
    if (this.#mode === 'down') return Promise.reject(new RuntimeError('unavailable', `${op}: connect ECONNREFUSED`));
    const answer = Promise.withResolvers<T>();
    const end = (settle: () => void): void => {
      if (!this.#calls.delete(answer.reject)) return;
      cancelDeadline();
      settle();
    };
    const limitMs = deadlines[op] ?? changeMs;
    const cancelDeadline = timers.after(limitMs, () => {
      const late = new RuntimeError('timeout', `${op}: the engine did not answer within ${limitMs / 1000} s`);
      end(() => answer.reject(late));
    });
    this.#calls.add(answer.reject);
    answer.promise.catch(cancelDeadline);
    const usualMs = latencies[op] ?? lookMs;
    const takesMs = latencyMs?.(op) ?? usualMs;
    // A slow call is slow to answer: what it does is begun in the order in which it came.
    const actMs = Math.min(takesMs, usualMs) / 2;
    const answerMs = takesMs - actMs;
    const act = (): void => {
      if (this.#mode === 'down') return;
      if (this.#mode === 'hung') return void this.#waiting.push(act);
      try {
        const result = effect();
        timers.after(answerMs, () => this.#whenUp(() => end(() => answer.resolve(result))));
      } catch (error) {
        timers.after(answerMs, () => this.#whenUp(() => end(() => answer.reject(error))));
      }
    };
    timers.after(actMs, act);
    return answer.promise;
  }

  #whenUp(task: () => void): void {
    if (this.#mode === 'hung') this.#waiting.push(() => this.#whenUp(task));
    else if (this.#mode === 'up') task();
  }

  /** Events go out when the engine runs; one that died keeps none. */
  #tell(kind: EngineEvent['kind'], action: string, id: string, labels: Record<string, string>): void {
    const at = String(Math.floor(this.#options.clock.nowMs() / 1000));
    const event: EngineEvent = { kind, action, id, labels, at };
    if (this.#mode === 'down') return;
    const send = (): void => {
      this.#events.push(event);
      if (this.#events.length > 256) this.#events.shift();
      for (const watcher of this.#watchers) watcher.onEvent(event);
    };
    this.#whenUp(send);
  }

  #require(idOrName: string, what: string): SimContainer {
    const container = this.#container(idOrName);
    if (container === undefined) throw new RuntimeError('not-found', `${what}: No such container: ${idOrName}`);
    return container;
  }

  #container(idOrName: string): SimContainer | undefined {
    return this.#containers.get(idOrName) ?? this.containers.find(({ name }) => name === idOrName);
  }

  #network(idOrName: string): (NetworkFacts & { members: Set<string> }) | undefined {
    const all = [...this.#networks.values()];
    return this.#networks.get(idOrName) ?? all.find(({ name }) => name === idOrName);
  }

  #image(reference: string): SimImage | undefined {
    const named = this.#images.get(reference) ?? this.#images.get(`${reference}:latest`);
    return named ?? [...this.#images.values()].find((image) => imageId(image) === reference);
  }

  #freshId(): string {
    return Buffer.from(this.#options.random.bytes(32)).toString('hex');
  }
}

function attributesOf({ labels, name, options }: SimContainer): Record<string, string> {
  return { ...labels, name, image: options.Image ?? '' };
}

function has(own: Record<string, string>, wanted: Record<string, string>): boolean {
  return Object.entries(wanted).every(([name, value]) => own[name] === value || (value === '' && name in own));
}

/** An image of simulated containers has no content, so its name is its identity. */
function imageId({ name }: SimImage): string {
  return `sha256:${Buffer.from(name).toString('hex').padEnd(64, '0').slice(0, 64)}`;
}

function toFacts(image: SimImage): ImageFacts {
  return {
    id: imageId(image),
    names: [image.name],
    digests: [],
    env: [],
    user: image.user ?? '',
    entrypoint: image.entrypoint ?? [],
    cmd: image.cmd ?? [],
    workingDir: '',
    labels: {},
    sizeBytes: image.sizeBytes ?? 1_000_000,
    createdAtMs: 0,
    architecture: 'amd64',
  };
}
