/**
 * The kernels of one session at one generation, and their runs: which there are, which one a run goes to, and what is kept
 * of both so that the next agent process goes on. It knows nothing of clients.
 */
import { createHash } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import type { KernelRestarts, Kernel as KernelView, Kernelspec, Language } from '../../schema/api/kernel-parts.ts';
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
import { JupyterKernel } from './jupyter-kernel.ts';
import { Kernel, type KernelOwner } from './kernel.ts';
import { bridgeArgv, type FoundSpec, kernelspecsArgv, listKernelspecs, specEnv } from './kernelspecs.ts';
import { interpreters, kernelArgv, runnerFiles, tried } from './languages.ts';
import {
  isJupyterKernel,
  isRunnerKernel,
  restore,
  type SavedKernel,
  type SavedRecord,
  type SavedRun,
} from './saved.ts';

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
  /** Path of causeway-init where the processes of the session are. */
  initPath: string;
  /** What to start as a kernel, with which of its own variables of the environment, and what is kept of it. */
  spawnOf(
    processId: string,
    argv: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<{ spec: SpawnSpec; record: ProcessRecord }>;
}

type AnyKernel = Kernel | JupyterKernel;

/** Of a session, at a time. */
const maxKernels = 16;
/** Runs that ended and are known still, so that a client can come back to one and repeat one without harm. */
const keptRuns = 1000;
const compactBytes = 4 * 1024 * 1024;
/** How long listing kernelspecs may take. */
const listMs = 10_000;

export class SessionKernels {
  readonly #ports: KernelsPorts;
  readonly #owner: KernelsOwner;
  readonly #kernels = new Map<string, AnyKernel>();
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

  /** Starts a kernel of a kernelspec, or finds it. @throws Refusal */
  async startSpec(
    kernelId: string,
    { spec, restarts }: { spec: string; restarts: KernelRestarts | undefined },
    signal: AbortSignal,
  ): Promise<KernelView> {
    await this.#open();
    const kernel = await this.#inTurn(async () => {
      const known = this.#kernels.get(kernelId);
      if (known !== undefined) return known;
      await this.#findSpec(spec, signal);
      const own = restarts === undefined ? { spec } : { spec, restarts };
      return this.#begin(new JupyterKernel(this.#kernelOwner(), { ...this.#newKernel(kernelId), ...own }));
    });
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  /** The kernelspecs that its processes see. @throws Refusal */
  async specs(signal: AbortSignal): Promise<Kernelspec[]> {
    return (await this.#findSpecs(signal)).map(({ spec }) => spec);
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
        if (starts === undefined || kernel.saved.starts === starts) await kernel.restart();
      });
    await this.#whenStarted(kernel, signal);
    return kernel.view;
  }

  /** Ends it; what it ran stays readable. */
  async shutdown(kernelId: string): Promise<KernelView> {
    const kernel = await this.#get(kernelId);
    await kernel.shutdown();
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
    if (!(kernel instanceof Kernel)) throw new Refusal('kernel_run_not_found');
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

  /** Nothing is kept any more. */
  async remove(): Promise<void> {
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
    if (kernelId !== undefined) return this.#runner(kernelId);
    const runners = this.#listed.filter((kernel) => kernel instanceof Kernel);
    const language = named ?? runners[0]?.saved.language;
    const living = runners.find(({ saved, state }) => saved.language === language && state !== 'dead');
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

  /** The kernel that is named, if it is one that runs code by itself. @throws Refusal */
  async #runner(kernelId: string): Promise<Kernel> {
    const kernel = await this.#get(kernelId);
    if (kernel instanceof Kernel) return kernel;
    throw new Refusal(
      'kernel_kind_wrong',
      'It is a kernel of Jupyter. Name another one, or a language (python, node, bash ...).',
    );
  }

  async #start(kernelId: string, language: Language): Promise<Kernel> {
    this.#running();
    const frame = { at: 0, text: await this.#source(language) };
    return this.#begin(new Kernel(this.#kernelOwner(), { ...this.#newKernel(kernelId), language, frame }));
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

  /** A program that is not there is no kernel. */
  async #whenStarted(kernel: AnyKernel, signal: AbortSignal): Promise<void> {
    await kernel.whenStarted(signal);
    const { death, language } = kernel.view;
    if (death === undefined || (death.exitCode !== 127 && death.exitCode !== 126)) return;
    await kernel.shut();
    if (language === undefined) throw new Refusal('kernel_spec_unusable', death.lastOutput.trim().slice(-500));
    throw new Refusal('kernel_language_missing', `The image has no ${interpreters[language]}.`);
  }

  async #findSpec(name: string, signal: AbortSignal): Promise<FoundSpec> {
    const specs = await this.#findSpecs(signal);
    const found = specs.find(({ spec }) => spec.name === name);
    if (found !== undefined) return found;
    const those = specs.map(({ spec }) => spec.name).join(', ') || 'none';
    throw new Refusal('kernel_spec_missing', `Those that it has: ${those}.`);
  }

  /** Asks the session's own init each time: who installs a kernel has it. */
  #findSpecs(signal: AbortSignal): Promise<FoundSpec[]> {
    const processId = freshId('process', this.#ports);
    const { sessionId, generation, initPath } = this.#owner;
    const started = this.#owner.spawnOf(processId, kernelspecsArgv(initPath));
    return listKernelspecs(
      { ...this.#ports, supervisor: this.#running() },
      { sessionId, generation, processId },
      started,
      signal,
    );
  }

  #running(): Supervisor {
    const supervisor = this.#owner.supervisor();
    if (supervisor === undefined) throw new Refusal('session_not_running', 'The session does not run (any more).');
    return supervisor;
  }

  #source = async (language: Language): Promise<string> =>
    (await this.#ports.disk.readFile(join(this.#ports.runnersPath, runnerFiles[language]))).toString();

  #kernelOwner(): KernelOwner {
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
      supervisor: () => this.#running(),
      spawn: (kernel: SavedKernel) => this.#spawn(kernel),
      runner: this.#source,
      processId: processIdOf,
      save: (record: SavedRecord) => this.#save(record),
    };
  }

  async #spawn(kernel: SavedKernel): Promise<void> {
    const { kernelId, starts } = kernel;
    const processId = processIdOf(kernelId, starts);
    const { spec, record } = await (isRunnerKernel(kernel)
      ? this.#owner.spawnOf(processId, kernelArgv(kernel.language, Buffer.byteLength(kernel.frame.text), kernelId))
      : this.#spawnOfSpec(processId, kernel.spec ?? ''));
    await this.#running().spawn(spec, record);
  }

  async #spawnOfSpec(processId: string, name: string): Promise<{ spec: SpawnSpec; record: ProcessRecord }> {
    const given = new AbortController();
    const cancel = this.#ports.timers.after(listMs, () => given.abort());
    const found = await this.#findSpec(name, given.signal).finally(cancel);
    const argv = bridgeArgv(this.#owner.initPath, found);
    const { spec } = await this.#owner.spawnOf(processId, argv);
    return this.#owner.spawnOf(processId, argv, specEnv(found, spec.env));
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
