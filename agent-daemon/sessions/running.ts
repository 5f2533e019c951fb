/**
 * The container of a session while it runs: contact with its init, the run lease, memory, and the ways to empty it. It
 * reports to the session and decides nothing about it.
 */
import { Refusal } from '../../schema/errors.ts';
import { type ProcessExit as InitExit, nonceBytes } from '../init/messages.ts';
import type { SessionKey } from '../init/session-key.ts';
import type { ProcessExit } from '../output/process-record.ts';
import { Supervisor, type SupervisorOwner } from '../processes/supervisor.ts';
import { countOomKills, findMemoryEvents } from '../runtime/cgroup.ts';
import type { ContainerFacts } from '../runtime/runtime.ts';
import { keepAttached } from './attachment.ts';
import { findOurs, makeRunDir, runDirOf } from './container.ts';
import { pause } from '../deadline.ts';
import type { SessionHost } from './host.ts';
import type { PlacementFile } from './placement.ts';
import { step } from './step.ts';

/** From the container's start to the init's first word. */
const initMs = 30_000;
/** How much longer than its grace emptying may take before the engine is asked to kill. */
const emptySlackMs = 10_000;
const lookEveryMs = 100;
const looksBeforeKill = 50;

export interface RunningOwner {
  readonly placement: PlacementFile;
  /** Why a process ended: `oomKills` of the whole container so far. */
  reasonOf(processId: string, exit: InitExit, oomKills: number): string;
  processEnded(processId: string, exit: ProcessExit): void;
  leaseExpired(): void;
}

export class Running {
  readonly #host: SessionHost;
  readonly #owner: RunningOwner;
  readonly #gone = new AbortController();
  #supervisor: Supervisor | undefined;
  #memoryEvents: string | undefined;
  #endRenewals: () => void = () => undefined;
  readonly #closed = new AbortController();
  #isAttaching = false;

  constructor(host: SessionHost, owner: RunningOwner) {
    this.#host = host;
    this.#owner = owner;
  }

  get supervisor(): Supervisor | undefined {
    return this.#supervisor;
  }

  /** The container does not run any more, as far as anybody has noticed. */
  get isGone(): boolean {
    return this.#gone.signal.aborted;
  }

  get isConnected(): boolean {
    return this.#supervisor?.link.state === 'connected';
  }

