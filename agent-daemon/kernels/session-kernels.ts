/**
 * The kernels of one session at one generation, and their runs: which there are, which one a run goes to, and what is kept
 * of both so that the next agent process goes on. It knows nothing of clients.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Kernel as KernelView, Language } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Log, Random, Timers } from '../../schema/ports.ts';
import type { executeOpen } from '../../schema/protocol/execute.ts';
import type { z } from 'zod';
import type { Disk } from '../disk.ts';
import { freshId } from '../fresh-id.ts';
import type { SpawnSpec } from '../init/messages.ts';
import type { ProcessRecord } from '../output/process-record.ts';
import type { Spools } from '../output/spools.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import { derivedProcessId } from '../processes/derived-id.ts';
import { RecordFile } from '../tunnel/record-file.ts';
import { Kernel } from './kernel.ts';
import { interpreters, kernelArgv, runnerFiles, tried } from './languages.ts';
import { restore, type SavedKernel, type SavedRecord, type SavedRun } from './saved.ts';

export type ExecuteOpen = z.infer<typeof executeOpen>;

export interface KernelsPorts {
  clock: Clock;
  timers: Timers;
  random: Random;
  log: Log;
  disk: Disk;
  spools: Spools;
  /** Directory of the runners. */
  runnersPath: string;
}

/** The session. */
export interface KernelsOwner {
  sessionId: string;
  generation: number;
  /** File of its kernels, and whether an earlier agent process left one. */
  path: string;
  wereLeft: boolean;
  /** While the session runs. */
  supervisor(): Supervisor | undefined;
  /** What to start as a kernel, and what is kept of it. */
  spawnOf(processId: string, argv: readonly string[]): Promise<{ spec: SpawnSpec; record: ProcessRecord }>;
}

/** Of a session, at a time. */
const maxKernels = 16;
/** Runs that ended and are known still, so that a client can come back to one and repeat one without harm. */
const keptRuns = 1000;
const compactBytes = 4 * 1024 * 1024;

