/**
 * How a kernel lives, of whatever kind it is: what ended its present start, until when that start is followed and what is
 * done for it is tried again, and who is told of all that.
 */
import type { Kernel as KernelView } from '../../schema/api/kernel-parts.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import type { ExecuteOutcome } from '../../schema/protocol/execute.ts';
import { Bell } from '../bell.ts';
import { type Insistence, insist } from '../deadline.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { SavedJupyterKernel } from './saved.ts';

const minuteMs = 60_000;

export interface LifeOwner {
  sessionId: string;
  kernelId: string;
  timers: Timers;
  log: Log;
}

export class KernelLife {
  readonly bell = new Bell();
  readonly #owner: LifeOwner;
  #death: KernelView['death'];
  #dead = Promise.withResolvers<void>();
  #following = new AbortController();
  #isLetGo = false;

  constructor(owner: LifeOwner) {
    this.#owner = owner;
  }

  /** How the present start ended; undefined while it has not, as far as is known. */
  get death(): KernelView['death'] {
    return this.#death;
  }

  /** Aborts when the present start is followed no more. */
  get signal(): AbortSignal {
    return this.#following.signal;
  }

  /** Resolves when the present start has ended. */
  whenDead(): Promise<void> {
    return this.#dead.promise;
  }

  die(how: ExecuteOutcome, lastOutput: string): void {
    this.#death = { ...how, lastOutput };
    this.#dead.resolve();
    this.bell.ring();
  }

  /** Another start follows; nobody is told yet. */
  begin(): void {
    this.#following.abort();
    this.#following = new AbortController();
    if (this.#isLetGo) this.#following.abort();
    this.#death = undefined;
    this.#dead = Promise.withResolvers<void>();
  }

  /** Neither this start is followed any more, nor one that comes. */
  letGo(): void {
    this.#isLetGo = true;
    this.#following.abort();
  }

  /** Resolves when it `isSo` no more, the present start has ended, or is followed no more. */
  whileSo(isSo: () => boolean): Promise<void> {
    return this.bell.whileSo(() => this.#death === undefined && isSo(), this.signal);
  }

  /** Does for the present start what the disk may refuse; undefined when that is followed no more. @throws Refusal as `insist` */
  insist<T>(act: () => Promise<T>): Promise<T | undefined> {
    return insist(this.insistence, act);
  }

  get insistence(): Insistence {
    return { timers: this.#owner.timers, signal: this.signal, failed: (error) => this.#warn(error) };
  }

  /** Mostly: the process is gone meanwhile, which its log tells. */
  failed(error: unknown): void {
    if (!this.signal.aborted && this.#death === undefined) this.#warn(error);
  }

  #warn(error: unknown): void {
    const { sessionId, kernelId, log } = this.#owner;
    log.warn('a kernel could not be served', { sessionId, kernelId, error: String(error) });
  }
}

/** The end of its process, as clients are told. */
export function outcomeOf({ exitCode, signal, reason }: ProcessExit): ExecuteOutcome {
  return {
    reason,
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
  };
}

/** When it was started anew by itself within the last minute, this time among them; undefined: it is not. */
export function nextRestarts(
  { restarts, restartedAtMs = [], closed }: Pick<SavedJupyterKernel, 'restarts' | 'restartedAtMs' | 'closed'>,
  { exitCode, reason }: ProcessExit,
  nowMs: number,
): number[] | undefined {
  const isUnusable = exitCode === 126 || exitCode === 127;
  const isItsOwn = reason === 'exited' || reason === 'oom';
  if (closed || restarts === undefined || isUnusable || !isItsOwn) return undefined;
  const recent = restartedAtMs.filter((atMs) => atMs > nowMs - minuteMs && atMs <= nowMs);
  return recent.length < restarts.perMinute ? [...recent, nowMs] : undefined;
}
