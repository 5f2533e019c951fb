/**
 * One kernel of Jupyter: a process of causeway-init's bridge with the kernel behind it. It reads the log to know how the
 * kernel is and what becomes of its runs, starts it anew when it ends by itself, and goes on with all that after the death of
 * the agent. It holds no output: whoever wants it reads the log.
 */
import { constants } from 'node:os';
import type { Kernel as KernelView } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import { bridgeChannel, BridgeNote, runsWriter } from '../../schema/protocol/channels.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { Bell } from '../bell.ts';
import { JupyterInput } from './jupyter-input.ts';
import { JupyterReading } from './jupyter-reading.ts';
import { requestsOf } from './jupyter-requests.ts';
import { JupyterRuns } from './jupyter-runs.ts';
import type { KernelOwner } from './kernel.ts';
import { KernelLife, nextRestarts, outcomeOf } from './kernel-life.ts';
import { type LogRecord, parseObject, typeOf } from './records.ts';
import type { Ask, RunKernel } from './runs.ts';
import type { Offsets, SavedJupyterKernel, SavedRun } from './saved.ts';

/** How long a kernel may take to end by itself when it is asked to: its bridge kills it after 5 s. */
const shutdownMs = 7_000;
const restartMs = 2_000;

/** How one start of a kernel ended. */
export interface StartEnd {
  exit: ProcessExit;
  restarts: boolean;
}

export class JupyterKernel implements RunKernel {
  readonly #owner: KernelOwner;
  readonly #life: KernelLife;
  readonly input: JupyterInput;
  readonly #runs: JupyterRuns;
  #saved: SavedJupyterKernel;
  #state: KernelView['state'] = 'starting';
  #inAdvance: KernelView['inAdvance'];
  /** When it last published something, as far as it was read. */
  #activeAtMs: number;
  /** Of the log of this start. */
  #reading: JupyterReading;
  /** Somebody ends it: what its end leads to is theirs to say. */
  #isEnding = false;
  /** The start of which there is a process, or was. */
  #spawned = 0;
  #restartsNext = false;
  /** Restarts and its end, one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #end: StartEnd | undefined;

  constructor(owner: KernelOwner, saved: SavedJupyterKernel) {
    this.#owner = owner;
    this.#saved = saved;
    this.#activeAtMs = owner.clock.nowMs();
    const { sessionId, clock, timers, disk, log } = owner;
    this.#life = new KernelLife({ sessionId, kernelId: saved.kernelId, timers, log });
    const { bell } = this;
    const failed = (error: unknown) => this.#failed(error);
    this.input = new JupyterInput(owner.inputPath(saved.kernelId), {
      timers,
      disk,
      bell,
      taking: () => (this.#isTaking ? this.#saved.starts : undefined),
      write: (offset, bytes) => owner.supervisor().writeInput(this.processId, offset, bytes),
      failed,
    });
    this.#reading = this.#readingFrom(0);
    this.#runs = new JupyterRuns({
      clock,
      timers,
      bell,
      failed,
      save: (record) => owner.save(record),
      isReady: () => this.#state !== 'starting',
      death: () => this.#life.death,
      starts: () => this.#saved.starts,
      seen: () => this.#reading.seen,
      readTo: () => this.#reading.readTo,
      say: (text, changes) => this.#say(text, changes),
      asked: () => this.#reading.hold(),
      signal: (name) => (name === 'kill' ? this.#signal('SIGKILL', 'session') : this.#signal('SIGINT', 'process')),
    });
  }

  get bell(): Bell {
    return this.#life.bell;
  }

  get saved(): SavedJupyterKernel {
    return this.#saved;
  }

  get processId(): string {
    return this.#owner.processId(this.#saved.kernelId, this.#saved.starts);
  }

  get state(): KernelView['state'] {
    return this.#life.death === undefined ? this.#state : 'dead';
  }

  /** It was there, at this start. */
  get hasAnswered(): boolean {
    return this.#state !== 'starting';
  }

