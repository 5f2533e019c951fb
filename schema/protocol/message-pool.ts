/**
 * Buffers of large messages, used again once the socket is done with them: a fresh megabyte for each message costs more in
 * page faults and garbage collection than the bytes themselves. Pure.
 */

/** Smaller messages are made fresh: they are cheap, and a large buffer must not be held up for them. */
const leastBytes = 32 * 1024;
const kept = 4;

export class MessagePool {
  readonly #bufferBytes: number;
  readonly #free: ArrayBuffer[] = [];

  constructor(bufferBytes: number) {
    this.#bufferBytes = bufferBytes;
  }

  /** A message buffer of exactly `bytes`; its content is undefined. */
  take(bytes: number): Uint8Array<ArrayBuffer> {
    if (bytes < leastBytes || bytes > this.#bufferBytes) return new Uint8Array(bytes);
    return new Uint8Array(this.#free.pop() ?? new ArrayBuffer(this.#bufferBytes), 0, bytes);
  }

  /** The message left: its buffer may be filled anew. */
  give(message: Uint8Array<ArrayBuffer>): void {
    const { buffer } = message;
    if (buffer.byteLength === this.#bufferBytes && this.#free.length < kept) this.#free.push(buffer);
  }
}
