/**
 * The kernels of one session at one generation, and their runs: which there are, which one a run goes to, and what is kept
 * of both so that the next agent process goes on. It knows nothing of clients.
 */
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import type { KernelRestarts, Kernel as KernelView, Kernelspec, Language } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Log } from '../../schema/ports.ts';
import type { executeOpen } from '../../schema/protocol/execute.ts';
import type { z } from 'zod';
import { freshId } from '../fresh-id.ts';
import { RecordFile } from '../tunnel/record-file.ts';
import type { KernelInAdvance } from './in-advance.ts';
import { JupyterKernel } from './jupyter-kernel.ts';
import { Kernel, type KernelOwner } from './kernel.ts';
import type { FoundSpec } from './kernelspecs.ts';
import { interpreters, tried } from './languages.ts';
import {
  isJupyterKernel,
  isRunnerKernel,
  restore,
  type SavedKernel,
  type SavedRecord,
  type SavedRun,
} from './saved.ts';
import { KernelSpawner, processIdOf, type SpawnerPorts, type SpawningOwner } from './spawner.ts';

export type ExecuteOpen = z.infer<typeof executeOpen>;

export interface KernelsPorts extends SpawnerPorts {
  log: Log;
}

/** The session. */
export interface KernelsOwner extends SpawningOwner {
  /** File of its kernels, and whether an earlier agent process left one. */
  path: string;
  wereLeft: boolean;
}

type AnyKernel = Kernel | JupyterKernel;

/** Of a session, at a time. */
const maxKernels = 16;
/** Runs that ended and are known still, so that a client can come back to one and repeat one without harm. */
const keptRuns = 1000;
/** The file is made anew when it is this large, and twice as large as what was live the last time: not at each record. */
const compactBytes = 4 * 1024 * 1024;