export class SessionKernels {
  readonly #ports: KernelsPorts;
  readonly #owner: KernelsOwner;
  readonly #kernels = new Map<string, Kernel>();
  readonly #runs = new Map<string, SavedRun>();
  #file: Promise<RecordFile> | undefined;
  /** Choosing a kernel and starting one are not done twice at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(owner: KernelsOwner, ports: KernelsPorts) {
    this.#owner = owner;
    this.#ports = ports;
  }

  /** Takes up what an earlier agent process left. */
  async adopt(): Promise<void> {
    if (this.#owner.wereLeft) await this.#open();
  }

  async list(): Promise<KernelView[]> {
    await this.#open();
    return this.#listed.map(({ view }) => view);
  }

  /** Starts a kernel under an id of the caller's, or finds it. @throws Refusal */
  async start(kernelId: string, language: Language, signal: AbortSignal): Promise<KernelView> {
    await this.#open();
    const kernel = await this.#inTurn(async () => this.#kernels.get(kernelId) ?? this.#start(kernelId, language));
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  async interrupt(kernelId: string): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    await kernel.interrupt();
    return kernel.view;
  }

  /** Starts it anew, unless it was already since it had this number of starts. @throws Refusal */
  async restart(kernelId: string, starts: number | undefined, signal: AbortSignal): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    await this.#inTurn(async () => {
      if (starts === undefined || kernel.saved.starts === starts) await kernel.restart();
    });
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  /** Ends it; what it ran stays readable. */
  async shutdown(kernelId: string): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    await kernel.kill();
    await kernel.shut();
    return kernel.view;
  }

  /** The run that a client asks for or comes back to. @throws Refusal */
  async run(open: ExecuteOpen, signal: AbortSignal): Promise<{ run: SavedRun; kernel: Kernel }> {
    await this.#open();
    const { runId, request } = open;
    const known = this.#runs.get(runId) ?? (await this.#inTurn(() => this.#newRun(open, signal)));
    if (request !== undefined && known.digest !== digestOf(open))
      throw new Refusal('kernel_run_conflict', 'The run id was used with another request. Choose a new one.');
    const kernel = this.#kernels.get(known.kernelId);
    if (kernel === undefined) throw new Refusal('kernel_run_not_found');
    return { run: known, kernel };
  }

  /** The log of the process of a kernel. @throws Refusal `session_output_gone` */
  async log(kernelId: string, starts: number) {
    const { sessionId, generation } = this.#owner;
    const read = await this.#ports.spools.read({ sessionId, generation, processId: processIdOf(kernelId, starts) });
    if (read === undefined) throw new Refusal('session_output_gone', 'Nothing of this run is kept any more.');
    return read;
  }

  /** True for a process that is a kernel: nobody else may write to it. */
  owns(processId: string): boolean {
    return [...this.#kernels.values()].some((kernel) => kernel.processId === processId);
  }

  /** Lets go, for the end of the agent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const kernel of this.#kernels.values()) kernel.close();
    await (await this.#file)?.close();
  }

  /** Nothing is kept any more. */
  async remove(): Promise<void> {
    await this.close();
    if (this.#file === undefined && !this.#owner.wereLeft) return;
    await this.#ports.disk.rm(this.#path, { force: true });
  }

  get #path(): string {
    return this.#owner.path;
  }

  /** That were not shut down. */
  get #listed(): Kernel[] {
    return [...this.#kernels.values()].filter(({ saved }) => !saved.closed);
  }

  get #living(): Kernel[] {
    return this.#listed.filter(({ state }) => state !== 'dead');
  }

  async #get(kernelId: string): Promise<Kernel> {
    await this.#open();
    const kernel = this.#kernels.get(kernelId);
    if (kernel === undefined || kernel.saved.closed) throw new Refusal('kernel_not_found');
    return kernel;
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #newRun(open: ExecuteOpen, signal: AbortSignal): Promise<SavedRun> {
    const { runId, request, timeoutMs } = open;
    const known = this.#runs.get(runId);
    if (known !== undefined) return known;
    if (request === undefined) throw new Refusal('kernel_run_not_found');
    const kernel = await this.#choose(open, signal);
    const run: SavedRun = {
      runId,
      kernelId: kernel.saved.kernelId,
      digest: digestOf(open),
      request,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      asked: 0,
      answered: [],
      inputAt: 0,
    };
    await kernel.take(run);
    this.#runs.set(runId, run);
    this.#forgetOld();
    return run;
  }

  /**
   * The kernel that is named, or the first living one of the language, or a new one. Where none is named, the language is
   * that of the first kernel: code for one that died is not given to another language.
   */
  async #choose({ kernelId, language: named }: ExecuteOpen, signal: AbortSignal): Promise<Kernel> {
    if (kernelId !== undefined) return this.#get(kernelId);
    const language = named ?? this.#listed[0]?.saved.language;
    const living = this.#living.find(({ saved }) => saved.language === language);
    if (living !== undefined) return living;
    let refusal: unknown;
    for (const each of language === undefined ? tried : [language]) {
      const kernel = await this.#start(freshId('kernel', this.#ports), each);
      try {
        await this.#whenStarted(kernel, signal);
        return kernel;
      } catch (error) {
        if (!(error instanceof Refusal) || error.code !== 'kernel_language_missing') throw error;
        refusal ??= error;
      }
    }
    throw refusal;
  }

  async #start(kernelId: string, language: Language): Promise<Kernel> {
    this.#running();
    if (this.#living.length >= maxKernels) throw new Refusal('kernel_limit', `A session has at most ${maxKernels}.`);
    // A dead one is listed for as long as there is room.
    if (this.#listed.length >= maxKernels) await this.#listed.find(({ state }) => state === 'dead')?.shut();
    const saved: SavedKernel = {
      kernelId,
      language,
      starts: 1,
      startedAtMs: this.#ports.clock.nowMs(),
      frame: { at: 0, text: await this.#runner(language) },
      closed: false,
    };
    const kernel = new Kernel(this.#kernelOwner(), saved);
    this.#kernels.set(kernelId, kernel);
    try {
      await this.#save({ kernel: saved });
      await kernel.start();
    } catch (error) {
      await kernel.shut();
      throw error;
    }
    return kernel;
  }

  /** An interpreter that is not there is no kernel. */
  async #whenStarted(kernel: Kernel, signal: AbortSignal): Promise<void> {
    await kernel.whenStarted(signal);
    const { death, language } = kernel.view;
    if (death === undefined || (death.exitCode !== 127 && death.exitCode !== 126)) return;
    await kernel.shut();
    throw new Refusal('kernel_language_missing', `The image has no ${interpreters[language]}.`);
  }

  #running(): Supervisor {
    const supervisor = this.#owner.supervisor();
    if (supervisor === undefined) throw new Refusal('session_not_running', 'The session does not run (any more).');
    return supervisor;
  }

  #runner = async (language: Language): Promise<string> =>
    (await this.#ports.disk.readFile(join(this.#ports.runnersPath, runnerFiles[language]))).toString();

  #kernelOwner() {
    const { sessionId, generation } = this.#owner;
    const { clock, timers, log, spools } = this.#ports;
    return {
      sessionId,
      generation,
      clock,
      timers,
      log,
      spools,
      supervisor: () => this.#running(),
      spawn: (kernel: SavedKernel) => this.#spawn(kernel),
      runner: this.#runner,
      processId: processIdOf,
      save: (record: SavedRecord) => this.#save(record),
    };
  }

  async #spawn({ kernelId, language, starts, frame }: SavedKernel): Promise<void> {
    const argv = kernelArgv(language, Buffer.byteLength(frame.text), kernelId);
    const { spec, record } = await this.#owner.spawnOf(processIdOf(kernelId, starts), argv);
    await this.#running().spawn(spec, record);
  }

  // ---- what is kept ----

  #open(): Promise<RecordFile> {
    this.#file ??= this.#load();
    return this.#file;
  }

  async #load(): Promise<RecordFile> {
    const { disk, timers, log } = this.#ports;
    const { file, records } = await RecordFile.open(
      this.#path,
      disk,
      {
        live: () => this.#live(),
        failing: (error) =>
          log.warn('what kernels run can not be kept yet', { path: this.#path, error: String(error) }),
        pause: (delayMs) => new Promise((resolve) => void timers.after(delayMs, resolve)),
      },
      { sync: false },
    );
    const { kernels, runs } = restore(records);
    for (const run of runs) this.#runs.set(run.runId, run);
    // Whoever is adopted writes to the file.
    queueMicrotask(() => this.#adoptAll(kernels, runs));
    return file;
  }

  #adoptAll(kernels: readonly SavedKernel[], runs: readonly SavedRun[]): void {
    for (const saved of kernels) {
      const { kernelId, closed } = saved;
      const kernel = new Kernel(this.#kernelOwner(), saved);
      this.#kernels.set(kernelId, kernel);
      if (closed) continue;
      kernel.adopt(runs.filter((run) => run.kernelId === kernelId)).catch((error: unknown) => {
        this.#ports.log.error('a kernel could not be taken up', { kernelId, error: String(error) });
      });
    }
  }

  async #save(record: SavedRecord): Promise<void> {
    if (this.#isClosed) return;
    const file = await this.#open();
    if (file.sizeBytes > compactBytes) await file.compact();
    await file.append(record);
  }

  #live(): SavedRecord[] {
    const kernels = [...this.#kernels.values()].map(({ saved }) => ({ kernel: saved }));
    return [...kernels, ...[...this.#runs.values()].map((run) => ({ run }))];
  }

  /** One that was shut down stays known for as long as a run of it does. */
  #forgetOld(): void {
    for (const [runId, run] of this.#runs)
      if (this.#runs.size > keptRuns && run.ended !== undefined) this.#runs.delete(runId);
    const used = new Set([...this.#runs.values()].map((run) => run.kernelId));
    for (const [kernelId, { saved }] of this.#kernels)
      if (saved.closed && !used.has(kernelId)) this.#kernels.delete(kernelId);
  }
}

function processIdOf(kernelId: string, starts: number): string {
  return derivedProcessId(`kernel ${kernelId} ${starts}`);
}

/** What makes two requests the same one. */
function digestOf({ kernelId, language, request, timeoutMs }: ExecuteOpen): string {
  return createHash('sha256')
    .update(JSON.stringify([kernelId, language, request, timeoutMs]))
    .digest('hex');
}