  get view(): KernelView {
    const { kernelId: id, spec, starts, startedAtMs, restarts } = this.#saved;
    const { death } = this.#life;
    return {
      id,
      spec,
      state: this.state,
      starts,
      startedAtMs,
      activeAtMs: Math.max(startedAtMs, this.#activeAtMs),
      queued: this.#runs.queued,
      ...(this.#inAdvance === undefined ? {} : { inAdvance: this.#inAdvance }),
      ...(restarts === undefined ? {} : { restarts }),
      ...(death === undefined ? {} : { death }),
    };
  }

  /** Its process is there: an init takes what is written before that for what nobody will ever read. */
  get #isTaking(): boolean {
    return this.#spawned === this.#saved.starts && this.#life.death === undefined && !this.#life.signal.aborted;
  }

  /** Where in the log of this start the next record begins, as far as it was read; undefined behind a gap, until one was found. */
  get boundary(): number | undefined {
    return this.#reading.boundary;
  }

  /** How a start ended; undefined while it has not, or what follows is not decided. */
  endOf(starts: number, exit: ProcessExit): StartEnd | undefined {
    if (starts < this.#saved.starts) return { exit, restarts: true };
    // One that died with its session is started by nobody.
    return this.#end ?? (this.#life.death === undefined ? undefined : { exit, restarts: false });
  }

  /** Starts the process of this start. @throws Refusal when the session can not start it now */
  start(): Promise<void> {
    return this.#start((spawn) => spawn());
  }

  /** `insisting`: how what the disk may refuse is done. */
  async #start(insisting: (spawn: () => Promise<void>) => Promise<void>): Promise<void> {
    const { starts } = this.#saved;
    try {
      await insisting(async () => {
        await this.input.open(starts);
        await this.#owner.spawn(this.#saved);
      });
      this.#follow();
    } catch (error) {
      // It is not there, and nobody else would say so.
      this.#isDead({ reason: 'not-started' });
      throw error;
    } finally {
      this.#spawned = starts;
      this.bell.ring();
    }
    this.input.give();
  }

  /** Goes on with a kernel of an earlier agent, and with its runs, oldest first. */
  async adopt(runs: readonly SavedRun[]): Promise<void> {
    const { sessionId, generation } = this.#owner;
    const { processId } = this;
    const kept = await this.#life.insist(() => this.#owner.spools.read({ sessionId, generation, processId }));
    const exit = kept?.spool.record.exit;
    const log = kept?.spool.log('stdout');
    const [end, from] = [log?.end ?? 0, log?.keptFrom(0) ?? 0];
    await kept?.done();
    // The agent may have died before the process was there, or before it knew that; asking for it again is harmless.
    if (exit === undefined && end === 0) {
      this.#runs.adopt(runs, 0);
      return this.#start((spawn) => this.#life.insist(spawn));
    }
    await this.#life.insist(() => this.input.open(this.#saved.starts));
    this.#spawned = this.#saved.starts;
    this.#reading = this.#readingFrom(from);
    // It said that it is there in what was dropped since, or it was given a run.
    if (from > 0 || runs.some(({ given }) => given === this.#saved.starts)) this.#state = 'idle';
    const { frame } = this.#saved;
    // What the earlier agent was about to say for a run.
    if (exit === undefined && frame !== undefined && frame.text !== '') this.input.sayAgain(frame);
    this.#runs.adopt(runs, from);
    this.#runs.next();
    this.#follow();
    if (exit === undefined) this.input.give();
  }

  /** Resolves when there is a log of this start, or there will be none. @throws Refusal `session_output_gone` */
  async whenStart(starts: number, signal: AbortSignal): Promise<void> {
    // Earlier starts are over, also where an agent that has just begun has not taken this one up yet.
    const isToCome = () => starts >= this.#saved.starts && starts > this.#spawned;
    for (let turn = this.bell.turn; isToCome() && !signal.aborted; turn = this.bell.turn) {
      const comes =
        starts === this.#saved.starts || (starts === this.#saved.starts + 1 && this.#end?.restarts === true);
      if (!comes || this.#saved.closed) throw new Refusal('session_output_gone', 'It was not started so often.');
      await this.bell.past(turn, signal);
    }
  }

  /** Resolves when it answers, is dead, or `signal` aborts. */
  async whenStarted(signal: AbortSignal): Promise<void> {
    await this.bell.whileSo(() => this.state === 'starting', signal);
  }

  /** Interrupts what it runs, in the way of its kernelspec; `run`: only if it is that one. */
  async interrupt(run?: SavedRun): Promise<void> {
    if (run !== undefined) await this.#runs.interrupt(run);
    else if (this.#life.death === undefined) await this.#signal('SIGINT', 'process');
  }

  /** Takes a run, behind those that wait. @throws Refusal `kernel_kind_wrong`, `kernel_dead`, `kernel_busy` */
  take(run: SavedRun): Promise<void> {
    return this.#runs.take(run);
  }

  requestsOf({ runId }: SavedRun): string {
    return requestsOf(runId);
  }

  reach(run: SavedRun): Offsets {
    return this.#runs.reach(run);
  }

  asks(run: SavedRun): Ask | undefined {
    return this.#runs.asks(run);
  }

  async answer(run: SavedRun, at: number, text: string): Promise<void> {
    // An agent that has just begun does not know yet what is asked.
    if (run.ended === undefined && this.asks(run) === undefined)
      await this.#life.whileSo(() => !this.#reading.isCaughtUp);
    await this.#runs.answer(run, at, text);
  }

  /** Ends it: politely for a while, if there is one. Resolves when its end is known. */
  async kill(politelyMs = shutdownMs): Promise<void> {
    if (this.#life.death !== undefined) return;
    this.#isEnding = true;
    // What nobody reads must not keep its end from being heard.
    const stop = this.#reading.flow();
    const cancel = this.#owner.timers.after(politelyMs, () => {
      this.#signal('SIGKILL', 'session').catch((error: unknown) => this.#failed(error));
    });
    try {
      // It may have ended by itself meanwhile.
      await this.#signal('SIGTERM', 'process').catch((error: unknown) => this.#failed(error));
      await this.#life.whenDead();
    } finally {
      cancel();
      stop();
    }
    // What it started and left behind.
    await this.#signal('SIGKILL', 'session').catch(() => undefined);
  }

  /** Starts anew with nothing of its state; only if it was started so often. @throws Refusal */
  restart(ifStarts?: number): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#saved.closed) throw new Refusal('kernel_not_found');
      if (ifStarts !== undefined && ifStarts !== this.#saved.starts) return;
      this.#restartsNext = true;
      try {
        await this.kill(restartMs);
        await this.#startAnew([]);
      } finally {
        this.#restartsNext = false;
      }
    });
  }

  /** Ends it, for good. */
  shutdown(): Promise<void> {
    return this.#inTurn(async () => {
      await this.kill();
      await this.shut();
    });
  }

