/**
 * One session at one generation on this agent: from the order to create it to the removal of its container. Each order
 * may come again after a crash at any point; what was done is found by the container's name, the file of the placement
 * and the init. It tells the edge by events, each recorded durably, and never decides where or whether a session runs.
 */
import type { Refusal } from '../../schema/errors.ts';
import type { AgentEvent } from '../../schema/protocol/events.ts';
import type { ProcessExit as InitExit } from '../init/messages.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import type { ImageFacts } from '../runtime/runtime.ts';
import { findOurs, removeContainer } from './container.ts';
import { Deadline, pause } from '../deadline.ts';
import { type EndCause, endOfContainer, endOfMain, reasonOfExit } from './end.ts';
import type { SessionHost } from './host.ts';
import { hasMain, mainArgv, mainProcessId, mainSpawn, recordOf } from './main-process.ts';
import type { End, PlacementFile, StopOrder } from './placement.ts';
import { PlacementRecord } from './placement-record.ts';
import type { SessionKernels } from '../kernels/session-kernels.ts';
import type { SessionTerminals } from '../terminals/session-terminals.ts';
import { makeKernels, startMainKernel } from './kernels.ts';
import { Running } from './running.ts';
import { type MainProcess, SessionStart } from './start.ts';
import { toStartRefusal } from './start-refusal.ts';
import { step } from './step.ts';
import { makeTerminals } from './terminals.ts';

/** What is left in the container gets this long after its main process has ended. */
const leftoverGraceMs = 2_000;
/** How much longer than its grace a stop may take before the engine is asked to kill. */
const stopSlackMs = 15_000;
const timeoutGraceMs = 10_000;
const retryEndMs = 5_000;

export class Session {
  readonly #host: SessionHost;
  readonly #record: PlacementRecord;
  readonly #running: Running;
  /** What runs code in it. */
  readonly kernels: SessionKernels;
  readonly terminals: SessionTerminals;
  readonly #timeout: Deadline;
  readonly #ended = Promise.withResolvers<void>();
  readonly #abandoned = new AbortController();
  readonly #startRecorded = Promise.withResolvers<void>();
  readonly #start: SessionStart;
  #isEnding = false;
  #isRemoved = false;
  #leaseExpired = false;
  #tidying: Promise<void> | undefined;
  #started: Promise<void> = Promise.resolve();

