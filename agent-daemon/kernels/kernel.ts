/**
 * One kernel: a process with our runner in it. It gives the kernel one request at a time, in order, reads its log to know
 * where each run ends, and goes on with both after the death of the agent. What was asked for is kept before it is written,
 * at an offset of standard input, so that nothing is run twice. It holds no output: whoever wants it reads the log.
 */
import { constants } from 'node:os';
import type { Kernel as KernelView, Language } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import type { KernelItem, KernelRecord } from '../../schema/protocol/kernel-log.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import type { Disk } from '../disk.ts';
import type { StreamName } from '../output/segment.ts';
import type { Spools } from '../output/spools.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import type { Bell } from '../bell.ts';
import { followLog } from './follow.ts';
import { KernelLife, outcomeOf } from './kernel-life.ts';
import { type Ask, type RunKernel, Runs } from './runs.ts';
import type { Offsets, SavedKernel, SavedRecord, SavedRun, SavedRunnerKernel } from './saved.ts';
import { exitCodeOf, frameOf, nextStep, toFrame } from './steps.ts';

/** The session of a kernel. */
export interface KernelOwner {
  sessionId: string;
  generation: number;
  clock: Clock;
  timers: Timers;
  log: Log;
  spools: Spools;
  /** @throws Refusal when the session does not run */
  supervisor(): Supervisor;
  /** Starts the process of a kernel, or finds it started. */
  spawn(kernel: SavedKernel): Promise<void>;
  /** The source of the runner of a language. */
  runner(language: Language): Promise<string>;
  /** Where the input of a kernel of Jupyter is kept. */
  inputPath(kernelId: string): string;
  disk: Disk;
  /** The process of a kernel at one of its starts. */
  processId(kernelId: string, starts: number): string;
  save(record: SavedRecord): Promise<void>;
}

const lastOutputBytes = 4096;

/** What was read of the step under way. */
interface Heard {
  /** Where it ends on each stream, once that was read. */
  ends: Partial<Offsets>;
  exitCode: number | undefined;
  /**
   * The question what the kernel does, if that was asked: its id, the steps that are done when it is idle, and the last
   * request for input that had its line before.
   */
  question: { id: string; steps: number; inputAt: number } | undefined;
}

const nothing = (): Heard => ({ ends: {}, exitCode: undefined, question: undefined });

export class Kernel implements RunKernel {
  readonly #owner: KernelOwner;
  readonly #life: KernelLife;
  readonly #runs: Runs;
  #saved: SavedRunnerKernel;
  #heard = nothing();
  #isReady = false;
  /** What was there when this agent began was heard. */
  #isCaughtUp = false;
  /** It had ended before this agent took it up: nothing is given to it, whatever its log says. */
  #isOver = false;
  #version: string | undefined;
  /** All before was read, and belongs to runs that ended. */
  #seen: Offsets = { stdout: 0, stderr: 0 };
  #settled: Offsets = { stdout: 0, stderr: 0 };
  #lastOutput = Buffer.alloc(0);
  #writing: Promise<void> = Promise.resolve();
  #questions = 0;
  /** A question is on its way to it; `again`: more went missing since. */
  #asking: 'none' | 'written' | 'again' = 'none';

