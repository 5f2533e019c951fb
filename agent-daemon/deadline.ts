/** Moments, pauses and limits of time, and what is tried again until it is done. */
import { Refusal } from '../schema/errors.ts';
import type { Clock, Timers } from '../schema/ports.ts';

const stepMs = 3_600_000;

/** One moment on CLOCK_BOOTTIME, however far away: timers of Node end at 24 days. */
export class Deadline {
  readonly #ports: { clock: Clock; timers: Timers };
  #cancel: () => void = () => undefined;

  constructor(ports: { clock: Clock; timers: Timers }) {
    this.#ports = ports;
  }

  /** Runs `task` when the boot clock shows `bootMs`, at once if it has passed. Replaces an earlier one. */
  at(bootMs: number, task: () => void): void {
    this.#cancel();
    const leftMs = bootMs - this.#ports.clock.bootMs();
    this.#cancel = this.#ports.timers.after(Math.max(0, Math.min(leftMs, stepMs)), () => {
      if (this.#ports.clock.bootMs() >= bootMs) task();
      else this.at(bootMs, task);
    });
  }

  cancel(): void {
    this.#cancel();
  }
}

/** Resolves after `delayMs`, or when `signal` aborts. */
export function pause(timers: Timers, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const cancel = timers.after(delayMs, done);
    if (signal?.aborted === true) done();
    else signal?.addEventListener('abort', done);
  });
}

const againMs = 1_000;

export interface Insistence {
  timers: Timers;
  signal: AbortSignal;
  /** Told of each time in vain. */
  failed: (error: unknown) => void;
}

/**
 * Does what a disk may refuse for a while, every second until it is done; `act` may be done in part before. Undefined when
 * `signal` aborted first. @throws Refusal but one that says that the session can not be reached now
 */
export async function insist<T>({ timers, signal, failed }: Insistence, act: () => Promise<T>): Promise<T | undefined> {
  while (!signal.aborted) {
    try {
      return await act();
    } catch (error) {
      if (error instanceof Refusal && error.code !== 'session_not_running') throw error;
      failed(error);
      await pause(timers, againMs, signal);
    }
  }
  return undefined;
}

/** A signal that aborts after `delayMs`, or with any of `others`. Call `cancel` when nothing waits for it any more. */
export function timeLimit(
  timers: Timers,
  delayMs: number,
  ...others: AbortSignal[]
): { signal: AbortSignal; cancel: () => void } {
  const late = new AbortController();
  const cancel = timers.after(delayMs, () => late.abort(new Error(`no answer within ${delayMs / 1000} s`)));
  return { signal: AbortSignal.any([late.signal, ...others]), cancel };
}