export class SessionKernels {
  readonly #ports: KernelsPorts;
  readonly #owner: KernelsOwner;
  readonly #spawner: KernelSpawner;
  readonly #kernels = new Map<string, AnyKernel>();
  readonly #runs = new Map<string, SavedRun>();
  #file: Promise<RecordFile> | undefined;
  /** Size of the file when it was made anew. */
  #compactedBytes = 0;
  /** Choosing a kernel and starting one are not done twice at a time. */
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(owner: KernelsOwner, ports: KernelsPorts) {
    this.#owner = owner;
    this.#ports = ports;
    this.#spawner = new KernelSpawner(owner, ports);
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

  /** Starts a kernel of a kernelspec, or finds it. `waiting`: one that nothing came before in this container. @throws Refusal */
  async startSpec(
    kernelId: string,
    wanted: { spec: string; restarts: KernelRestarts | undefined },
    signal: AbortSignal,
    waiting?: KernelInAdvance,
  ): Promise<KernelView> {
    await this.#open();
    const start = () => this.#startSpec(kernelId, wanted, signal, waiting);
    const kernel = await this.#inTurn(async () => this.#kernels.get(kernelId) ?? start());
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  /** The kernelspecs that its processes see. @throws Refusal */
  specs(signal: AbortSignal): Promise<Kernelspec[]> {
    return this.#spawner.specs(signal);
  }

  /** The kernel of Jupyter that a client speaks to. @throws Refusal */
  async jupyter(kernelId: string): Promise<JupyterKernel> {
    const kernel = await this.#get(kernelId);
    if (kernel instanceof JupyterKernel) return kernel;
    throw new Refusal('kernel_kind_wrong', 'It is a kernel with a runner: run code in it.');
  }

  async interrupt(kernelId: string): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    await kernel.interrupt();
    return kernel.view;
  }

  /** Starts it anew, unless it was already since it had this number of starts. @throws Refusal */
  async restart(kernelId: string, starts: number | undefined, signal: AbortSignal): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    if (kernel instanceof JupyterKernel) await kernel.restart(starts);
    else
      await this.#inTurn(async () => {
        // Somebody was faster.
        if (kernel.saved.closed) throw new Refusal('kernel_not_found');
        if (starts === undefined || kernel.saved.starts === starts) await kernel.restart();
      });
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  /** Ends it; what it ran stays readable. */
  async shutdown(kernelId: string): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    // One of Jupyter has a turn of its own, since it starts anew by itself.
    if (kernel instanceof JupyterKernel) await kernel.shutdown();
    else await this.#inTurn(() => kernel.shutdown());
    return kernel.view;
  }

  /** The run that a client asks for or comes back to; its kernel may be starting still. @throws Refusal */
  async run(open: ExecuteOpen, signal: AbortSignal): Promise<{ run: SavedRun; kernel: AnyKernel }> {
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
    await Promise.all([...this.#kernels.values()].map((kernel) => kernel.close()));
    await (await this.#file)?.close();
  }

  /** The session is over, and nothing is kept any more. */
  async remove(): Promise<void> {
    // First: how their runs end now is not kept.
    this.#isClosed = true;
    for (const kernel of this.#kernels.values()) kernel.over();
    await this.close();
    if (this.#file === undefined && !this.#owner.wereLeft) return;
    const { disk } = this.#ports;
    // With what belongs to single kernels, of which nobody may have asked since.
    const inputs = (await disk.readdir(dirname(this.#path))).filter((name) =>
      name.startsWith(`${basename(this.#path)}.`),
    );
    for (const name of inputs) await disk.rm(join(dirname(this.#path), name), { force: true });
    await disk.rm(this.#path, { force: true });
  }

  get #path(): string {
    return this.#owner.path;
  }

  /** That were not shut down. */
  get #listed(): AnyKernel[] {
    return [...this.#kernels.values()].filter(({ saved }) => !saved.closed);
  }

  get #living(): AnyKernel[] {
    return this.#listed.filter(({ state }) => state !== 'dead');
  }

  async #get(kernelId: string): Promise<AnyKernel> {
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
    await this.requireProgram(kernel);
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
    const kept = kernel.take(run);
    // Not only once it is kept: where the disk refuses that for a while, the file is made anew of what is here.
    this.#runs.set(runId, run);
    await kept;
    this.#forgetOld();
    return run;
  }

  /**
   * The kernel that is named, or the first living one of the kernelspec or the language, or a new one. Where none is named,
   * it is one with a runner, and the language is that of the first: code for one that died is not given to another language.
   * It may be starting still: others wait for their turn. But where any language will do one has to be missing before the next
   * is tried.
   */
  async #choose({ kernelId, spec, language: named }: ExecuteOpen, signal: AbortSignal): Promise<AnyKernel> {
    if (kernelId !== undefined) return this.#get(kernelId);
    if (spec !== undefined) return this.#ofSpec(spec, signal);
    const runners = this.#listed.filter((kernel) => kernel instanceof Kernel);
    const language = named ?? runners[0]?.saved.language;
    const living = runners.find(({ saved, state }) => saved.language === language && state !== 'dead');
    if (living !== undefined) return living;
    if (language !== undefined) return this.#start(freshId('kernel', this.#ports), language);
    let refusal: unknown;
    for (const each of tried) {
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

  async #ofSpec(spec: string, signal: AbortSignal): Promise<AnyKernel> {
    const living = this.#living.find(({ saved }) => saved.spec === spec);
    if (living !== undefined) return living;
    const restarts = undefined;
    return this.#startSpec(freshId('kernel', this.#ports), { spec, restarts }, signal);
  }

  async #start(kernelId: string, language: Language): Promise<Kernel> {
    this.#spawner.supervisor();
    const frame = { at: 0, text: await this.#spawner.runner(language) };
    return this.#begin(new Kernel(this.#kernelOwner(), { ...this.#newKernel(kernelId), language, frame }));
  }

  async #startSpec(
    kernelId: string,
    { spec, restarts }: { spec: string; restarts: KernelRestarts | undefined },
    signal: AbortSignal,
    waiting?: KernelInAdvance,
  ): Promise<JupyterKernel> {
    const found = (await this.#spawner.ofWaiting(spec, waiting)) ?? (await this.#spawner.find(spec, signal));
    const own = restarts === undefined ? { spec } : { spec, restarts };
    return this.#begin(new JupyterKernel(this.#kernelOwner(found), { ...this.#newKernel(kernelId), ...own }));
  }

  #newKernel(kernelId: string) {
    return { kernelId, starts: 1, startedAtMs: this.#ports.clock.nowMs(), closed: false };
  }

  /** Takes a new kernel among the others and starts it. */
  async #begin<Some extends AnyKernel>(kernel: Some): Promise<Some> {
    if (this.#living.length >= maxKernels) throw new Refusal('kernel_limit', `A session has at most ${maxKernels}.`);
    // A dead one is listed for as long as there is room.
    if (this.#listed.length >= maxKernels) await this.#listed.find(({ state }) => state === 'dead')?.shut();
    this.#kernels.set(kernel.saved.kernelId, kernel);
    try {
      await this.#save({ kernel: kernel.saved });
      await kernel.start();
    } catch (error) {
      await kernel.shut();
      throw error;
    }
    return kernel;
  }

  async #whenStarted(kernel: AnyKernel, signal: AbortSignal): Promise<void> {
    await kernel.whenStarted(signal);
    await this.requireProgram(kernel);
  }

  /** A program that is not there is no kernel. @throws Refusal `kernel_language_missing`, `kernel_spec_unusable` */
  async requireProgram(kernel: AnyKernel): Promise<void> {
    const { death, language } = kernel.view;
    if (kernel.hasAnswered || death === undefined || (death.exitCode !== 127 && death.exitCode !== 126)) return;
    await kernel.shut();
    if (language === undefined) throw new Refusal('kernel_spec_unusable', death.lastOutput.trim().slice(-500));
    throw new Refusal('kernel_language_missing', `The image has no ${interpreters[language]}.`);
  }

  /** `found`: the kernelspec, for the first start. */
  #kernelOwner(found?: FoundSpec): KernelOwner {
    let forStart = found;
    const { sessionId, generation } = this.#owner;
    const { clock, timers, log, spools, disk } = this.#ports;
    return {
      sessionId,
      generation,
      clock,
      timers,
      log,
      spools,
      disk,
      inputPath: (kernelId) => `${this.#path}.${kernelId}`,
      supervisor: () => this.#spawner.supervisor(),
      spawn: (kernel: SavedKernel) => {
        const started = this.#spawner.spawn(kernel, forStart);
        forStart = undefined;
        return started;
      },
      runner: (language: Language) => this.#spawner.runner(language),
      processId: processIdOf,
      save: (record: SavedRecord) => this.#save(record),
    };
  }

  // ---- what is kept ----

  #open(): Promise<RecordFile> {
    // A disk that was full is asked again.
    this.#file ??= this.#load().catch((error: unknown) => {
      this.#file = undefined;
      throw error;
    });
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
      const kernel = this.#toKernel(saved);
      if (kernel === undefined) continue;
      this.#kernels.set(kernelId, kernel);
      if (closed) continue;
      kernel.adopt(runs.filter((run) => run.kernelId === kernelId)).catch((error: unknown) => {
        this.#ports.log.error('a kernel could not be taken up', { kernelId, error: String(error) });
      });
    }
  }

  #toKernel(saved: SavedKernel): AnyKernel | undefined {
    if (isRunnerKernel(saved)) return new Kernel(this.#kernelOwner(), saved);
    return isJupyterKernel(saved) ? new JupyterKernel(this.#kernelOwner(), saved) : undefined;
  }

  async #save(record: SavedRecord): Promise<void> {
    if (this.#isClosed) return;
    const file = await this.#open();
    if (file.sizeBytes > Math.max(compactBytes, 2 * this.#compactedBytes)) {
      await file.compact();
      this.#compactedBytes = file.sizeBytes;
    }
    await file.append(record);
  }

  #live(): SavedRecord[] {
    const kernels = [...this.#kernels.values()].map(({ saved }) => ({ kernel: saved }));
    return [...kernels, ...[...this.#runs.values()].map((run) => ({ run }))];
  }

  /**
   * One that was shut down stays known for as long as a run of it does; of each other the last run that ended: where that ended
   * another agent goes on with its log.
   */
  #forgetOld(): void {
    const last = new Map<string, SavedRun>();
    for (const run of this.#runs.values())
      if (run.ended?.ends !== undefined && !this.#kernels.get(run.kernelId)?.saved.closed) last.set(run.kernelId, run);
    for (const [runId, run] of this.#runs)
      if (this.#runs.size > keptRuns && run.ended !== undefined && last.get(run.kernelId) !== run)
        this.#runs.delete(runId);
    const used = new Set([...this.#runs.values()].map((run) => run.kernelId));
    for (const [kernelId, { saved }] of this.#kernels)
      if (saved.closed && !used.has(kernelId)) this.#kernels.delete(kernelId);
  }
}

/** What makes two requests the same one. */
function digestOf({ kernelId, spec, language, request, timeoutMs }: ExecuteOpen): string {
  return createHash('sha256')
    .update(JSON.stringify([kernelId, language, request, timeoutMs, ...(spec === undefined ? [] : [spec])]))
    .digest('hex');
}
