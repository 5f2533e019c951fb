/**
 * One run of a process in a simulated world. When it is over nothing of it goes on: its timers are gone, what it waited
 * for never comes, what it calls does nothing. The world around it (disk, engine, containers) lives on.
 */
import type { Disk, DiskFile } from '../../../agent-daemon/disk.ts';
import type { Dial, Socket } from '../../../agent-daemon/tunnel/socket.ts';
import type { Timers } from '../../../schema/ports.ts';

export class Life implements Timers {
  #isOver = false;
  readonly #timers: Timers;
  readonly #cancels = new Set<() => void>();
  readonly #sockets = new Set<Socket>();

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** `sayGoodbye`: the kernel closes what was open, as after a kill; without, as after a loss of power, it does not. */
  end({ sayGoodbye }: { sayGoodbye: boolean }): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const cancel of this.#cancels) cancel();
    this.#cancels.clear();
    if (sayGoodbye) for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  after(delayMs: number, task: () => void): () => void {
    if (this.#isOver) return () => undefined;
    const cancel = this.#timers.after(delayMs, () => {
      this.#cancels.delete(cancel);
      task();
    });
    this.#cancels.add(cancel);
    return () => {
      this.#cancels.delete(cancel);
      cancel();
    };
  }

  /** What `promise` brings, or nothing for ever when this life ends before. */
  wait<T>(promise: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      promise.then(
        (value) => this.#isOver || resolve(value),
        (error: unknown) => this.#isOver || reject(error instanceof Error ? error : new Error(String(error))),
      );
    });
  }

  /** Calls `work` unless this life is over, and waits for it. */
  call<T>(work: () => Promise<T>): Promise<T> {
    return this.#isOver ? new Promise<T>(() => undefined) : this.wait(work());
  }

  guard<Args extends unknown[]>(task: (...args: Args) => void): (...args: Args) => void {
    return (...args) => {
      if (!this.#isOver) task(...args);
    };
  }

  /** The same object of which every method answers by a promise, for this life alone; so are callbacks given to it. */
  port<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        const method = value as (...args: unknown[]) => Promise<unknown>;
        return (...args: unknown[]) =>
          this.call(() =>
            method.apply(
              target,
              args.map((arg) => (isFunction(arg) ? this.guard(arg) : arg)),
            ),
          );
      },
    });
  }

  disk(disk: Disk): Disk {
    const whole = this.port(disk);
    return new Proxy(whole, {
      get: (_, name) => {
        if (name !== 'open') return Reflect.get(whole, name, whole) as unknown;
        return async (...args: Parameters<Disk['open']>): Promise<DiskFile> => this.port(await whole.open(...args));
      },
    });
  }

  dial(dial: Dial): Dial {
    return (request, listen) =>
      this.call(async () => {
        const opened = await dial(request, (socket) => {
          this.#sockets.add(socket);
          const events = listen(this.#socket(socket));
          return {
            message: this.guard((bytes: Uint8Array) => events.message(bytes)),
            text: this.guard((text: string) => events.text(text)),
            closed: (code, reason) => {
              this.#sockets.delete(socket);
              if (!this.#isOver) events.closed(code, reason);
            },
          };
        });
        // It was opened for somebody who has died meanwhile.
        if (this.#isOver) opened.destroy();
        return this.#socket(opened);
      });
  }

  #socket(socket: Socket): Socket {
    return {
      send: (bytes, sent) => {
        if (!this.#isOver) socket.send(bytes, sent === undefined ? undefined : this.guard(sent));
      },
      sendText: this.guard((text: string) => socket.sendText(text)),
      bufferedBytes: () => (this.#isOver ? 0 : socket.bufferedBytes()),
      close: this.guard((code: number, reason: string) => socket.close(code, reason)),
      destroy: this.guard(() => socket.destroy()),
    };
  }
}

function isFunction(value: unknown): value is (...args: unknown[]) => void {
  return typeof value === 'function';
}
