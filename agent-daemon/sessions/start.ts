/**
 * The way of a session from the order to create it to a container that runs, with its init in contact. It may be gone again
 * after a crash at any point: what an earlier try left is taken over. What then runs in there is the session's.
 */
import type { AgentEvent } from '../../schema/protocol/events.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import { type ImageFacts, RuntimeError } from '../runtime/runtime.ts';
import { type CreatedContainer, createContainer, makeHome, settleIn, startContainer } from './container.ts';
import type { SessionHost } from './host.ts';
import { findOrPull } from './image-step.ts';
import { type Came, moveIn, moveOut } from './moving.ts';
import type { PlacementRecord } from './placement-record.ts';
import type { Running } from './running.ts';
import { step } from './step.ts';

/** The main process of a session before it is one. */
export interface MainProcess {
  /** Resolves when its output can be kept. */
  spooled: Promise<unknown>;
  /** Asks the init for it. Resolves with what is kept of it, also of one that an earlier try started. */
  spawn(): Promise<ProcessSpool | undefined>;
}

/** The session. */
export interface Starting {
  /** What makes the main process ready; undefined when there is none. @throws Refusal when the image does not say what to run */
  mainOf(image: ImageFacts): (() => MainProcess) | undefined;
  /** The container runs, and its init has said so. */
  runs(image: ImageFacts, main: MainProcess | undefined): Promise<void>;
}

export class SessionStart {
  readonly #host: SessionHost;
  readonly #record: PlacementRecord;
  readonly #running: Running;
  #image: ImageFacts | undefined;
  #came: Came | undefined;
  /** A container that was started in advance gets its name. */
  #settling: ReturnType<typeof settleIn> | undefined;

  constructor(host: SessionHost, record: PlacementRecord, running: Running) {
    this.#host = host;
    this.#record = record;
    this.#running = running;
  }

  /** How the session got its container, as far as this run of the agent knows. */
  get came(): Came | undefined {
    return this.#came;
  }

  /** Of its image, once that was found. */
  async imageFacts(): Promise<ImageFacts | undefined> {
    const { imageId } = this.#record.now;
    if (this.#image === undefined && imageId !== undefined) this.#image = await this.#host.runtime.findImage(imageId);
    return this.#image;
  }

  /** Rejects with a Refusal for good, else when the engine does not answer or `signal` aborted. */
  async carryOut(signal: AbortSignal, session: Starting): Promise<void> {
    this.#came = await moveIn(this.#moving);
    // What needs no image is made ready meanwhile.
    const [network, door] = [this.#takeNetwork(), this.#makeDoor()];
    const ready = Promise.all([network, door]);
    this.#settling = this.#record.now.warmId === undefined ? undefined : settleIn(this.#host, this.#record.now);
    // They are waited for later, and may fail before.
    for (const each of [ready, this.#settling]) each?.catch(() => undefined);
    try {
      await this.#whenReady(ready, signal, session);
    } catch (error) {
      // What is given up must not get a network afterwards, and what is tried again no second one, and no second door.
      await Promise.allSettled([network, door, this.#settling]);
      throw error;
    }
  }

  async #whenReady(ready: Promise<[string, void]>, signal: AbortSignal, session: Starting): Promise<void> {
    const host = this.#host;
    const record = (body: AgentEvent['body']) => this.#record.record(body);
    const { facts } = await findOrPull(host, this.#record.now, record, signal, this.#came?.image);
    this.#image = facts;
    const readyMain = session.mainOf(facts);
    const creating = this.#record.record({ kind: 'creating' });
    // It is waited for last, and may fail before.
    creating.catch(() => undefined);
    const [[network]] = await Promise.all([ready, this.#makeHome(facts)]);
    await host.services.leases.whenStartHeld(signal);
    await host.starts.run(() => this.#run(facts, network, readyMain, signal, session));
    await creating;
  }

  async #run(
    image: ImageFacts,
    network: string,
    readyMain: (() => MainProcess) | undefined,
    signal: AbortSignal,
    session: Starting,
  ): Promise<void> {
    const host = this.#host;
    signal.throwIfAborted();
    if (!host.services.leases.startHeld()) throw new RuntimeError('unavailable', 'the start lease ran out');
    const { id, hasEnded, runs } = await this.#makeContainer(image, network);
    if (hasEnded) return this.#foundDead(id);
    // Who takes one that was started in advance notes that before.
    const saved = runs
      ? Promise.resolve()
      : this.#record.save({ containerId: id, imageId: image.id, imageEnv: image.env });
    // A later order may come before this is waited for.
    saved.catch(() => undefined);
    signal.throwIfAborted();
    const main = readyMain?.();
    // What the main process says is kept from the first byte on: that is made ready while the engine starts the container.
    await Promise.all([saved, main?.spooled, runs ? undefined : startContainer(host, id)]);
    this.#running.attach();
    await this.#running.whenConnected();
    await session.runs(image, main);
  }

  /** The way to the init is chosen once for a container, and kept. */
  async #makeDoor(): Promise<void> {
    const { containerId, transport } = this.#record.now;
    const chosen = transport ?? (containerId === undefined ? await this.#host.transport() : 'socket');
    if (chosen !== transport && chosen === 'stdio') await this.#record.save({ transport: chosen });
    await this.#running.listen();
  }

  #makeHome(image: ImageFacts): Promise<void> {
    return step(this.#host.failpoints, 'runtime.home', () => makeHome(this.#host, this.#record.now.sessionId, image));
  }

  /** The container: the one that was started in advance, or a new one. `runs`: it is started. */
  async #makeContainer(image: ImageFacts, given: string): Promise<CreatedContainer & { runs: boolean }> {
    let network = given;
    if (this.#settling !== undefined) {
      const settled = await this.#settling;
      if (settled !== undefined) return { ...settled, runs: true };
      this.#came = await moveOut(this.#moving);
      [network] = await Promise.all([this.#takeNetwork(), this.#running.listen()]);
    }
    return { ...(await createContainer(this.#host, this.#record.now, image, network)), runs: false };
  }

  get #moving() {
    return { host: this.#host, record: this.#record, running: this.#running };
  }

  /** It ran in an earlier life of the agent and is over: never start it a second time. */
  async #foundDead(id: string): Promise<void> {
    // First: tried again, where it can not be kept yet, it counts as started.
    this.#running.noticeGone();
    await this.#record.save({ containerId: id, startedAtMs: this.#host.clock.nowMs() });
  }

  async #takeNetwork(): Promise<string> {
    const { network } = this.#record.now;
    if (network !== undefined && this.#host.networks.names.includes(network)) return network;
    return step(this.#host.failpoints, 'runtime.network', async () => {
      const taken = await this.#host.networks.take();
      await this.#record.save({ network: taken });
      return taken;
    });
  }
}