  /** It is not listed any more, and takes nothing. */
  async shut(): Promise<void> {
    const { kernelId } = this.#saved;
    const frame = { at: 0, text: '' };
    this.#saved = { ...this.#saved, frame, closed: true };
    await this.#owner.save({ kernel: { kernelId, frame, closed: true } });
    await this.input.remove();
    this.bell.ring();
  }

  /** Its session is over: whoever waits for it to start, or to be read, is told. */
  over(): void {
    const wasStarted = this.#spawned === this.#saved.starts;
    this.#spawned = this.#saved.starts;
    this.input.over();
    if (this.#life.death === undefined) this.#isDead({ reason: wasStarted ? 'killed' : 'not-started' });
  }

  /** Lets go: the kernel goes on by itself. */
  async close(): Promise<void> {
    this.#life.letGo();
    this.#runs.close();
    await this.input.close();
  }

  /** Keeps what is to be said for a run with what that changes of it, in one record, and says it once. */
  #say(text: string, changes: Partial<SavedRun> & { runId: string }): Promise<void> {
    const { kernelId } = this.#saved;
    return this.input.say(text, async (frame) => {
      this.#saved = { ...this.#saved, frame };
      await this.#owner.save({ kernel: { kernelId, frame }, run: changes });
    });
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  // ---- what it says ----

  #readingFrom(from: number): JupyterReading {
    const { sessionId, generation, spools } = this.#owner;
    return new JupyterReading({ sessionId, generation, processId: this.processId }, from, {
      spools,
      bell: this.bell,
      hear: (record) => this.#hear(record),
      missed: (at) => this.#missed(at),
      isBusy: () => this.#runs.isBusy,
    });
  }

