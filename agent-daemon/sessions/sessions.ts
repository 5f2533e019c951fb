/**
 * All sessions of this agent: carries out the orders of the edge, takes up what an earlier run left, answers what there
 * is, and destroys only what the edge's answer to this very inventory names. Containers without this agent's labels do
 * not exist for it.
 */
import type { InventoryAnswer, InventoryItem } from '../../schema/protocol/messages.ts';
import type { IntentOf } from '../dispatch.ts';
import { labels, ownerOf } from '../runtime/docker-spec.ts';
import type { ContainerSummary, EngineEvent } from '../runtime/runtime.ts';
import type { Loop } from '../loops.ts';
import { findOurs } from './container.ts';
import { pause } from '../deadline.ts';
import type { SessionHost } from './host.ts';
import type { PlacementFile } from './placement.ts';
import { Session } from './session.ts';

/** Nothing younger is destroyed for being unknown to the edge: it may have been ordered meanwhile. After a storm all is to agree within 120 s. */
const destroyAfterMs = 90_000;
const lookEveryMs = 30_000;

export class Sessions {
  readonly #host: SessionHost;
  readonly #sessions = new Map<string, Map<number, Session>>();
  /** Containers of ours of which no file tells: reported, and destroyed when the edge says so. */
  #orphans: ContainerSummary[] = [];
  #adopted = false;
  #looking: Loop | undefined;

  constructor(host: SessionHost) {
    this.#host = host;
  }

