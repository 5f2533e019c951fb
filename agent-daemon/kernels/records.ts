/**
 * The log of a Jupyter kernel as its bridge writes it (SPEC.md rules J1-J3): records of a u32 and a message. Read as far as
 * the agent needs it: where records begin, what they are, and the content of small ones. Behind a gap it looks for the next
 * begin by the form alone. It believes nothing, holds little, and does no I/O.
 */
import { bridgeChannel, maxMessageBytes } from '../../schema/protocol/channels.ts';

/** A record, which covers [offset, end) of the log. */
export interface LogRecord {
  offset: number;
  end: number;
  channel: string;
  /** JSON texts; the content is absent where the record is larger than `heldBytes`. */
  header: Buffer;
  parent: Buffer;
  content: Buffer | undefined;
}

const lengthBytes = 4;
/** Number of offsets: channel, four parts, buffers, and the end. */
const leastOffsets = 6;
const mostOffsets = 1030;
const channelNames: readonly string[] = ['iopub', 'shell', 'control', 'stdin', bridgeChannel];
/** Of a record held at most; a header beyond is not read. */
const heldBytes = 64 * 1024;

/** Offsets of the parts of the message that begins at `at`; 'more' when the bytes do not tell yet, undefined when it is none. */
function offsetsAt(bytes: Buffer, at: number): readonly number[] | 'more' | undefined {
  const have = bytes.byteLength - at;
  if (have < lengthBytes) return 'more';
  const length = bytes.readUInt32BE(at);
  if (length < 8 * (leastOffsets + 1) || length > maxMessageBytes) return undefined;
  const count = have < lengthBytes + 8 ? undefined : small(bytes, at + lengthBytes);
  if (count === undefined) return have < lengthBytes + 8 ? 'more' : undefined;
  if (count < leastOffsets || count > mostOffsets) return undefined;
  const offsets: number[] = [];
  for (let i = 0, last = 8 * (count + 1); i < count; i++) {
    const place = at + lengthBytes + 8 * (i + 1);
    if (place + 8 > bytes.byteLength) return 'more';
    const offset = small(bytes, place);
    if (offset === undefined || (i === 0 ? offset !== last : offset < last) || offset > length) return undefined;
    offsets.push(offset);
    last = offset;
  }
  return offsets.at(-1) === length ? offsets : undefined;
}

/** A u64 (little endian) that fits into 32 bits. */
function small(bytes: Buffer, at: number): number | undefined {
  return bytes.readUInt32LE(at + 4) === 0 ? bytes.readUInt32LE(at) : undefined;
}

/** True for the begin of a record with one of our channels; 'more' when the bytes do not tell yet. */
function isBegin(bytes: Buffer, at: number): boolean | 'more' {
  const offsets = offsetsAt(bytes, at);
  if (offsets === undefined || offsets === 'more') return offsets ?? false;
  const [from = 0, to = 0] = offsets;
  if (at + lengthBytes + to > bytes.byteLength) return 'more';
  return channelNames.includes(bytes.toString('latin1', at + lengthBytes + from, at + lengthBytes + to));
}

/** Where the next record begins, of bytes that begin anywhere. */
export class RecordFinder {
  #held = Buffer.alloc(0);
  #offset: number;

  /** `offset`: of the first byte that comes. */
  constructor(offset: number) {
    this.#offset = offset;
  }

