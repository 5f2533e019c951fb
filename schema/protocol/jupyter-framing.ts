/**
 * Jupyter's messages as bytes, without reading what is in them. Pure.
 *
 *   v1 (`v1.kernel.websocket.jupyter.org`, in the tunnel's records): u64 LE number of offsets, the offsets (u64 LE, from
 *       the begin of the message, the last is its end), then channel name, header, parent header, metadata, content, buffers
 *   binary of the older dialect, for messages with buffers: u32 BE number of parts, their offsets (u32 BE), then JSON and buffers
 *   record of the tunnel: u32 BE length, a v1 message
 */
import { maxMessageBytes } from './channels.ts';

// Every runtime has them; the library of the language does not.
declare const TextEncoder: new () => { encode(text: string): Uint8Array };
declare const TextDecoder: new (
  label: string,
  options: { fatal: boolean; ignoreBOM: boolean },
) => { decode(bytes: Uint8Array): string };

/** Buffers of one message. */
const maxBuffers = 65_536;
const word = 8;

/** What is wrong with a message. */
export class FramingError extends Error {
  readonly isTooLarge: boolean;
  constructor(message: string, isTooLarge = false) {
    super(message);
    this.name = 'FramingError';
    this.isTooLarge = isTooLarge;
  }
}

/** A message by its parts: header, parent header, metadata, content, then buffers. */
export interface Message {
  channel: string;
  parts: readonly Uint8Array[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: false, ignoreBOM: true });

/** Bytes as text; what is no UTF-8 is replaced. */
export function textOf(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Where the parts of a v1 message lie: channel name first, each ends where the next begins. @throws FramingError */
function boundsOf(message: Uint8Array): number[] {
  if (message.byteLength < word) throw new FramingError('the message is too short');
  const view = viewOf(message);
  const count = numberAt(view, 0);
  if (count < 6 || count > maxBuffers + 6) throw new FramingError('the number of its parts is wrong');
  const dataAt = word * (1 + count);
  if (dataAt > message.byteLength) throw new FramingError('the message ends before its parts');
  const bounds: number[] = [];
  for (let at = 0; at < count; at++) {
    const bound = numberAt(view, word * (1 + at));
    if (bound < (bounds[at - 1] ?? dataAt) || bound > message.byteLength)
      throw new FramingError('its parts do not follow each other');
    bounds.push(bound);
  }
  return bounds;
}

/** A u64 that is small enough to be a length. */
function numberAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) === 0 ? view.getUint32(at, true) : Number.MAX_SAFE_INTEGER;
}

/** Takes a v1 message apart, as views into it. @throws FramingError */
export function splitMessage(message: Uint8Array): Message {
  const bounds = boundsOf(message);
  const parts = bounds.slice(1, -1).map((from, at) => message.subarray(from, bounds[at + 2]));
  return { channel: textOf(message.subarray(bounds[0], bounds[1])), parts };
}

/** A v1 message, with room for `before` bytes in front of it. */
function joinBehind({ channel, parts }: Message, before: number): Uint8Array<ArrayBuffer> {
  const name = encoder.encode(channel);
  const count = parts.length + 2;
  const dataAt = word * (1 + count);
  const size = parts.reduce((sum, part) => sum + part.byteLength, dataAt + name.byteLength);
  const whole = new Uint8Array(before + size);
  const view = new DataView(whole.buffer, before);
  view.setUint32(0, count, true);
  let at = dataAt;
  for (const [index, part] of [name, ...parts].entries()) {
    view.setUint32(word * (1 + index), at, true);
    whole.set(part, before + at);
    at += part.byteLength;
  }
  view.setUint32(word * count, at, true);
  return whole;
}

export function joinMessage(message: Message): Uint8Array<ArrayBuffer> {
  return joinBehind(message, 0);
}

/** A record of the tunnel of a message by its parts. */
export function joinRecord(message: Message): Uint8Array<ArrayBuffer> {
  const record = joinBehind(message, 4);
  viewOf(record).setUint32(0, record.byteLength - 4);
  return record;
}

/** A record of the tunnel of a v1 message as it is. */
export function toRecord(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const record = new Uint8Array(4 + message.byteLength);
  viewOf(record).setUint32(0, message.byteLength);
  record.set(message, 4);
  return record;
}

/** A place in the log of a kernel: which start, and how far in it. */
export interface LogPosition {
  starts: number;
  offset: number;
}

/** One message of the log, and where its record ends. */
export interface LogRecord {
  /** Where the record begins. */
  offset: number;
  end: number;
  message: Uint8Array;
}

/** Puts records together from the bytes of a log. Holds at most one that is not whole. */
export class RecordReader {
  /** Of the record that is under way. */
  #offset: number;
  #held = new Uint8Array(4);
  #filled = 0;
  #length: number | undefined;

  /** @param offset where the first record begins */
  constructor(offset: number) {
    this.#offset = offset;
  }

  /** Behind the last whole record. */
  get position(): number {
    return this.#offset;
  }

  /** Where the next bytes belong. */
  get next(): number {
    return this.#offset + this.#filled + (this.#length === undefined ? 0 : 4);
  }

  /** Bytes are missing: a record begins at `offset`. */
  skip(offset: number): void {
    this.#offset = offset;
    this.#begin();
  }

  #begin(): void {
    this.#held = new Uint8Array(4);
    this.#filled = 0;
    this.#length = undefined;
  }

  /** The records that these bytes complete, as views where they lie in them as a whole. @throws FramingError */
  *push(bytes: Uint8Array): Generator<LogRecord, void, void> {
    let at = 0;
    while (at < bytes.byteLength) {
      if (this.#filled === 0 && this.#length === undefined && bytes.byteLength - at >= 4) {
        const length = lengthAt(bytes, at);
        if (bytes.byteLength - at - 4 >= length) {
          yield this.#whole(bytes.subarray(at + 4, at + 4 + length));
          at += 4 + length;
          continue;
        }
      }
      const wanted = this.#held.byteLength - this.#filled;
      const taken = bytes.subarray(at, at + wanted);
      this.#held.set(taken, this.#filled);
      this.#filled += taken.byteLength;
      at += taken.byteLength;
      if (this.#filled < this.#held.byteLength) return;
      if (this.#length === undefined) {
        this.#length = lengthAt(this.#held, 0);
        this.#held = new Uint8Array(this.#length);
        this.#filled = 0;
        if (this.#length > 0) continue;
      }
      const message = this.#held;
      this.#begin();
      yield this.#whole(message);
    }
  }

  #whole(message: Uint8Array): LogRecord {
    const offset = this.#offset;
    this.#offset += 4 + message.byteLength;
    return { offset, end: this.#offset, message };
  }
}

/** @throws FramingError for more than a record may be */
function lengthAt(bytes: Uint8Array, at: number): number {
  const length = viewOf(bytes).getUint32(at);
  if (length > maxMessageBytes) throw new FramingError('a record of the log is too large');
  return length;
}
