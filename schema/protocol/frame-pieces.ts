/**
 * Frames out of a message that comes in pieces, for receivers that read into one buffer again and again: bytes of DATA are
 * given on as they come, as smaller frames at their offsets, everything else is joined first. The same checks as
 * `decodeFrames` (SPEC rules F1-F5). Pure.
 */
import { channelOf, channels, decodeHeader, type Frame, FrameError, frameTypes } from './frame.ts';
import { limits } from './limits.ts';

const nothing = new Uint8Array(0);

export class FramePieces {
  readonly #header = new Uint8Array(limits.headerBytes);
  readonly #view = new DataView(this.#header.buffer);
  #headerBytes = 0;
  /** The frame whose payload is under way, and how much of it is missing. */
  #frame: Frame | undefined;
  #left = 0;
  /** Where a payload is joined that can not be given on in parts. */
  #joined: Uint8Array | undefined;
  /** Bytes of this message so far. */
  #messageBytes = 0;

  /**
   * Takes the next bytes of a message; `last` with those that end it. Payloads given to `take` are valid during the call.
   * @throws FrameError after which the socket is of no use
   */
  push(piece: Uint8Array, last: boolean, take: (frame: Frame) => void): void {
    this.#messageBytes += piece.byteLength;
    if (this.#messageBytes > limits.messageBytes) throw new FrameError('F4', 'message over 1 MiB');
    for (let at = 0; at < piece.byteLength;)
      at += this.#frame === undefined ? this.#takeHeader(piece, at, take) : this.#takePayload(piece, at, take);
    if (!last) return;
    if (this.#messageBytes === 0) throw new FrameError('F4', 'empty message');
    if (this.#headerBytes > 0) throw new FrameError('F2', 'truncated header');
    if (this.#frame !== undefined) throw new FrameError('F2', 'truncated payload');
    this.#messageBytes = 0;
  }

  #takeHeader(piece: Uint8Array, at: number, take: (frame: Frame) => void): number {
    const part = piece.subarray(at, at + limits.headerBytes - this.#headerBytes);
    this.#header.set(part, this.#headerBytes);
    this.#headerBytes += part.byteLength;
    if (this.#headerBytes < limits.headerBytes) return part.byteLength;
    this.#headerBytes = 0;
    const { length, ...header } = decodeHeader(this.#view, 0);
    const frame = { ...header, payload: nothing };
    if (length === 0) {
      take(frame);
      return part.byteLength;
    }
    this.#frame = frame;
    this.#left = length;
    // A message on the control channel is one frame, whole.
    const inParts = frame.type === frameTypes.data && channelOf(frame) !== channels.control;
    this.#joined = inParts ? undefined : new Uint8Array(length);
    return part.byteLength;
  }

  #takePayload(piece: Uint8Array, at: number, take: (frame: Frame) => void): number {
    const frame = this.#frame!;
    const part = piece.subarray(at, at + this.#left);
    const bytes = part.byteLength;
    const joined = this.#joined;
    if (joined !== undefined) joined.set(part, joined.byteLength - this.#left);
    this.#left -= bytes;
    if (this.#left === 0) this.#frame = undefined;
    if (joined === undefined) {
      take({ ...frame, payload: part });
      frame.offset += bytes;
    } else if (this.#left === 0) take({ ...frame, payload: joined });
    return bytes;
  }
}
