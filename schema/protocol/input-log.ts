/**
 * Standard input of a remote process as a log with offsets: what was read is kept until the far end must have it, so
 * that after a cut it can be sent again from the offset that the agent names. Bounded: the reader is paused at
 * `maxUnsentBytes`, and what is older than `keptSentBytes` behind the sent position is let go (a stream's window, and so
 * what can be lost in a cut, is never larger: 16 MiB in `limits.ts`).
 */
import { channels } from './frame.ts';
import { type Stream, StreamOver } from './stream.ts';

const maxUnsentBytes = 1024 * 1024;
const keptSentBytes = 17 * 1024 * 1024;
/** What is read comes in blocks, however small the pieces in which it was typed. */
const blockBytes = 64 * 1024;
const firstBlockBytes = 512;

/** An `AbortSignal`, as far as it is needed here. */
export interface Abort {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** Input read so far, positions counted in bytes from its start. */
export class InputLog {
  /** Full ones of `blockBytes`, and a last one that may have room behind its bytes. */
  readonly #blocks: Uint8Array[] = [];
  #base = 0;
  #size = 0;
  #sent = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  #resumeReading: (() => void) | undefined;

  /** Adds what was read. Answers false when the reader should pause; `onRoom` is then called once there is room. */
  push(bytes: Uint8Array, onRoom: () => void): boolean {
    for (let from = 0; from < bytes.byteLength;) {
      const at = (this.#size - this.#base) % blockBytes;
      const part = bytes.subarray(from, from + blockBytes - at);
      this.#room(at, part.byteLength).set(part, at);
      this.#size += part.byteLength;
      from += part.byteLength;
    }
    this.#notify();
    if (this.#size - this.#sent < maxUnsentBytes) return true;
    this.#resumeReading = onRoom;
    return false;
  }

  /** There is no more input. */
  end(): void {
    this.#ended = true;
    this.#notify();
  }

  /** Bytes that were handed out, where it was not gone back since. */
  get sentBytes(): number {
    return this.#sent;
  }

  /** Bytes that wait to be handed out. */
  get unsentBytes(): number {
    return this.#size - this.#sent;
  }

  /** True when all input was handed out and there will be no more. */
  get exhausted(): boolean {
    return this.#ended && this.#sent === this.#size;
  }

  /** The far end has everything before `offset`: go on from there. False when that part is gone from here. */
  rewind(offset: number): boolean {
    if (offset < this.#base || offset > this.#size) return false;
    this.#sent = offset;
    return true;
  }

  /** The next bytes to send, at most 64 KiB; waits for them; undefined at the end of input or when `signal` aborts. */
  async next(signal: Abort): Promise<Uint8Array | undefined> {
    while (this.#sent === this.#size) {
      if (this.#ended || signal.aborted) return undefined;
      await this.#whenMore(signal);
    }
    if (signal.aborted) return undefined;
    const piece = this.#read(this.#sent);
    this.#sent += piece.byteLength;
    this.#forget();
    if (this.#size - this.#sent < maxUnsentBytes / 2) {
      this.#resumeReading?.();
      this.#resumeReading = undefined;
    }
    return piece;
  }

  /**
   * Sends what is there and what comes, as bytes from `from` on, until `signal` aborts or the stream is over, of which
   * whoever reads it is told why. True when all was sent and there will be no more.
   */
  async feed(stream: Stream, from: number, signal: Abort): Promise<boolean> {
    stream.seek(channels.input, from);
    try {
      for (let bytes = await this.next(signal); bytes !== undefined; bytes = await this.next(signal))
        await stream.write(channels.input, bytes);
      return this.exhausted;
    } catch (error) {
      if (!(error instanceof StreamOver)) throw error;
      return false;
    }
  }

  async #whenMore(signal: Abort): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    this.#wake = wake;
    signal.addEventListener('abort', wake);
    await promise;
    signal.removeEventListener('abort', wake);
  }

  /** The block in which `at` is the next free byte, with room for so many more. */
  #room(at: number, bytes: number): Uint8Array {
    const last = at === 0 ? undefined : this.#blocks.at(-1);
    if (last !== undefined && at + bytes <= last.byteLength) return last;
    const wanted = Math.max(at + bytes, 2 * (last?.byteLength ?? 0), firstBlockBytes);
    const block = new Uint8Array(Math.min(blockBytes, wanted));
    if (last === undefined) this.#blocks.push(block);
    else {
      block.set(last.subarray(0, at));
      this.#blocks[this.#blocks.length - 1] = block;
    }
    return block;
  }

  #read(offset: number): Uint8Array {
    const index = Math.floor((offset - this.#base) / blockBytes);
    const from = this.#base + index * blockBytes;
    const block = this.#blocks[index];
    if (block === undefined || offset >= this.#size) throw new RangeError(`no input at ${offset}`);
    return block.slice(offset - from, Math.min(blockBytes, this.#size - from));
  }

  #forget(): void {
    while (this.#blocks.length > 1 && this.#base + blockBytes < this.#sent - keptSentBytes) {
      this.#blocks.shift();
      this.#base += blockBytes;
    }
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