  /** Makes the init's door ready: before the container starts, or after a restart of the agent. */
  async listen(): Promise<void> {
    if (this.#supervisor !== undefined) return;
    const { placement } = this.#owner;
    const { store } = this.#host;
    await makeRunDir(this.#host, placement);
    const place = {
      runDir: runDirOf(this.#host, placement),
      sessionKey: await this.#key(),
      transport: placement.transport ?? ('socket' as const),
      saveSessionKey: (key: SessionKey) => store.saveKey(placement, key),
    };
    this.#supervisor = new Supervisor(this.#toOwner(), place, this.#host);
    await this.#supervisor.link.listen();
    if (placement.transport === 'stdio' && placement.startedAtMs !== undefined) this.attach();
  }

  /** Takes a container that was started in advance, with its init. */
  moveIn(supervisor: Supervisor): void {
    supervisor.giveTo(this.#toOwner());
    this.#supervisor = supervisor;
  }

  /** Leaves a container in which nothing was started. The door of another can be made ready. */
  async moveOut(): Promise<void> {
    await this.#supervisor?.close();
    this.#supervisor = undefined;
  }

  #toOwner(): SupervisorOwner {
    const { sessionId, generation } = this.#owner.placement;
    return {
      sessionId,
      generation,
      connected: ({ leaseExpired }) => {
        if (leaseExpired) this.#owner.leaseExpired();
      },
      leaseExpired: () => this.#owner.leaseExpired(),
      reasonOf: async (processId, exit) =>
        this.#owner.reasonOf(processId, exit, await countOomKills(this.#host.disk, this.#memoryEvents)),
      ended: (processId, exit) => this.#owner.processEnded(processId, exit),
    };
  }

  /** The container runs: over stdio, contact begins with us. Over a socket it begins with the init. */
  attach(): void {
    const link = this.#supervisor?.link;
    const { containerId, transport } = this.#owner.placement;
    if (transport !== 'stdio' || containerId === undefined || link === undefined || this.#isAttaching) return;
    this.#isAttaching = true;
    const { timers, log, runtime } = this.#host;
    const signal = AbortSignal.any([this.#gone.signal, this.#closed.signal]);
    void keepAttached(link, { timers, log, attach: () => runtime.attachContainer(containerId) }, signal);
  }

  /** The init's key, made before the container starts, so that its first contact waits for one write less. */
  async #key(): Promise<SessionKey> {
    const { store, random, failpoints } = this.#host;
    const { placement } = this.#owner;
    const known = await store.findKey(placement);
    if (known !== undefined) return known;
    const key = { bytes: random.bytes(nonceBytes), confirmed: false };
    await step(failpoints, 'runtime.initKey', () => store.saveKey(placement, key));
    return key;
  }

  /** Waits for the init's first contact. @throws Refusal when the container ends instead, or nothing comes */
  async whenConnected(): Promise<void> {
    const gone = new Promise<void>((resolve) => this.#gone.signal.addEventListener('abort', () => resolve()));
    // Not the first contact alone: it may be lost again while an order is repeated.
    const ready = this.#supervisor?.link.ready().catch(() => undefined);
    await Promise.race([ready, gone, pause(this.#host.timers, initMs, this.#gone.signal)]);
    if (this.isConnected) return;
    const facts = await this.facts();
    const how =
      facts?.status === 'running' ? 'runs but can not reach the agent' : `ended at once (code ${facts?.exitCode})`;
    throw new Refusal('session_start_failed', `The container ${how}: its first process never reported.`);
  }

  /** The run lease of a restartable session: renewed only by the agent, and only for what is left of its own. */
  async holdLease(leaseMs: number): Promise<void> {
    const { leases } = this.#host.services;
    const renew = async (): Promise<void> => this.#supervisor?.link.lease(leases.runRemainingMs(leaseMs) / 1000);
    this.#endRenewals();
    this.#endRenewals = leases.onRenew(() => void renew().catch(() => undefined));
    if (this.isConnected) await renew();
  }

  /** From now on the kernel's memory killer is told apart, and the init has the processor before what it started. */
  async tend(): Promise<void> {
    const pid = (await this.facts())?.pid ?? 0;
    if (pid === 0) return;
    await this.#host.runtime.favour(pid);
    this.#memoryEvents = await findMemoryEvents(this.#host.disk, pid);
  }

  facts(): Promise<ContainerFacts | undefined> {
    return findOurs(this.#host, this.#owner.placement);
  }

  /** Asks every process to end, with SIGKILL after `graceMs`. The answer is their exits. */
  terminate(graceMs: number): void {
    this.#supervisor?.link.terminate(graceMs).catch(() => undefined);
  }

  /** Ends everything in the container, keeps its output and exits, and resolves when the container does not run. */
  async empty(graceMs: number): Promise<void> {
    this.#endRenewals();
    const supervisor = this.#supervisor;
    if (this.isConnected && supervisor !== undefined) {
      const done = new AbortController();
      const cancel = this.#host.timers.after(graceMs + emptySlackMs, () => done.abort());
      this.terminate(graceMs);
      await supervisor.whenAllEnded(AbortSignal.any([done.signal, this.#gone.signal]));
      cancel();
      supervisor.link.shutdown(true).catch(() => undefined);
    }
    await this.#whenStopped();
    await this.giveUp('session-ended');
  }

  /** Nothing runs any more: what had not ended has ended now, with this reason, also what this agent never took over. */
  async giveUp(reason: string): Promise<void> {
    await this.#supervisor?.giveUp(reason);
    const { sessionId, generation } = this.#owner.placement;
    await this.#host.spools.endAll(sessionId, generation, { reason, atMs: this.#host.clock.nowMs() });
  }

  /** The last resort: the engine kills the init, and with it everything in the container. */
  async kill(): Promise<void> {
    const found = await this.facts();
    if (found !== undefined) await this.#host.runtime.killContainer(found.id);
  }

  /** The container does not run any more. */
  noticeGone(): void {
    this.#gone.abort();
    this.#endRenewals();
  }

  /** Lets go of the init, which goes on. */
  async close(): Promise<void> {
    this.#endRenewals();
    this.#closed.abort();
    await this.#supervisor?.close();
  }

  async #whenStopped(): Promise<void> {
    for (let looks = 1; ; looks++) {
      const facts = await this.facts();
      if (facts?.status !== 'running') return this.noticeGone();
      // At once where no init is there to end it, else when it had its time.
      if (!this.isConnected || looks % looksBeforeKill === 0) await this.#host.runtime.killContainer(facts.id);
      await pause(this.#host.timers, lookEveryMs);
    }
  }
}
