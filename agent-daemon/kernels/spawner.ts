/** How the kernels of one session are started: by a runner in an interpreter of the image, or by a kernelspec behind its bridge. */
import { join } from 'node:path';
import type { Kernelspec, Language } from '../../schema/api/kernel-parts.ts';
import { Refusal } from '../../schema/errors.ts';
import type { Clock, Random, Timers } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import { freshId } from '../fresh-id.ts';
import type { SpawnSpec } from '../init/messages.ts';
import type { ProcessRecord } from '../output/process-record.ts';
import type { Spools } from '../output/spools.ts';
import { derivedProcessId } from '../processes/derived-id.ts';
import type { Supervisor } from '../processes/supervisor.ts';
import { type KernelInAdvance, mayBeInAdvance, nameInAdvance } from './in-advance.ts';
import { bridgeArgv, type FoundSpec, kernelArgvOf, kernelspecsArgv, listKernelspecs, specEnv } from './kernelspecs.ts';
import { kernelArgv, runnerFiles } from './languages.ts';
import { isRunnerKernel, type SavedKernel } from './saved.ts';

export interface SpawnerPorts {
  clock: Clock;
  timers: Timers;
  random: Random;
  disk: Disk;
  spools: Spools;
  /** Directory of the runners. */
  runnersPath: string;
}

/** The session, in as far as processes are started in it. */
export interface SpawningOwner {
  sessionId: string;
  generation: number;
  /** While the session runs. */
  supervisor(): Supervisor | undefined;
  hasEnded(): boolean;
  /** Path of causeway-init where the processes of the session are. */
  initPath: string;
  /** The name under which a kernel waits in the container, if one was started in advance. */
  kernelInAdvance(): string | undefined;
  /** A kernel of this kernelspec is started: one of them might be started in advance next time. */
  startsSpec(name: string): void;
  /** What to start as a kernel, with which of its own variables of the environment, and what is kept of it. */
  spawnOf(
    processId: string,
    argv: readonly string[],
    env?: Readonly<Record<string, string>>,
  ): Promise<{ spec: SpawnSpec; record: ProcessRecord }>;
}

/** How long listing kernelspecs may take. */
const listMs = 10_000;

/** The process of a kernel at one of its starts. */
export function processIdOf(kernelId: string, starts: number): string {
  return derivedProcessId(`kernel ${kernelId} ${starts}`);
}

export class KernelSpawner {
  readonly #ports: SpawnerPorts;
  readonly #owner: SpawningOwner;

  constructor(owner: SpawningOwner, ports: SpawnerPorts) {
    this.#owner = owner;
    this.#ports = ports;
  }

  /** @throws Refusal `session_not_running`, `session_ended`: then it never will */
  supervisor(): Supervisor {
    const supervisor = this.#owner.supervisor();
    if (supervisor !== undefined) return supervisor;
    if (this.#owner.hasEnded()) throw new Refusal('session_ended', 'The session has ended. Start a new one.');
    throw new Refusal('session_not_running', 'The session does not run yet.');
  }

  /** The source of the runner of a language. */
  async runner(language: Language): Promise<string> {
    return (await this.#ports.disk.readFile(join(this.#ports.runnersPath, runnerFiles[language]))).toString();
  }

  /** The kernelspecs that the processes of the session see. @throws Refusal */
  async specs(signal: AbortSignal): Promise<Kernelspec[]> {
    return (await this.#findAll(signal)).map(({ spec }) => spec);
  }

  /** The kernelspec of this name. @throws Refusal `kernel_spec_missing`, `kernel_spec_unusable` */
  async find(name: string, signal: AbortSignal): Promise<FoundSpec> {
    const specs = await this.#findAll(signal);
    const found = specs.find(({ spec }) => spec.name === name);
    if (found !== undefined) return found;
    const those = specs.map(({ spec }) => spec.name).join(', ') || 'none';
    throw new Refusal('kernel_spec_missing', `There is no ${name}; those that it has: ${those}.`);
  }

  /** That of a kernel which waits, if it is of this name and would be given to this session: nobody has to look for it again. */
  async ofWaiting(name: string, waiting: KernelInAdvance | undefined): Promise<FoundSpec | undefined> {
    if (waiting?.found.spec.name !== name) return undefined;
    const { take } = await this.#variants(freshId('process', this.#ports), waiting.found);
    return take === waiting.name ? waiting.found : undefined;
  }

  /** Starts the process of a kernel, or finds it started. `found`: its kernelspec, if that was just looked for. @throws Refusal */
  async spawn(kernel: SavedKernel, found?: FoundSpec): Promise<void> {
    const { kernelId, starts } = kernel;
    const processId = processIdOf(kernelId, starts);
    const { spec, record } = await (isRunnerKernel(kernel)
      ? this.#owner.spawnOf(processId, kernelArgv(kernel.language, Buffer.byteLength(kernel.frame.text), kernelId))
      : this.#ofSpec(processId, found ?? (await this.#findSoon(kernel.spec ?? ''))));
    await this.supervisor().spawnOnce(spec, record);
  }

  #findSoon(name: string): Promise<FoundSpec> {
    const given = new AbortController();
    const cancel = this.#ports.timers.after(listMs, () => given.abort());
    return this.find(name, given.signal).finally(cancel);
  }

  async #ofSpec(processId: string, found: FoundSpec): Promise<{ spec: SpawnSpec; record: ProcessRecord }> {
    const { started, env, take } = await this.#variants(processId, found);
    if (mayBeInAdvance(found)) this.#owner.startsSpec(found.spec.name);
    if (take === undefined) return started;
    return this.#owner.spawnOf(processId, bridgeArgv(this.#owner.initPath, found, { take }), env);
  }

  /** What starts it; and `take`, under which name the one waits that it would be given. */
  async #variants(processId: string, found: FoundSpec) {
    const argv = bridgeArgv(this.#owner.initPath, found);
    const { spec } = await this.#owner.spawnOf(processId, argv);
    const env = specEnv(found, spec.env);
    const started = await this.#owner.spawnOf(processId, argv, env);
    const name = mayBeInAdvance(found) ? nameInAdvance(kernelArgvOf(found), started.spec.env) : undefined;
    return { started, env, take: name === this.#owner.kernelInAdvance() ? name : undefined };
  }

  /** Asks the session's own init each time: who installs a kernel has it. */
  #findAll(signal: AbortSignal): Promise<FoundSpec[]> {
    const processId = freshId('process', this.#ports);
    const { sessionId, generation, initPath } = this.#owner;
    const supervisor = this.supervisor();
    const started = this.#owner.spawnOf(processId, kernelspecsArgv(initPath));
    return listKernelspecs({ ...this.#ports, supervisor }, { sessionId, generation, processId }, started, signal);
  }
}
