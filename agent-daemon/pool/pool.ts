/**
 * Containers that are started in advance, so that a session need not wait for the engine: each runs its init, and where
 * sessions of its kind started a kernel of Jupyter, one of those, on a network of its own, with a home of its own. A session
 * takes one by giving it its name and its home's; until then nobody's code was in it, and behind a session it is never used
 * again. What is here when the agent starts is removed: the pool is no state, and costs nothing to lose.
 */
import { join } from 'node:path';
import { memoryReserveBytes } from '../capacity/capacity.ts';
import { freshId } from '../fresh-id.ts';
import { nonceBytes } from '../init/messages.ts';
import type { Loop } from '../loops.ts';
import { agentLabels, containerOptions, kernelSlots, labels, warmName } from '../runtime/docker-spec.ts';
import type { ContainerSummary, ImageFacts } from '../runtime/runtime.ts';
import { Supervisor, type SupervisorOwner } from '../processes/supervisor.ts';
import { makeHome, makeRunDir, ownHomeByName, planOf, releaseNetwork, runDirOf } from '../sessions/container.ts';
import { pause } from '../deadline.ts';
import type { SessionHost } from '../sessions/host.ts';
import { hasMain } from '../sessions/main-process.ts';
import { bootKernel } from './boot.ts';
import { Demand } from './demand.ts';
import type { WarmContainer, WarmContainers, WarmWish } from './warm.ts';

export type PoolHost = Omit<SessionHost, 'warm' | 'uploads' | 'screenPool' | 'images' | 'services'>;

export interface PoolPolicy {
  /** Containers at a time; 0: none. */
  most: number;
  /** Free and all memory of the host; undefined when that can not be told. */
  memory(): Promise<{ freeBytes: number; totalBytes: number } | undefined>;
}

/** What all containers of a key are like. */
interface Kind {
  spec: Pick<WarmWish, 'kernel' | 'slots'>;
  image: ImageFacts;
}
/** `tried`: the kernelspec of which a kernel was to be started in it; `isBooting`: one is being started. */
type Held = WarmContainer & {
  key: string;
  bornMs: number;
  image: ImageFacts;
  of: string;
  tried?: string;
  isBooting?: boolean;
};

const lookEveryMs = 5_000;
/** After one that could not be started. */
const failedMs = 60_000;
/** After a start: the next of a burst goes first. */
const quietMs = 500;
/** From the container's start to the init's first word. */
const initMs = 30_000;
/** Older ones are replaced: what the engine and the host's clock, DNS and mounts were at their start, they are still. */
const maxAgeMs = 3_600_000;
/** For a kernel to come up. */
const bootMs = 70_000;
/** Kinds of which it is known what kernel was started in them. */
const maxKernels = 64;
/** For removing what is held at the agent's end. */
const stopMs = 10_000;

export class Pool implements WarmContainers {
  readonly #host: PoolHost;
  readonly #policy: PoolPolicy;
  readonly #demand = new Demand<Kind>();
  /** Oldest first. */
  #held: Held[] = [];
  /** Of the kernel that was started last in sessions of a kind: its kernelspec. */
  readonly #kernels = new Map<string, string>();
  readonly #stopping = new AbortController();
  /** The one that is under way. */
  #making: string | undefined;
  #restsUntilMs = 0;
  #loop: Loop | undefined;
  #isStopped = false;

  constructor(host: PoolHost, policy: PoolPolicy) {
    this.#host = host;
    this.#policy = policy;
  }

  get isOn(): boolean {
    return this.#policy.most > 0;
  }

  /** Those that are ready, in how many a kernel waits, and the most there may be; undefined where none is ever started. */
  get found(): { ready: number; kernels: number; most: number } | undefined {
    if (!this.isOn) return undefined;
    const ready = this.#held.filter(isReady);
    return {
      ready: ready.length,
      kernels: ready.filter(({ kernel }) => kernel !== undefined).length,
      most: this.#policy.most,
    };
  }