  constructor(owner: KernelOwner, saved: SavedRunnerKernel) {
    this.#owner = owner;
    this.#saved = saved;
    const { sessionId, clock, timers, log } = owner;
    this.#life = new KernelLife({ sessionId, kernelId: saved.kernelId, timers, log });
    this.#runs = new Runs({
      clock,
      timers,
      bell: this.bell,
      save: (record) => owner.save(record),
      isReady: () => this.#isReady && !this.#isOver,
      death: () => this.#life.death,
      give: (run) => this.#give(run),
      signal: (name) => (name === 'kill' ? this.#signal('SIGKILL', 'session') : this.#signal('SIGINT', 'group')),
      failed: (error) => this.#life.failed(error),
    });
  }

  get bell(): Bell {
    return this.#life.bell;
  }

  get saved(): SavedRunnerKernel {
    return this.#saved;
  }

  get processId(): string {
    return this.#owner.processId(this.#saved.kernelId, this.#saved.starts);
  }

  get state(): KernelView['state'] {
    if (this.#life.death !== undefined) return 'dead';
    if (!this.#isReady) return 'starting';
    return this.#runs.current === undefined ? 'idle' : 'busy';
  }

  /** Its interpreter was there, at this start. */
  get hasAnswered(): boolean {
    return this.#isReady;
  }

  get view(): KernelView {
    const { kernelId: id, language, starts, startedAtMs } = this.#saved;
    const { death } = this.#life;
    return {
      id,
      language,
      state: this.state,
      ...(this.#version === undefined ? {} : { version: this.#version }),
      starts,
      startedAtMs,
      queued: this.#runs.queued,
      ...(death === undefined ? {} : { death }),
    };
  }

  /** Starts the process of this start. @throws Refusal when the session can not start it now */
  start(): Promise<void> {
    return this.#start((spawn) => spawn());
  }

  /** `insisting`: how what the disk may refuse is done. */
  async #start(insisting: (spawn: () => Promise<void>) => Promise<void>): Promise<void> {
    try {
      await insisting(() => this.#owner.spawn(this.#saved));
    } catch (error) {
      // It is not there, and nobody else would say so.
      this.#end({ reason: 'not-started' });
      throw error;
    }
    this.#follow(this.#settled);
    this.#write(this.#saved.frame);
  }

  /** Goes on with a kernel of an earlier agent, and with its runs, oldest first. */
  async adopt(runs: readonly SavedRun[]): Promise<void> {
    const ofThisStart = runs.filter(({ begun }) => begun?.starts === this.#saved.starts);
    this.#settled = ofThisStart.findLast(({ ended }) => ended?.ends !== undefined)?.ended?.ends ?? this.#settled;
    const current = ofThisStart.find(({ ended }) => ended === undefined);
    this.#isReady = ofThisStart.length > 0;
    const waiting = runs.filter(({ begun, ended }) => begun === undefined && ended === undefined);
    this.#runs.adopt(current, waiting);
    const { sessionId, generation } = this.#owner;
    const { processId } = this;
    const kept = await this.#life.insist(() => this.#owner.spools.read({ sessionId, generation, processId }));
    await kept?.done();
    this.#isOver = kept?.spool.record.exit !== undefined;
    // The agent died before it knew that the process was there; asking for it again is harmless.
    if (kept === undefined || (!this.#isOver && this.#saved.frame.at === 0))
      return this.#start((spawn) => this.#life.insist(spawn));
    this.#follow(current?.begun?.from ?? this.#settled);
    if (this.#isOver) return;
    this.#write(this.#saved.frame);
    // The agent died before it gave the kernel the first of those that wait.
    this.#runs.next();
  }

  /** Resolves when its interpreter is there, it is dead, or `signal` aborts. */
  async whenStarted(signal: AbortSignal): Promise<void> {
    await this.bell.whileSo(() => this.state === 'starting', signal);
  }

  /** Takes a run, behind those that wait. @throws Refusal `kernel_dead`, `kernel_busy` */
  take(run: SavedRun): Promise<void> {
    return this.#runs.take(run);
  }

  reach(run: SavedRun): Offsets {
    return run.ended?.ends ?? { ...this.#seen, ...(this.#runs.current === run ? this.#heard.ends : {}) };
  }

  asks(run: SavedRun): Ask | undefined {
    return this.#runs.asks(run);
  }

  async answer(run: SavedRun, at: number, text: string): Promise<void> {
    // An agent that has just begun does not know yet what is asked.
    if (run.ended === undefined && at > run.inputAt && this.asks(run)?.at !== at)
      await this.#life.whileSo(() => !this.#isCaughtUp);
    if (at <= run.inputAt) return;
    if (this.asks(run)?.at !== at)
      throw new Refusal('kernel_input_unasked', 'The run does not ask for a line at this place of its output.');
    run.inputAt = at;
    await this.#ask(toFrame('input', run.runId, text), { runId: run.runId, inputAt: at });
    this.bell.ring();
  }

  interrupt(run?: SavedRun): Promise<void> {
    return this.#runs.interrupt(run);
  }

  /** Kills the process, and resolves when its end is known. */
  async kill(): Promise<void> {
    if (this.#life.death !== undefined) return;
    // It may have ended by itself meanwhile.
    await this.#signal('SIGKILL', 'session').catch((error: unknown) => this.#life.failed(error));
    await this.#life.whenDead();
  }

  /** Starts anew with nothing of its state. Runs that were under way or waited end. @throws Refusal */
  async restart(): Promise<void> {
    await this.kill();
    const { starts, kernelId, language } = this.#saved;
    const frame = { at: 0, text: await this.#owner.runner(language) };
    const startedAtMs = this.#owner.clock.nowMs();
    this.#saved = { ...this.#saved, starts: starts + 1, startedAtMs, frame };
    await this.#owner.save({ kernel: { kernelId, starts: starts + 1, startedAtMs, frame } });
    this.#life.begin();
    this.#isReady = false;
    this.#isOver = false;
    this.#version = undefined;
    this.#settled = { stdout: 0, stderr: 0 };
    this.#lastOutput = Buffer.alloc(0);
    this.#writing = Promise.resolve();
    await this.start();
  }

  /** Ends it, for good. */
  async shutdown(): Promise<void> {
    await this.kill();
    await this.shut();
  }

  /** It is not listed any more, and takes nothing. */
  async shut(): Promise<void> {
    const { kernelId } = this.#saved;
    const frame = { at: 0, text: '' };
    this.#saved = { ...this.#saved, frame, closed: true };
    await this.#owner.save({ kernel: { kernelId, frame, closed: true } });
  }

  /** Its session is over: whoever waits for it to start, or to be read, is told. */
  over(): void {
    if (this.#life.death === undefined) this.#end({ reason: this.#isReady ? 'killed' : 'not-started' });
  }

  /** Lets go: the kernel goes on by itself. */
  close(): Promise<void> {
    this.#life.letGo();
    this.#runs.close();
    return Promise.resolve();
  }

  // ---- runs ----

  #give(run: SavedRun): void {
    this.#heard = nothing();
    this.#runs.began(run, { starts: this.#saved.starts, from: this.#settled, atMs: this.#owner.clock.nowMs() });
    this.#askNext(run, this.#settled);
  }

  /** Asks for the next step of the run under way; all is done and ends there: ends it. */
  #askNext(run: SavedRun, ends: Offsets): void {
    const step = nextStep(run);
    if (step === undefined) {
      const reason = this.#runs.isLate ? 'timeout' : 'finished';
      this.#settled = ends;
      return this.#runs.end(run, { reason, exitCode: exitCodeOf(run) }, ends);
    }
    if (run.asked > run.answered.length) return;
    run.asked = run.answered.length + 1;
    const { runId, begun, asked, answered } = run;
    const changes = { runId, asked, answered, ...(begun === undefined ? {} : { begun }) };
    this.#ask(frameOf(run, step, this.#saved.language), changes).catch((error: unknown) => this.#life.failed(error));
  }

  // ---- what the kernel says ----

  #follow(from: Offsets): void {
    const { sessionId, generation, spools } = this.#owner;
    const { kernelId } = this.#saved;
    const { processId } = this;
    const { signal } = this.#life;
    this.#seen = from;
    const follower = {
      item: (stream: StreamName, item: KernelItem) => this.#hear(stream, item),
      gap: () => this.#missed(),
      caughtUp: () => {
        this.#isCaughtUp = true;
        this.bell.ring();
      },
      seen: (offsets: Offsets) => {
        this.#seen = offsets;
        this.bell.ring();
      },
    };
    followLog(spools, { sessionId, generation, processId }, { ...this.#life.insistence, kernelId, from }, follower)
      .then((exit) => {
        if (exit !== undefined && !signal.aborted) this.#end(outcomeOf(exit));
      })
      .catch((error: unknown) => this.#life.failed(error));
  }

  #hear(stream: StreamName, item: KernelItem): void {
    if (item.kind === 'bytes') {
      this.#lastOutput = Buffer.concat([this.#lastOutput, item.bytes]).subarray(-lastOutputBytes);
      return;
    }
    const { record, end } = item;
    if (stream === 'stdout' && !this.#isReady) this.#hearStart(record, end);
    const run = this.#runs.current;
    if (run === undefined) return;
    if (record.kind === 'mark') this.#marked(run, stream, record.id, item);
    else if (record.kind === 'input' && record.id === this.#heard.question?.id) this.#stillAsks(run, record, end);
    else if (stream === 'stdout' && record.id === run.runId) this.#heardOfRun(run, record, end);
  }

  /** It is there when it says so, or answers where that is missing. */
  #hearStart(record: KernelRecord, end: number): void {
    if (record.kind === 'ready') this.#version = record.version;
    else if (record.kind !== 'mark' || record.id !== this.#heard.question?.id) return;
    this.#isReady = true;
    this.#settled = { stdout: end, stderr: this.#settled.stderr };
    this.#runs.next();
  }

  #heardOfRun(run: SavedRun, record: KernelRecord, end: number): void {
    if (record.kind === 'input') this.#runs.asked({ at: end, prompt: record.prompt, password: record.password });
    if (record.kind !== 'finished') return;
    this.#heard.ends.stdout = end;
    this.#answered(run, record.exitCode);
  }

  /** It waits for a line, by its own account: the request may be what is missing. */
  #stillAsks(run: SavedRun, { prompt, password }: KernelRecord & { kind: 'input' }, at: number): void {
    const wasAnswered = run.inputAt > (this.#heard.question?.inputAt ?? 0);
    if (!wasAnswered && this.#runs.asks(run) === undefined) this.#runs.asked({ at, prompt, password });
  }

  #marked(run: SavedRun, stream: StreamName, id: string, { offset, end }: KernelItem): void {
    const { ends, question } = this.#heard;
    if (stream === 'stderr' && id === run.runId) {
      ends.stderr = end;
      this.#answered(run, undefined);
      return;
    }
    // A step that told its end since needs no answer, which may come while the next one is under way.
    if (stream !== 'stdout' || id !== question?.id || run.answered.length >= question.steps) return;
    // It is idle, and what said how the step ended is missing.
    ends.stdout ??= offset;
    ends.stderr ??= this.#seen.stderr;
    this.#answered(run, undefined);
  }

  /** A step is done when both streams say so. */
  #answered(run: SavedRun, exitCode: number | undefined): void {
    const heard = this.#heard;
    heard.exitCode = exitCode ?? heard.exitCode;
    const { stdout, stderr } = heard.ends;
    if (stdout === undefined || stderr === undefined) return;
    const step = nextStep(run);
    // What was done before the agent came is read again.
    if (step !== undefined && stdout > (run.answered.at(-1)?.at ?? -1))
      run.answered = [...run.answered, { step, exitCode: heard.exitCode ?? 1, at: stdout }];
    heard.ends = {};
    heard.exitCode = undefined;
    this.#askNext(run, { stdout, stderr });
  }

  /** Output is missing: the kernel is asked what it does, since it may have said there that it is ready, that a run ended, or asked for a line. */
  #missed(): void {
    const run = this.#runs.current;
    if (run === undefined && this.#isReady) return;
    // It may read no input for as long as its step takes, while output goes missing all the time.
    if (this.#asking !== 'none') return void (this.#asking = 'again');
    this.#asking = 'written';
    // The answer to a question of an earlier agent, which is read again, is another.
    const id = `-${this.#saved.frame.at}-${++this.#questions}`;
    this.#heard.question = { id, steps: run?.asked ?? 0, inputAt: run?.inputAt ?? 0 };
    this.#ask(toFrame('mark', id, ''), undefined).catch((error: unknown) => this.#life.failed(error));
    this.#writing = this.#writing.then(() => {
      const isWantedAgain = this.#asking === 'again';
      this.#asking = 'none';
      if (isWantedAgain) this.#missed();
    });
  }

  #end(how: ExecuteOutcome): void {
    this.#life.die(how, this.#lastOutput.toString());
    this.#runs.died(how, this.#seen);
  }

  // ---- what it is told ----

  /** Keeps a frame with what it changes, and writes it. Resolves when it is kept. */
  #ask(text: string, changes: (Partial<SavedRun> & { runId: string }) | undefined): Promise<void> {
    const { kernelId } = this.#saved;
    const kept = Promise.withResolvers<void>();
    const { starts } = this.#saved;
    this.#writing = this.#writing.then(async () => {
      if (this.#saved.starts !== starts) return kept.resolve();
      const { frame: before } = this.#saved;
      const frame = { at: before.at + Buffer.byteLength(before.text), text };
      this.#saved = { ...this.#saved, frame };
      const kernel = { kernelId, frame };
      await this.#owner.save(changes === undefined ? { kernel } : { kernel, run: changes });
      kept.resolve();
      await this.#put(frame);
    });
    this.#writing.catch(kept.reject);
    this.#writing = this.#writing.catch((error: unknown) => this.#life.failed(error));
    return kept.promise;
  }

  #write(frame: SavedRunnerKernel['frame']): void {
    this.#writing = this.#writing.then(() => this.#put(frame)).catch((error: unknown) => this.#life.failed(error));
  }

  /** Writes a frame at its offset: what the process has of it already is passed over. */
  async #put({ at, text }: SavedRunnerKernel['frame']): Promise<void> {
    await this.#owner.supervisor().writeInput(this.processId, at, Buffer.from(text));
  }

  async #signal(name: 'SIGINT' | 'SIGKILL', scope: 'group' | 'session'): Promise<void> {
    await this.#owner.supervisor().link.signal(this.processId, constants.signals[name], scope);
  }
}
