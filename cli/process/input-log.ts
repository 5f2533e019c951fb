/**
 * Standard input of a remote process as a log with offsets: what was read is kept until the far end must have it, so
 * that after a cut it can be sent again from the offset that the agent names. Bounded: the reader is paused at
 * `maxUnsentBytes`, and what is older than `keptSentBytes` behind the sent position is let go (a stream's window, and so
 * what can be lost in a cut, is never larger: 16 MiB in `schema/protocol/limits.ts`).
 */
const maxUnsentBytes = 1024 * 1024;
const keptSentBytes = 17 * 1024 * 1024;
const pieceBytes = 64 * 1024;

/** Input read so far, positions counted in bytes from its start. */
export class InputLog {
  readonly #chunks: Uint8Array[] = [];
  #base = 0;
  #size = 0;
  #sent = 0;
  #ended = false;
  #wake: (() => void) | undefined;
  #resumeReading: (() => void) | undefined;

  /** Adds what was read. Answers false when the reader should pause; `onRoom` is then called once there is room. */
  push(bytes: Uint8Array, onRoom: () => void): boolean {
    this.#chunks.push(bytes);
    this.#size += bytes.byteLength;
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
  async next(signal: AbortSignal): Promise<Uint8Array | undefined> {
    while (this.#sent === this.#size) {
      if (this.#ended || signal.aborted) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        signal.addEventListener('abort', () => resolve(), { once: true });
      });
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

  #read(offset: number): Uint8Array {
    let at = this.#base;
    for (const chunk of this.#chunks) {
      if (offset < at + chunk.byteLength) return chunk.slice(offset - at, offset - at + pieceBytes);
      at += chunk.byteLength;
    }
    throw new RangeError(`no input at ${offset}`);
  }

  #forget(): void {
    while (this.#chunks.length > 0 && this.#base + this.#chunks[0]!.byteLength < this.#sent - keptSentBytes)
      this.#base += this.#chunks.shift()!.byteLength;
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
