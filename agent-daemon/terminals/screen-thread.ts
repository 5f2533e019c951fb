/**
 * Screens that are drawn in a thread of their own: it begins with the first, ends with the last, and may die of what it is
 * given without harm to the agent.
 */
import { Worker } from 'node:worker_threads';
import type { TerminalWindow } from '../../schema/api/terminal-parts.ts';
import type { Log } from '../../schema/ports.ts';
import type { ScreenAnswer, ScreenRequest } from './screen-messages.ts';
import { type DrawnScreen, type Screen, ScreenLost, type Screens } from './screens.ts';

/** In a bundle, the text of the thread's program (`bundle/bundle.ts`). */
declare const CAUSEWAY_SCREEN_WORKER: string | undefined;

/** Cells lie outside of the heap; in it are marks and colours, which hostile output can pile up. */
const resourceLimits = { maxOldGenerationSizeMb: 256, maxYoungGenerationSizeMb: 16 };
/** The thread stays for a moment: the next screen needs not wait for another one. */
const lingerMs = 10_000;

interface Waiting {
  resolve: (answer: ScreenAnswer) => void;
  reject: (error: Error) => void;
}

/** The thread, with what it was asked and has not answered, by screen. */
interface Thread {
  worker: Worker;
  waiting: Map<number, Waiting[]>;
}

export class ScreenThread implements Screens {
  readonly #log: Log;
  #thread: Thread | undefined;
  #lastId = 0;
  #lingering: NodeJS.Timeout | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  open(window: TerminalWindow, drawn: DrawnScreen | undefined): Screen {
    clearTimeout(this.#lingering);
    const thread = (this.#thread ??= this.#start());
    const screen = ++this.#lastId;
    thread.waiting.set(screen, []);
    const ask = (request: ScreenRequest) => this.#ask(thread, request);
    // Whoever writes to it hears that it failed.
    ask({ screen, kind: 'open', window, drawn }).catch(() => undefined);
    return {
      write: async (bytes) => (await ask({ screen, kind: 'write', bytes })).answers ?? '',
      resize: async (size) => void (await ask({ screen, kind: 'resize', window: size })),
      draw: async () => {
        const answer = await ask({ screen, kind: 'draw' });
        if (answer.drawn === undefined) throw new ScreenLost('nothing was drawn');
        return answer.drawn;
      },
      close: () => {
        ask({ screen, kind: 'close' }).catch(() => undefined);
        thread.waiting.delete(screen);
        if (thread.waiting.size === 0) this.#linger(thread);
      },
    };
  }

  #start(): Thread {
    const options = { resourceLimits, stdout: false, stderr: false, env: {}, execArgv: [] };
    const worker =
      typeof CAUSEWAY_SCREEN_WORKER === 'string'
        ? new Worker(CAUSEWAY_SCREEN_WORKER, { ...options, eval: true })
        : new Worker(new URL('./screen-worker.ts', import.meta.url), options);
    const thread: Thread = { worker, waiting: new Map() };
    worker.unref();
    worker.on('message', (answer: ScreenAnswer) => {
      const next = thread.waiting.get(answer.screen)?.shift();
      if (answer.error === undefined) next?.resolve(answer);
      else next?.reject(new ScreenLost(answer.error));
    });
    worker.on('error', (error) => this.#log.warn('the thread that draws screens has failed', { error: String(error) }));
    worker.on('exit', () => this.#lost(thread));
    return thread;
  }

  #ask(thread: Thread, request: ScreenRequest): Promise<ScreenAnswer> {
    const waiting = thread.waiting.get(request.screen);
    if (thread !== this.#thread || waiting === undefined) return Promise.reject(new ScreenLost('the thread has ended'));
    return new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      thread.worker.postMessage(request, request.kind === 'write' ? [request.bytes.buffer] : []);
    });
  }

  #lost(thread: Thread): void {
    if (this.#thread === thread) this.#thread = undefined;
    for (const waiting of thread.waiting.values())
      for (const { reject } of waiting) reject(new ScreenLost('the thread that draws has ended'));
    thread.waiting.clear();
  }

  #linger(thread: Thread): void {
    this.#lingering = setTimeout(() => {
      if (this.#thread !== thread || thread.waiting.size > 0) return;
      this.#thread = undefined;
      void thread.worker.terminate();
    }, lingerMs);
    this.#lingering.unref();
  }
}