  /** Bytes from the begin of a record on, once one was found. */
  push(bytes: Uint8Array): { offset: number; bytes: Buffer } | undefined {
    const all = Buffer.concat([this.#held, bytes]);
    for (let at = 0; at < all.byteLength; at++) {
      const found = isBegin(all, at);
      if (found === false) continue;
      if (found === true) return { offset: this.#offset + at, bytes: all.subarray(at) };
      return this.#keep(all, at);
    }
    return this.#keep(all, all.byteLength);
  }

  /** Bytes are missing before `offset`. */
  skip(offset: number): void {
    this.#held = Buffer.alloc(0);
    this.#offset = offset;
  }

  #keep(all: Buffer, at: number): undefined {
    this.#held = Buffer.from(all.subarray(at));
    this.#offset += at;
  }
}

export class RecordReader {
  /** Begin of the record that is read, or of what is looked through for one. */
  #position: number;
  #finder: RecordFinder | undefined;
  /** Bytes of the record from its begin on, at most `heldBytes`. */
  #held = Buffer.alloc(0);
  /** Bytes of it that were read. */
  #read = 0;

  /** `offset`: the begin of a record, or (`isLost`) any. */
  constructor(offset: number, { isLost }: { isLost: boolean } = { isLost: false }) {
    this.#position = offset;
    if (isLost) this.#finder = new RecordFinder(offset);
  }

  /** A record begins here; while that is unknown, undefined. */
  get boundary(): number | undefined {
    return this.#finder === undefined ? this.#position : undefined;
  }

  /** The next bytes. Records are valid until the next call. */
  push(bytes: Buffer): LogRecord[] {
    const found = this.#finder === undefined ? undefined : this.#finder.push(bytes);
    if (this.#finder !== undefined && found === undefined) return [];
    if (found !== undefined) {
      this.#finder = undefined;
      this.#position = found.offset;
    }
    return this.#take(found?.bytes ?? bytes);
  }

  /** Bytes before `offset` are missing. */
  skip(offset: number): void {
    if (this.#finder === undefined) this.#finder = new RecordFinder(offset);
    else this.#finder.skip(offset);
    this.#held = Buffer.alloc(0);
    this.#read = 0;
    this.#position = offset;
  }

  #take(bytes: Buffer): LogRecord[] {
    const records: LogRecord[] = [];
    for (let at = 0; at < bytes.byteLength;) {
      // Seen at once, before what claims to be long takes what follows with it.
      if (this.#read === 0 && isBegin(bytes, at) === false)
        return this.#lose(records, bytes.subarray(at, at + 1), bytes.subarray(at + 1));
      const size = this.#size(bytes, at);
      const isKnown = size !== undefined;
      const wanted = size ?? lengthBytes;
      const part = Math.min(bytes.byteLength - at, wanted - this.#read);
      // Whole, as most are: nothing is copied.
      const isWhole = this.#read === 0 && part === size;
      const record = isWhole ? bytes.subarray(at, at + part) : this.#hold(bytes.subarray(at, at + part));
      at += part;
      this.#read += part;
      if (this.#read <= heldBytes && isBegin(record, 0) === false)
        return this.#lose(records, record, bytes.subarray(at));
      if (!isKnown || this.#read < size) continue;
      const parsed = toRecord(record, this.#position, size);
      if (parsed === undefined) return this.#lose(records, record, bytes.subarray(at));
      records.push(parsed);
      this.#position += size;
      this.#read = 0;
      this.#held = Buffer.alloc(0);
    }
    return records;
  }

  /** Not of this form: what wrote it was no bridge of ours, or bytes were lost that nobody told of. */
  #lose(before: LogRecord[], record: Buffer, rest: Buffer): LogRecord[] {
    this.skip(this.#position + 1);
    return [...before, ...this.push(Buffer.concat([record.subarray(1), rest]))];
  }

  /** Of the record that is read; undefined while its length did not come. */
  #size(bytes: Buffer, at: number): number | undefined {
    if (this.#held.byteLength >= lengthBytes) return lengthBytes + this.#held.readUInt32BE(0);
    if (this.#read === 0 && bytes.byteLength - at >= lengthBytes) return lengthBytes + bytes.readUInt32BE(at);
    return undefined;
  }

  #hold(part: Buffer): Buffer {
    const room = heldBytes - this.#held.byteLength;
    if (room > 0) this.#held = Buffer.concat([this.#held, part.subarray(0, room)]);
    return this.#held;
  }
}

function toRecord(bytes: Buffer, offset: number, size: number): LogRecord | undefined {
  const offsets = offsetsAt(bytes, 0);
  if (offsets === undefined || offsets === 'more') return undefined;
  const part = (i: number) => bytes.subarray(lengthBytes + (offsets[i] ?? 0), lengthBytes + (offsets[i + 1] ?? 0));
  const channel = part(0).toString('latin1');
  if (!channelNames.includes(channel)) return undefined;
  const isWhole = bytes.byteLength === size;
  return {
    offset,
    end: offset + size,
    channel,
    header: part(1),
    parent: part(2),
    content: isWhole ? part(4) : undefined,
  };
}

const typeKey = Buffer.from('"msg_type"');

/** The type of a message, without parsing all of its header; empty when there is none. */
export function typeOf(header: Buffer): string {
  const at = header.indexOf(typeKey);
  if (at < 0) return '';
  const found = /^"msg_type" ?: ?"([A-Za-z0-9_]{1,64})"/.exec(header.toString('latin1', at, at + 90));
  return found?.[1] ?? '';
}

/** A JSON object of a record; undefined when it is none. */
export function parseObject(text: Buffer | undefined): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text?.toString() ?? '');
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

/** True for a whole record that a client may send. What is in its JSON is between it and the kernel. */
export function isForKernel(record: Buffer): boolean {
  if (record.byteLength < lengthBytes || record.byteLength !== lengthBytes + record.readUInt32BE(0)) return false;
  const parsed = toRecord(record, 0, record.byteLength);
  return parsed !== undefined && ['shell', 'control', 'stdin'].includes(parsed.channel);
}