  constructor(host: SessionHost, placement: PlacementFile) {
    const record = new PlacementRecord(host, placement);
    this.#host = host;
    this.#record = record;
    this.#timeout = new Deadline(host);
    this.#running = new Running(host, {
      get placement() {
        return record.now;
      },
      reasonOf: (processId, exit, oomKills) => this.#reasonOf(processId, exit, oomKills),
      processEnded: (processId, exit) => {
        if (processId === this.mainProcessId) this.#endWith(leftoverGraceMs, () => endOfMain(exit));
      },
      leaseExpired: () => this.#onLeaseExpired(),
    });
    this.#start = new SessionStart(host, record, this.#running);
    this.kernels = makeKernels(this, host);
    this.terminals = makeTerminals(this, host);
    if (this.state === 'ended') this.#ended.resolve();
    if (placement.recorded.includes('running')) this.#startRecorded.resolve();
  }

  get placement(): PlacementFile {
    return this.#record.now;
  }

  get sessionId(): string {
    return this.placement.sessionId;
  }

  get generation(): number {
    return this.placement.generation;
  }

  get mainProcessId(): string {
    return mainProcessId(this.sessionId, this.generation);
  }

  /** As the inventory says it. */
  get state(): 'present' | 'running' | 'ended' {
    const { end, failed, startedAtMs } = this.placement;
    if (end !== undefined || failed !== undefined) return 'ended';
    return startedAtMs === undefined ? 'present' : 'running';
  }

  /** The processes, while the session runs. */
  get supervisor(): Supervisor | undefined {
    return this.state === 'running' ? this.#running.supervisor : undefined;
  }

  /** True when contact with the init is lost, so that somebody should look at the container. */
  get isOutOfContact(): boolean {
    return this.state === 'running' && !this.#running.isConnected;
  }

  /** The image's facts. */
  image(): Promise<ImageFacts | undefined> {
    return this.#start.imageFacts();
  }

  /**
   * Carries the order to create out, from wherever an earlier try was left, and resolves when it runs, has failed for
   * good, or `superseded` aborts. Rejects when the engine does not answer: ask again.
   */
  async start(superseded: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([superseded, this.#abandoned.signal]);
    try {
      if (this.state === 'present') await this.#begin(signal);
      if (this.state === 'running') await this.#recordRunning();
      else if (this.placement.failed !== undefined) await this.#finishFailed();
      else await this.#recordEnd();
    } catch (error) {
      if (signal.aborted) return;
      await this.#fail(toStartRefusal(error));
    }
  }

  /** Ends the session and resolves when it has ended and that is recorded. `superseded`: at once, by the engine. */
  async stop({ force, graceMs }: { force: boolean; graceMs: number }, superseded: AbortSignal): Promise<void> {
    // Whoever asks has not heard of its end: that is on its way, where it does no harm twice, or was lost.
    if (this.#isEndRecorded) return this.retell();
    await this.#askToEnd({ force, graceMs, cause: 'stop', atMs: this.#host.clock.nowMs() });
    const waited = pause(this.#host.timers, (force ? 0 : graceMs) + stopSlackMs, superseded);
    await Promise.race([this.#ended.promise, waited]);
    if (this.state !== 'ended') {
      await this.#running.kill();
      await this.containerDied();
    }
    await this.#ended.promise;
    await this.#recordEnd();
  }

  /** Removes container, network and the init's directory; ends the session first if it runs. Records `removed`. */
  async remove(): Promise<void> {
    this.#abandoned.abort();
    if (this.state !== 'ended') await this.stop({ force: true, graceMs: 0 }, this.#abandoned.signal);
    await this.#running.close();
    await Promise.all([this.kernels.remove(), this.terminals.remove()]);
    await this.#tidy();
    await this.#host.spools.generationEnded(this.sessionId, this.generation);
    await this.#record.record({ kind: 'removed' });
    // A write that is still under way, or tried again, would bring the file back.
    this.#isRemoved = true;
    await this.#record.settled();
    await this.#host.store.remove(this.placement);
  }

  /** Takes up what an earlier run of the agent left. */
  async adopt(): Promise<void> {
    if (this.state === 'ended') {
      this.#tidySoon();
      return this.#recordEnd();
    }
    // Not started yet: the order to create is still in the journal and does the rest.
    if (this.state === 'present') return;
    // A crash may have come between the end of that order and the note that its event is recorded.
    this.#recordRunning().catch(() => undefined);
    // Looked at only now: while it was being started, an answer that took its time would tell of what was before.
    const found = await findOurs(this.#host, this.placement);
    if (found?.status !== 'running') return this.containerDied();
    // Looked at before the init may go on writing to it.
    const exit = await this.#mainExit();
    await this.#running.tend();
    await this.#running.listen();
    await this.#armDeadlines();
    await Promise.all([this.kernels.adopt(), this.terminals.adopt()]);
    if (exit !== undefined) this.#endWith(leftoverGraceMs, () => endOfMain(exit));
    else if (this.placement.stop !== undefined) await this.#askToEnd(this.placement.stop);
  }

  /** The engine says that the container does not run (any more). */
  containerDied(): Promise<void> {
    this.#running.noticeGone();
    if (this.state !== 'running') return Promise.resolve();
    this.#endWith(0, async () => {
      const exit = await this.#mainExit();
      const facts = await this.#running.facts();
      return exit === undefined ? endOfContainer(facts, this.#cause(0), this.#host.clock.nowMs()) : endOfMain(exit);
    });
    return this.#ended.promise;
  }

  /** Lets go for the end of the agent: everything goes on by itself. */
  async close(): Promise<void> {
    this.#abandoned.abort();
    this.#timeout.cancel();
    await Promise.all([this.kernels.close(), this.terminals.stop()]);
    await this.#running.close();
    await this.#record.settled();
  }

  #begin(signal: AbortSignal): Promise<void> {
    return this.#start.carryOut(signal, {
      mainOf: (image) => {
        const argv = mainArgv(this.placement.spec, image);
        return argv && (() => this.#mainSpawn(image, argv));
      },
      runs: (image, main) => this.#begun(image, main),
    });
  }

  /** The container runs, and its init has said so. */
  async #begun(image: ImageFacts, main: MainProcess | undefined): Promise<void> {
    const host = this.#host;
    await this.#armDeadlines();
    const spawning = main?.spawn();
    // Not after the answer: a flood of processes keeps the init from giving it.
    this.#running.tend().catch(() => undefined);
    const spool = await spawning;
    if (main !== undefined) await this.terminals.openMain({ isNew: true });
    // Not waited for: until it is on the disk a restarted agent takes the same steps again and finds them done.
    this.#started = this.#record.save({ startedAtMs: host.clock.nowMs(), startedBootMs: host.clock.bootMs() });
    this.#started.catch(() => undefined);
    startMainKernel(this, host, this.#abandoned.signal, this.#start.came?.kernel);
    await this.#armDeadlines();
    host.warm.started(this.placement.spec, image);
    // It ended in an earlier life of the agent, which died before it could note the start.
    const exit = spool?.record.exit;
    if (exit !== undefined) this.#endWith(leftoverGraceMs, () => endOfMain(exit));
  }

  async #recordRunning(): Promise<void> {
    await this.#recordStart();
    if (this.#running.isGone) await this.containerDied();
  }

  get #runs(): Extract<AgentEvent['body'], { kind: 'running' }> {
    const { containerId = '' } = this.placement;
    return { kind: 'running', containerId, ...(this.#start.came === undefined ? {} : { start: this.#start.came.by }) };
  }

  /** Written anew where the disk refused it before. */
  async #recordStart(): Promise<void> {
    const running = this.#record.record(this.#runs);
    await Promise.all([running, this.#started.catch(() => this.#record.save({}))]);
    this.#startRecorded.resolve();
  }

  /** What is kept of the main process is made at once. */
  #mainSpawn(image: ImageFacts, argv: string[]): MainProcess {
    const { sessionId, generation, mainProcessId: processId } = this;
    const { spec } = this.placement;
    const { spools, failpoints, clock } = this.#host;
    const spawn = mainSpawn(sessionId, generation, spec, image, argv);
    const record = recordOf(spawn, spec.output, clock.nowMs());
    return {
      spooled: spools.create({ sessionId, generation, processId }, record),
      spawn: () => step(failpoints, 'runtime.spawn', async () => this.#running.supervisor?.spawn(spawn, record)),
    };
  }

  get #hasMain(): boolean {
    return hasMain(this.placement.spec);
  }

  #onLeaseExpired(): void {
    this.#leaseExpired = true;
    if (this.state === 'running' && !this.#hasMain) this.#endIdle(0);
  }

  #reasonOf(processId: string, exit: InitExit, oomKills: number): string {
    return reasonOfExit(exit, processId === this.mainProcessId ? this.#cause(oomKills) : { oomKills });
  }

  #cause(oomKills: number): EndCause {
    const { stop } = this.placement;
    return { oomKills, leaseExpired: this.#leaseExpired, ...(stop === undefined ? {} : { stop }) };
  }

  async #askToEnd(order: StopOrder): Promise<void> {
    if (this.state === 'ended') return;
    await step(this.#host.failpoints, 'runtime.stop', async () => {
      await this.#record.save({ stop: order });
      const graceMs = order.force ? 0 : order.graceMs;
      if (this.state === 'present') this.#endUnstarted(order);
      else if (this.#hasMain) this.#running.terminate(graceMs);
      else this.#endIdle(graceMs);
    });
  }

  /** A session without a main process ends with its container. */
  #endIdle(graceMs: number): void {
    const reason = reasonOfExit({ kind: 'code', value: 0 }, this.#cause(0));
    this.#endWith(graceMs, () => ({ reason, atMs: this.#host.clock.nowMs() }));
  }

  #endUnstarted(order: StopOrder): void {
    this.#startRecorded.resolve();
    this.#endWith(0, () => ({ reason: order.force ? 'killed' : 'stopped', atMs: this.#host.clock.nowMs() }));
  }

  /**
   * The one way to an end; the first cause wins. What still runs in the container is ended, then the container, then
   * the end is recorded, so that what it used is free when the edge hears of it. Tried until it works.
   */
  #endWith(graceMs: number, find: () => End | Promise<End>): void {
    if (this.#isEnding || this.state === 'ended') return;
    this.#isEnding = true;
    this.#timeout.cancel();
    this.#tryEnd(graceMs, find);
  }

  /** Again and again: what is known of the end in memory is not the end before it is on the disk. */
  #tryEnd(graceMs: number, find: () => End | Promise<End>): void {
    this.#endNow(graceMs, find).catch((error: unknown) => {
      const { sessionId, generation } = this;
      this.#host.log.warn('a session can not be ended yet', { sessionId, generation, error: String(error) });
      if (!this.#isRemoved) this.#host.timers.after(retryEndMs, () => this.#tryEnd(graceMs, find));
    });
  }

  async #endNow(graceMs: number, find: () => End | Promise<End>): Promise<void> {
    // The order that started it may have been given up before it could record that.
    await (this.placement.startedAtMs === undefined ? this.#startRecorded.promise : this.#recordStart());
    await this.#running.empty(graceMs);
    const end = await find();
    const outputBytes = await this.#readMain((spool) => spool?.totals);
    await this.#record.save({ end: { ...end, ...(outputBytes === undefined ? {} : { outputBytes }) } });
    await this.#recordEnd();
    this.#ended.resolve();
    this.#tidySoon();
  }

  /** Container and network are of no more use once the session has ended. */
  #tidy(): Promise<void> {
    this.#tidying ??= this.#tidyNow().finally(() => {
      this.#tidying = undefined;
    });
    return this.#tidying;
  }

  async #tidyNow(): Promise<void> {
    if (this.placement.removedAtMs !== undefined) return;
    await removeContainer(this.#host, this.placement);
    await this.#record.save({ removedAtMs: this.#host.clock.nowMs() });
  }

  /** When they can not be removed now, the order to remove the session does it. */
  #tidySoon(): void {
    this.#tidy().catch((error: unknown) => {
      const { sessionId, generation } = this;
      this.#host.log.warn('an ended container is not removed yet', { sessionId, generation, error: String(error) });
    });
  }

  /** The recorded end of the main process, if the init told it. */
  async #mainExit(): Promise<ProcessExit | undefined> {
    const exit = await this.#readMain((spool) => spool?.record.exit);
    return exit?.reason === 'host-lost' || exit?.reason === 'session-ended' ? undefined : exit;
  }

  async #readMain<T>(look: (spool: ProcessSpool | undefined) => T): Promise<T> {
    const { sessionId, generation, mainProcessId: processId } = this;
    const read = await this.#host.spools.read({ sessionId, generation, processId });
    const seen = look(read?.spool);
    await read?.done();
    return seen;
  }

  /** Gives up for good: nothing of the placement is left but the record of why. */
  async #fail(refusal: Refusal): Promise<void> {
    const retryable = refusal.code === 'session_start_failed' || refusal.retryAfterSeconds !== undefined;
    const failed = { code: refusal.code, detail: (refusal.detail ?? refusal.message).slice(0, 1024), retryable };
    this.#host.log.warn('a session could not be started', { sessionId: this.sessionId, ...failed });
    await this.#running.giveUp('failed');
    await this.#record.save({ failed });
    await this.#finishFailed();
  }

  /** What is left to do of a failed start; again where the disk or the engine refused it before. */
  async #finishFailed(): Promise<void> {
    await this.#record.save({});
    // A later order to stop it does not wait for the engine.
    this.#ended.resolve();
    await this.#tidy();
    await this.#recordEnd();
  }

  get #isEndRecorded(): boolean {
    const { recorded } = this.placement;
    return recorded.includes('ended') || recorded.includes('failed');
  }

  /** For an edge that has forgotten what it was told: what was recorded of this placement is recorded anew. */
  async retell(): Promise<void> {
    await this.#record.forget();
    if (this.placement.startedAtMs !== undefined) await this.#record.record(this.#runs);
    await this.#recordEnd();
  }

  async #recordEnd(): Promise<void> {
    const { end, failed } = this.placement;
    if (failed !== undefined) return this.#record.record({ kind: 'failed', ...failed });
    if (end === undefined) return;
    const { atMs: _, ...how } = end;
    await this.#record.record({ kind: 'ended', ...how });
  }

  async #armDeadlines(): Promise<void> {
    const { spec, startedBootMs } = this.placement;
    if (spec.leaseMs !== undefined) await this.#running.holdLease(spec.leaseMs);
    if (spec.timeoutMs === undefined || startedBootMs === undefined) return;
    this.#timeout.at(startedBootMs + spec.timeoutMs, () => {
      const order = { cause: 'timeout' as const, force: false, graceMs: timeoutGraceMs };
      this.#askToEnd({ ...order, atMs: this.#host.clock.nowMs() }).catch((error: unknown) => {
        this.#host.log.error('a session is over its time and could not be stopped', { error: String(error) });
      });
    });
  }
}
