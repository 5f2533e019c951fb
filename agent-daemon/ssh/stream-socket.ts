/**
 * A stream of the tunnel as the socket that ssh2 takes. ssh2 never looks at what `write` answers and reads as fast as it is
 * given, so both bounds are kept here: who writes bulk awaits `whenRoom`, and nothing is read while too much waits in
 * channels (`mayRead`) or for the far end.
 */
import { Duplex } from 'node:stream';
import { channels } from '../../schema/protocol/frame.ts';
import type { AgentStream } from '../dispatch.ts';

/** Waits for the far end: bulk stops at the first, reading (and so answering) at the second. */
const roomBytes = 256 * 1024;
const mostBytes = 4 * 1024 * 1024;

export class StreamSocket extends Duplex {
  readonly #stream: AgentStream;
  readonly #mayRead: () => boolean;
  #readWaiter: (() => void) | undefined;
  #wantsMore = false;
  #roomWaiters: (() => void)[] = [];

  constructor(stream: AgentStream, mayRead: () => boolean) {
    // A client that sends no more is gone.
    super({ writableHighWaterMark: roomBytes, allowHalfOpen: false });
    this.#stream = stream;
    this.#mayRead = mayRead;
    stream.closed.addEventListener('abort', () => this.destroy());
    // A stream that is over rejects: whoever reads here sees the end of the socket.
    this.#pump().then(
      () => this.push(null),
      () => this.destroy(),
    );
  }

  /** Resolves when what was written has mostly gone, or nothing goes any more. */
  async whenRoom(): Promise<void> {
    while (!this.#isOver && this.writableLength >= roomBytes)
      await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
  }

  /** What `mayRead` says may have changed. */
  poke(): void {
    const waiter = this.#readWaiter;
    if (waiter === undefined || !this.#wantsMore || this.writableLength >= mostBytes || !this.#mayRead()) return;
    this.#wantsMore = false;
    this.#readWaiter = undefined;
    waiter();
  }

  override _read(): void {
    this.#wantsMore = true;
    this.poke();
  }

  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    void this.#send([chunk], done);
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: (error?: Error | null) => void): void {
    void this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.end(channels.stdout);
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#wakeWriters();
    this.#readWaiter?.();
    done(error);
  }

  get #isOver(): boolean {
    return this.destroyed || this.writableEnded;
  }

  async #send(chunks: Uint8Array[], done: (error?: Error | null) => void): Promise<void> {
    try {
      await Promise.all(chunks.map((chunk) => this.#stream.write(channels.stdout, chunk)));
    } catch {
      this.destroy();
    }
    done();
    this.#wakeWriters();
    this.poke();
  }

  #wakeWriters(): void {
    if (!this.#isOver && this.writableLength >= roomBytes) return;
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  async #pump(): Promise<void> {
    for await (const { channel, bytes, end } of this.#stream.read()) {
      if (channel !== channels.input) continue;
      if (end || this.destroyed) return;
      // A view, and a copy of nothing: the bytes belong to whoever read them.
      this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
      await new Promise<void>((resolve) => {
        this.#readWaiter = resolve;
        this.poke();
      });
    }
  }
}
