/**
 * Gathers frames into one message without copying payloads twice: pieces are collected first, the buffer is made once they
 * are known. Pure.
 */
import { type FrameType, writeHeader } from './frame.ts';
import { limits } from './limits.ts';
import type { MessagePool } from './message-pool.ts';

interface Piece {
  type: FrameType;
  flags: number;
  stream: number;
  offset: number;
  /** Parts of one payload. */
  parts: Uint8Array[];
  bytes: number;
}

export class Outgoing {
  readonly #maxBytes: number;
  #pieces: Piece[] = [];
  #bytes = 0;

  /** @param maxBytes of one message, at most the limit of the protocol */
  constructor(maxBytes: number) {
    this.#maxBytes = Math.min(maxBytes, limits.messageBytes);
  }

  get empty(): boolean {
    return this.#pieces.length === 0;
  }

  /** Payload that still fits with its header. */
  get room(): number {
    return this.#maxBytes - this.#bytes - limits.headerBytes;
  }

  add(type: FrameType, flags: number, stream: number, offset: number, parts: Uint8Array[], bytes: number): void {
    this.#pieces.push({ type, flags, stream, offset, parts, bytes });
    this.#bytes += limits.headerBytes + bytes;
  }

  /** The message, in a buffer of `pool`; nothing is left behind. */
  take(pool: MessagePool): Uint8Array<ArrayBuffer> {
    const message = pool.take(this.#bytes);
    const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
    let at = 0;
    for (const piece of this.#pieces) {
      writeHeader(view, at, piece.type, piece.flags, piece.stream, piece.offset, piece.bytes);
      at += limits.headerBytes;
      for (const part of piece.parts) {
        message.set(part, at);
        at += part.byteLength;
      }
    }
    this.#pieces = [];
    this.#bytes = 0;
    return message;
  }
}
