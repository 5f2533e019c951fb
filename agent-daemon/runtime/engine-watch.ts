/**
 * Keeps in touch with the container engine for ever: its events from where the last connection ended, its facts, and
 * whether it answers at all. When it comes back after a silence, whoever depends on it is told to look at everything.
 */
import type { Log, Timers } from '../../schema/ports.ts';
import type { ContainerRuntime, EngineEvent, EngineInfo } from './runtime.ts';

export interface EngineWatchOptions {
  runtime: ContainerRuntime;
  timers: Timers;
  log: Log;
  onEvent(event: EngineEvent): void;
  /** The engine answers (again): events may have been missed. Called once at the beginning too. */
  onBack(info: EngineInfo): void;
  onGone(reason: string): void;
}

const pingEveryMs = 10_000;
const retryMs = 1_000;

export class EngineWatch {
  readonly #options: EngineWatchOptions;
  readonly #stopping = new AbortController();
  #since: string | undefined;
  #info: EngineInfo | undefined;
  #error: string | undefined = 'not asked yet';
  #loops: Promise<unknown> = Promise.resolve();
  #first = Promise.withResolvers<void>();
  /** Resolved when there is a reason to ask at once. */
  #doubt = Promise.withResolvers<void>();

  constructor(options: EngineWatchOptions) {
    this.#options = options;
  }

  /** Facts of the engine as it was when it last answered; undefined before that. */
  get info(): EngineInfo | undefined {
    return this.#info;
  }

  /** Why it does not answer; undefined when it does. */
  get error(): string | undefined {
    return this.#error;
  }

  start(): void {
    this.#loops = Promise.all([this.#watchEvents(), this.#pingForever()]);
  }

  /** Resolves with the first answer, or after `timeoutMs` without one. */
  async whenAnswered(timeoutMs: number): Promise<void> {
    await Promise.race([this.#first.promise, this.#pause(timeoutMs)]);
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#loops;
  }

  async #pingForever(): Promise<void> {
    const { runtime } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        if (this.#error === undefined) await runtime.ping();
        else this.#noteBack(await runtime.info());
      } catch (error) {
        this.#noteGone(error);
      }
      const doubt = this.#error === undefined ? [this.#doubt.promise] : [];
      await Promise.race([this.#pause(this.#error === undefined ? pingEveryMs : retryMs), ...doubt]);
      this.#doubt = Promise.withResolvers();
    }
  }

  async #watchEvents(): Promise<void> {
    const { runtime, log } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        await runtime.watch(this.#since, (event) => this.#take(event), this.#stopping.signal);
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        log.debug('the stream of events of the engine ended', { error: String(error) });
        this.#doubt.resolve();
      }
      await this.#pause(retryMs);
    }
  }

  #take(event: EngineEvent): void {
    this.#since = event.at;
    this.#options.onEvent(event);
  }

  #noteBack(info: EngineInfo): void {
    this.#info = info;
    this.#error = undefined;
    this.#options.log.info('the container engine answers', { engine: info.description });
    this.#options.onBack(info);
    this.#first.resolve();
  }

  #noteGone(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error);
    const isNews = this.#error === undefined || this.#info === undefined;
    if (this.#error !== reason) this.#options.log.warn('the container engine does not answer', { error: reason });
    this.#error = reason;
    if (!isNews) return;
    try {
      this.#options.onGone(reason);
    } catch (fault) {
      // The loop that calls this must outlive whoever listens.
      this.#options.log.error('what follows from a silent engine failed', { error: String(fault) });
    }
  }

  #pause(delayMs: number): Promise<void> {
    const { signal } = this.#stopping;
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const cancel = this.#options.timers.after(delayMs, done);
      function done(): void {
        cancel();
        signal.removeEventListener('abort', done);
        resolve();
      }
      signal.addEventListener('abort', done);
    });
  }
}