  /** Reads what the disk tells: the inventory is complete from here on, the engine may still be silent. */
  async load(): Promise<void> {
    const placements = await this.#host.store.load((path, error) => {
      this.#host.log.error('the file of a placement can not be read', { path, error: String(error) });
    });
    for (const placement of placements) this.#add(new Session(this.#host, placement));
  }

  /** Takes up every container and network that is there. Rejects when the engine does not answer, or one can not be taken up: try again. */
  async adopt(): Promise<void> {
    const containers = await this.#host.runtime.listContainers(this.#label());
    // Networks come after the containers on them.
    await this.#host.warm.clear(containers, (warmId) => this.#claimedBy(warmId) !== undefined);
    await this.#host.networks.adopt(this.#boundNetworks());
    this.#orphans = containers.filter((container) => this.#ownerOf(container) === undefined);
    this.#adopted = true;
    const adopting = await Promise.allSettled(this.#all().map((session) => session.adopt()));
    this.#host.warm.start();
    this.#lookAgain();
    for (const each of adopting) if (each.status === 'rejected') throw each.reason;
  }

  async create({ sessionId, generation, order }: IntentOf<'create'>, superseded: AbortSignal): Promise<void> {
    await this.#whenAdopted(superseded);
    await this.#endOlder(sessionId, generation);
    const placement: PlacementFile = { sessionId, generation, spec: order.spec, recorded: [] };
    const session = this.find(sessionId, generation) ?? this.#add(new Session(this.#host, placement));
    await session.start(superseded);
  }

  async stop({ sessionId, generation, order }: IntentOf<'stop'>, superseded: AbortSignal): Promise<void> {
    await this.#whenAdopted(new AbortController().signal);
    const session = this.find(sessionId, generation);
    if (session !== undefined) return session.stop(order, superseded);
    await this.#destroyOrphan(sessionId, generation);
    await this.#host.services.recordEvent({
      sessionId,
      generation,
      atMs: this.#host.clock.nowMs(),
      body: { kind: 'ended', reason: 'host-lost' },
    });
  }

  async remove({ sessionId, generation, order }: IntentOf<'remove'>): Promise<void> {
    await this.#whenAdopted(new AbortController().signal);
    const { homes, spools, uploads } = this.#host;
    // A purge that dies in the middle is ordered again, and then finds no session: the files go in any case.
    await this.#removeNow(sessionId, generation);
    await uploads.removeSession(sessionId);
    if (order.purge !== true) return homes.sessionEnded(sessionId);
    await homes.remove(sessionId);
    await spools.removeSession(sessionId);
  }

  find(sessionId: string, generation: number): Session | undefined {
    return this.#sessions.get(sessionId)?.get(generation);
  }

  inventory(): InventoryItem[] {
    const known = this.#all().map(({ sessionId, generation, state }) => ({ sessionId, generation, state }));
    const orphans = this.#orphans.flatMap((container): InventoryItem[] => {
      const ref = ownerOf(container);
      return ref === undefined ? [] : [{ ...ref, state: container.status === 'running' ? 'running' : 'ended' }];
    });
    return [...known, ...orphans];
  }

  /** Records anew how each session stands. */
  async retell(): Promise<void> {
    await Promise.all(this.#all().map((session) => session.retell()));
  }

  /** Sessions that are not over, and how many of them run. */
  get live(): number {
    return this.#all().filter((session) => session.state !== 'ended').length;
  }

  /** Slots that the sessions which are not over were promised. */
  get promised(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const { state, placement } of this.#all()) {
      if (state === 'ended') continue;
      for (const [slot, amount] of Object.entries(placement.spec.slots)) sum[slot] = (sum[slot] ?? 0) + amount;
    }
    return sum;
  }

  /** For the local status. */
  list(): { sessionId: string; generation: number; state: string; name: string; image: string }[] {
    return this.#all().map(({ sessionId, generation, state, placement: { spec } }) => {
      return { sessionId, generation, state, name: spec.name, image: spec.image };
    });
  }

  /** Destroys what the edge's answer names; each in its own time, none waited for. */
  reconcile({ destroy }: InventoryAnswer): void {
    for (const { sessionId, generation } of destroy) {
      this.#destroy(sessionId, generation).catch((error: unknown) => {
        this.#host.log.error('a container that must go is still there', {
          sessionId,
          generation,
          error: String(error),
        });
      });
    }
  }

  /** What the engine says happened. */
  onEngineEvent({ kind, action, labels: { name = '' } }: EngineEvent): void {
    if (kind === 'network' && action === 'destroy') this.#host.networks.forget(name);
    if (kind !== 'container' || action !== 'die') return;
    const ref = ownerOf({ name });
    const session = ref === undefined ? undefined : this.find(ref.sessionId, ref.generation);
    session?.containerDied().catch(() => undefined);
  }

  async close(): Promise<void> {
    void this.#looking?.stop();
    await Promise.all(this.#all().map((session) => session.close()));
  }

  #all(): Session[] {
    return [...this.#sessions.values()].flatMap((generations) => [...generations.values()]);
  }

  #add(session: Session): Session {
    const generations = this.#sessions.get(session.sessionId) ?? new Map<number, Session>();
    generations.set(session.generation, session);
    this.#sessions.set(session.sessionId, generations);
    return session;
  }

  #label(): Record<string, string> {
    return { [labels.agent]: this.#host.agentId };
  }

  #boundNetworks(): Set<string> {
    const bound = new Set<string>();
    for (const { placement } of this.#all()) {
      if (placement.network !== undefined && placement.removedAtMs === undefined) bound.add(placement.network);
    }
    return bound;
  }

  /** Who took the container of this id, that was started in advance. */
  #claimedBy(warmId: string): Session | undefined {
    return this.#all().find(({ placement }) => placement.warmId === warmId);
  }

  #ownerOf(container: ContainerSummary): Session | undefined {
    const ref = ownerOf(container);
    if (ref !== undefined) return this.find(ref.sessionId, ref.generation);
    // One that was taken gets its name a moment later.
    return this.#claimedBy(container.labels[labels.warm] ?? '');
  }

  /** Orders wait until what an earlier run left is known: else a container could be made twice. */
  async #whenAdopted(signal: AbortSignal): Promise<void> {
    while (!this.#adopted) {
      signal.throwIfAborted();
      await pause(this.#host.timers, 100, signal);
    }
  }

  /** A new generation may not run beside an older one of this agent. */
  async #endOlder(sessionId: string, generation: number): Promise<void> {
    for (const older of this.#sessions.get(sessionId)?.keys() ?? []) {
      if (older < generation) await this.#removeNow(sessionId, older);
    }
  }

  async #removeNow(sessionId: string, generation: number): Promise<void> {
    const session = this.find(sessionId, generation);
    if (session === undefined) {
      await this.#destroyOrphan(sessionId, generation);
      const atMs = this.#host.clock.nowMs();
      return this.#host.services.recordEvent({ sessionId, generation, atMs, body: { kind: 'removed' } });
    }
    await session.remove();
    const generations = this.#sessions.get(sessionId);
    generations?.delete(generation);
    if (generations?.size === 0) this.#sessions.delete(sessionId);
  }

  async #destroy(sessionId: string, generation: number): Promise<void> {
    const { clock } = this.#host;
    const sinceMs = clock.bootMs();
    for (let looks = 0; looks < 2;) {
      const found = await this.#findContainer(sessionId, generation);
      // A wall clock that was set back makes nothing younger than what it has been looked at for.
      const seenMs = clock.bootMs() - sinceMs;
      const ageMs = found === undefined ? destroyAfterMs : Math.max(seenMs, clock.nowMs() - found.createdAtMs);
      if (ageMs >= destroyAfterMs) looks++;
      // Twice, so that nothing is destroyed for what one listing said in the middle of a change.
      await pause(this.#host.timers, ageMs >= destroyAfterMs ? 1_000 : destroyAfterMs - ageMs + 1_000);
    }
    await this.#removeNow(sessionId, generation);
    await this.#host.homes.sessionEnded(sessionId);
  }

  async #findContainer(sessionId: string, generation: number): Promise<ContainerSummary | undefined> {
    const listed = await this.#host.runtime.listContainers(this.#label());
    return listed.find((container) => {
      const ref = ownerOf(container);
      return ref?.sessionId === sessionId && ref.generation === generation;
    });
  }

  async #destroyOrphan(sessionId: string, generation: number): Promise<void> {
    const found = await this.#findContainer(sessionId, generation);
    if (found !== undefined) await this.#host.runtime.removeContainer(found.id);
    this.#orphans = this.#orphans.filter((orphan) => orphan.id !== found?.id);
  }

  /** The safety net under the engine's events: sessions without contact are looked at. */
  #lookAgain(): void {
    this.#looking ??= this.#host.loops.every('look at sessions', lookEveryMs, () => this.#look());
  }

  async #look(): Promise<void> {
    for (const session of this.#all()) {
      if (!session.isOutOfContact) continue;
      const found = await findOurs(this.#host, session.placement);
      if (found?.status !== 'running') session.containerDied().catch(() => undefined);
    }
  }
}