  async clear(containers: readonly ContainerSummary[], isClaimed: (warmId: string) => boolean): Promise<void> {
    const left = containers.filter((container) => {
      const warmId = container.labels[labels.warm];
      // One with another name was taken, or has the label from its image.
      return warmId !== undefined && container.name === warmName(warmId) && !this.#isKnown(warmId, isClaimed);
    });
    await Promise.all(left.map(({ id }) => this.#host.runtime.removeContainer(id)));
    await this.#sweep(isClaimed);
  }

  start(): void {
    if (!this.isOn || this.#isStopped) return;
    this.#loop ??= this.#host.loops.every('containers in advance', lookEveryMs, () => this.#look());
  }

  /** Ends it, and removes what is held as far as the engine does that soon. */
  async stop(): Promise<void> {
    await this.close();
    const removed = Promise.all(this.#held.splice(0).map((each) => this.#remove(each)));
    await Promise.race([removed, pause(this.#host.timers, stopMs)]);
  }

  /** Lets go of what is held: it stays until the next start of the agent. */
  async close(): Promise<void> {
    this.#isStopped = true;
    this.#stopping.abort();
    await Promise.race([this.#loop?.stop(), pause(this.#host.timers, stopMs)]);
    await Promise.all(this.#held.map(({ supervisor }) => supervisor.close()));
  }

  mayFit(wish: WarmWish): boolean {
    return this.#held.some(({ key }) => key.endsWith(shapeOf(wish)));
  }

  take(wish: WarmWish, image: ImageFacts): WarmContainer | undefined {
    const key = keyOf(wish, image);
    const fitting = this.#held.filter((each) => each.key === key && isReady(each));
    const found = fitting.find(({ kernel }) => kernel !== undefined) ?? fitting[0];
    if (found !== undefined) this.#held = this.#held.filter((each) => each !== found);
    return found;
  }

  startedKernel(wish: WarmWish, image: ImageFacts, spec: string): void {
    const key = keyOf(wish, image);
    this.#kernels.delete(key);
    this.#kernels.set(key, spec);
    const [oldest] = this.#kernels.keys();
    if (this.#kernels.size > maxKernels && oldest !== undefined) this.#kernels.delete(oldest);
    this.#host.timers.after(quietMs, () => this.#loop?.soon());
  }

  started(wish: WarmWish, image: ImageFacts): void {
    const { kernel, slots } = wish;
    this.#demand.started(keyOf(wish, image), { spec: { kernel, slots }, image }, this.#host.clock.bootMs());
    this.#host.timers.after(quietMs, () => this.#loop?.soon());
  }

  // ---- what is held ----

  #isKnown(warmId: string, isClaimed: (warmId: string) => boolean): boolean {
    return isClaimed(warmId) || warmId === this.#making || this.#held.some((each) => each.warmId === warmId);
  }

  async #look(): Promise<void> {
    const { clock } = this.#host;
    // An init that is reached by its stdin and stdout can not be handed on.
    const holds = (await this.#host.transport()) === 'socket' && !(await this.#isShort());
    const wanted = this.#demand.wanted(holds ? this.#policy.most : 0, clock.bootMs());
    for (const each of this.#unwanted(wanted)) await this.#giveBack(each);
    if (clock.bootMs() < this.#restsUntilMs) return;
    try {
      for (const [key, { kind, count }] of wanted) await this.#fill(key, kind, count);
      for (const each of this.#held.slice()) await this.#boot(each);
    } catch (error) {
      this.#restsUntilMs = clock.bootMs() + failedMs;
      this.#host.log.warn('no container can be started in advance now', { error: String(error) });
    }
  }

  /** One at a time, and only while no session waits for the engine. */
  async #fill(key: string, kind: Kind, count: number): Promise<void> {
    while (this.#count(key) < count && this.#host.starts.isIdle && !this.#isStopped) await this.#add(key, kind);
  }

  #count(key: string): number {
    return this.#held.filter((each) => each.key === key).length;
  }

  /** Too old, gone, or more than wanted. */
  #unwanted(wanted: ReadonlyMap<string, { count: number }>): Held[] {
    const nowMs = this.#host.clock.bootMs();
    const left = new Map([...wanted].map(([key, { count }]) => [key, count]));
    return this.#held.toReversed().filter((each) => {
      const { key, bornMs } = each;
      const room = left.get(key) ?? 0;
      if (!isConnected(each) || nowMs - bornMs >= maxAgeMs || room === 0) return true;
      left.set(key, room - 1);
      return false;
    });
  }

  async #giveBack(held: Held): Promise<void> {
    // It may have been taken meanwhile.
    if (!this.#held.includes(held)) return;
    this.#held = this.#held.filter((each) => each !== held);
    await this.#discard(held);
  }

  /** The host needs its memory for itself: less is free than it keeps. */
  async #isShort(): Promise<boolean> {
    const memory = await this.#policy.memory();
    return memory !== undefined && memory.freeBytes < memoryReserveBytes(memory.totalBytes);
  }

  /** Starts the kernel in it that its kind asks for. One that does not come up is not tried again in this container. */
  async #boot(held: Held): Promise<void> {
    const host = this.#host;
    const { warmId, supervisor, image } = held;
    const spec = this.#kernels.get(held.key);
    const isIdle = host.starts.isIdle && !this.#isStopped;
    if (spec === undefined || held.kernel !== undefined || held.tried === spec || !isIdle || !this.#held.includes(held))
      return;
    held.tried = spec;
    held.isBooting = true;
    const given = new AbortController();
    const cancel = host.timers.after(bootMs, () => given.abort());
    try {
      const container = { warmId, supervisor, kernel: held.of, imageEnv: image.env };
      held.kernel = await bootKernel(host, container, spec, AbortSignal.any([given.signal, this.#stopping.signal]));
    } catch (error) {
      if (!this.#isStopped) host.log.warn('no kernel can be started in advance', { spec, error: String(error) });
      // What was to start it may live on there, and is nobody's to be given.
      if (given.signal.aborted) await this.#giveBack(held);
    } finally {
      cancel();
      held.isBooting = false;
      await host.spools.removeSession(warmId);
    }
  }

  // ---- one of them ----

  async #add(key: string, kind: Kind): Promise<void> {
    const warmId = freshId('warm', this.#host);
    const network = await this.#host.networks.take();
    this.#making = warmId;
    try {
      const { supervisor, containerId } = await this.#make(warmId, network, kind);
      const { image, spec } = kind;
      const bornMs = this.#host.clock.bootMs();
      const held = { warmId, containerId, network, supervisor, key, bornMs, image, of: spec.kernel };
      if (this.#isStopped) return await this.#discard(held);
      this.#held.push(held);
    } catch (error) {
      await this.#remove({ warmId, network });
      throw error;
    } finally {
      this.#making = undefined;
    }
  }

  async #make(
    warmId: string,
    network: string,
    { spec, image }: Kind,
  ): Promise<{ supervisor: Supervisor; containerId: string }> {
    const host = this.#host;
    const { store, runtime } = host;
    const ref = { sessionId: '', generation: 0, warmId };
    await makeRunDir(host, ref);
    await makeHome(host, warmId, image);
    const sessionKey = { bytes: host.random.bytes(nonceBytes), confirmed: false };
    await store.saveKey(ref, sessionKey);
    const place = {
      runDir: runDirOf(host, ref),
      sessionKey,
      transport: 'socket' as const,
      saveSessionKey: (key: typeof sessionKey) => store.saveKey(ref, key),
    };
    const supervisor = new Supervisor(nobody(warmId), place, host);
    try {
      await supervisor.link.listen();
      const plan = planOf(host, { ref, home: warmId, image, network, spec });
      const of = { ...agentLabels(host), [labels.warm]: warmId, [labels.kernel]: spec.kernel };
      const containerId = await runtime.createContainer(
        containerOptions({ ...plan, name: warmName(warmId), labels: of }),
      );
      await ownHomeByName(host, warmId, image, containerId);
      await runtime.startContainer(containerId);
      await this.#whenConnected(supervisor);
      return { supervisor, containerId };
    } catch (error) {
      await supervisor.close();
      throw error;
    }
  }

  async #whenConnected({ link }: Supervisor): Promise<void> {
    await Promise.race([link.ready(), pause(this.#host.timers, initMs)]);
    if (link.state !== 'connected') throw new Error('a container that was started in advance never reported');
  }

  async #discard({ supervisor, ...held }: Held): Promise<void> {
    await supervisor.close();
    await this.#remove(held);
  }

  /** Whatever there is of it; what can not be removed now is removed at the next start of the agent. */
  async #remove({ warmId, network }: { warmId: string; network: string }): Promise<void> {
    const host = this.#host;
    try {
      await host.runtime.removeContainer(warmName(warmId));
      await releaseNetwork(host, network);
      await this.#removeFiles(warmId);
    } catch (error) {
      // Its network is taken up behind it.
      host.networks.forget(network);
      host.log.warn('a container that was started in advance is not removed yet', { warmId, error: String(error) });
    }
  }

  async #removeFiles(warmId: string): Promise<void> {
    const { disk, homes, spools, store, runRoot } = this.#host;
    const ref = { sessionId: '', generation: 0, warmId };
    await disk.rm(join(runRoot, warmId), { recursive: true, force: true });
    await homes.remove(warmId);
    await spools.removeSession(warmId);
    await store.removeKey(ref);
  }

  /** Directories and keys of those that are nobody's. */
  async #sweep(isClaimed: (warmId: string) => boolean): Promise<void> {
    const { disk, homes, runRoot, store } = this.#host;
    const names = await Promise.all([listed(disk, runRoot), listed(disk, homes.path('')), store.warmIds()]);
    for (const name of new Set(names.flat()))
      if (/^wrm_[0-9a-z]{26}$/.test(name) && !this.#isKnown(name, isClaimed)) await this.#removeFiles(name);
  }
}

function isReady(held: Held): boolean {
  return isConnected(held) && held.isBooting !== true;
}

function isConnected({ supervisor }: WarmContainer): boolean {
  return supervisor.link.state === 'connected';
}

/** Of a container that is nobody's: what runs in it has its name. */
function nobody(warmId: string): SupervisorOwner {
  return {
    sessionId: warmId,
    generation: 0,
    connected: () => undefined,
    leaseExpired: () => undefined,
    reasonOf: () => Promise.resolve('exited'),
    ended: () => undefined,
  };
}

const listed = (disk: PoolHost['disk'], path: string): Promise<string[]> => disk.readdir(path).catch(() => []);

/** All that containers of a kind have in common with what a session wants, but the image. One with a main process has no kernels. */
function shapeOf(wish: WarmWish): string {
  const { cpu, mem } = kernelSlots(wish);
  return ` ${wish.kernel} ${cpu} ${mem} ${hasMain(wish) ? 'main' : '-'}`;
}

function keyOf(wish: WarmWish, image: ImageFacts): string {
  return `${image.id}${shapeOf(wish)}`;
}