  #follow(): void {
    const { signal } = this.#life;
    this.#reading
      .read(this.#life.insistence)
      .then((exit) => {
        if (exit !== undefined && !signal.aborted) return this.#died(exit);
        return undefined;
      })
      .catch((error: unknown) => this.#failed(error));
  }

  #hear(record: LogRecord): void {
    this.#runs.hear(record);
    if (record.channel === bridgeChannel) {
      const note = BridgeNote.safeParse(parseObject(record.content)).data;
      if (note?.kind === 'ready') {
        this.#inAdvance = note.inAdvance;
        this.#become('idle');
      }
      this.#runs.next();
      return;
    }
    if (record.channel !== 'iopub') return;
    this.#activeAtMs = this.#owner.clock.nowMs();
    const type = typeOf(record.header);
    if (type === 'stream') this.#reading.published(record.content);
    if (type !== 'status' || this.#state === 'starting') return;
    const said = parseObject(record.content)?.['execution_state'];
    if (said === 'idle' || said === 'busy') this.#become(said);
  }

  /** Perhaps that it is ready: what is said to it before that waits. */
  #missed(at: number): void {
    if (this.#state === 'starting') {
      this.#become('idle');
      this.#runs.next();
    } else this.#runs.missed(at);
  }

  #become(state: 'idle' | 'busy'): void {
    if (this.#state === state) return;
    this.#state = state;
    this.bell.ring();
  }

  // ---- its end ----

  async #died(exit: ProcessExit): Promise<void> {
    const { starts } = this.#saved;
    const again = this.#isEnding ? undefined : nextRestarts(this.#saved, exit, this.#owner.clock.nowMs());
    this.#end = { exit, restarts: this.#restartsNext || again !== undefined };
    this.#isDead(outcomeOf(exit));
    if (again === undefined) return;
    const { sessionId } = this.#owner;
    this.#owner.log.warn('a kernel ended by itself and is started anew', { sessionId, ...this.#life.death });
    await this.#inTurn(async () => {
      // Somebody was faster.
      if (this.#saved.closed || this.#saved.starts !== starts) return;
      await this.#signal('SIGKILL', 'session').catch(() => undefined);
      await this.#startAnew(again);
    });
  }

  #isDead(how: ExecuteOutcome): void {
    this.#life.die(how, this.#reading.lastWords);
    this.#runs.died(how);
  }

  async #startAnew(restartedAtMs: number[]): Promise<void> {
    const starts = this.#saved.starts + 1;
    const startedAtMs = this.#owner.clock.nowMs();
    const { kernelId } = this.#saved;
    // What was said for runs before is not said again.
    const frame = { at: this.input.offsetOf(runsWriter), text: '' };
    const changes = { starts, startedAtMs, restartedAtMs, frame };
    this.#saved = { ...this.#saved, ...changes };
    // Before the journal: it follows what is kept here.
    await this.#owner.save({ kernel: { kernelId, ...changes } });
    await this.#life.insist(() => this.input.restart(starts));
    this.#life.begin();
    this.#state = 'starting';
    this.#inAdvance = undefined;
    this.#end = undefined;
    this.#isEnding = false;
    this.#reading = this.#readingFrom(0);
    this.bell.ring();
    await this.#start((spawn) => this.#life.insist(spawn));
  }

  async #signal(name: 'SIGINT' | 'SIGTERM' | 'SIGKILL', scope: 'process' | 'session'): Promise<void> {
    await this.#owner.supervisor().link.signal(this.processId, constants.signals[name], scope);
  }

  /** A refusal is for whoever asked. */
  #failed(error: unknown): void {
    if (!(error instanceof Refusal)) this.#life.failed(error);
  }
}
