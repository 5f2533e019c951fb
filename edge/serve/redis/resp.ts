/**
 * RESP2, Redis' wire protocol, without I/O: commands to bytes, bytes to replies.
 * The parser keeps its place over any split of the input, copies nothing until a value is whole, and refuses what is
 * larger, deeper or stranger than a reply can be; after a throw it must not be used again.
 */
import { Buffer } from 'node:buffer';

import { type Command, RedisError, type Reply, Status } from './backend.ts';

const crlf = Buffer.from('\r\n');
const depthMax = 32;
const lineMax = 64 * 1024;

/** The bytes of some commands, one after the other. */
export function encodeCommands(commands: readonly Command[]): Buffer {
  const parts: Buffer[] = [];
  for (const command of commands) {
    parts.push(Buffer.from(`*${command.length}\r\n`));
    for (const argument of command) parts.push(Buffer.from(`$${argument.length}\r\n`), argument, crlf);
  }
  return Buffer.concat(parts);
}

/** What came is not RESP2, or over a limit. The connection is of no further use. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

interface OpenArray {
  readonly items: Reply[];
  missing: number;
}

/** `push` bytes as they come; each whole reply is handed to `onReply` in order. Replies over `maxBytes` are refused. */
export class RespParser {
  readonly #onReply: (reply: Reply) => void;
  readonly #maxBytes: number;
  #buffer: Buffer = Buffer.alloc(0);
  #position = 0;
  /** Chunks not yet joined to the buffer, because a long value is known to need more. */
  #later: Buffer[] = [];
  #laterBytes = 0;
  /** Bytes from `#position` without which parsing can not go on. */
  #needed = 1;
  /** Length of the bulk string whose header was read, or undefined. */
  #bulk: number | undefined;
  #open: OpenArray[] = [];
  #replyBytes = 0;

  constructor(onReply: (reply: Reply) => void, maxBytes: number) {
    this.#onReply = onReply;
    this.#maxBytes = maxBytes;
  }

  push(chunk: Buffer): void {
    this.#later.push(chunk);
    this.#laterBytes += chunk.length;
    if (this.#buffer.length - this.#position + this.#laterBytes < this.#needed) return;
    this.#buffer = Buffer.concat([this.#buffer.subarray(this.#position), ...this.#later]);
    this.#position = 0;
    this.#later = [];
    this.#laterBytes = 0;
    this.#needed = 1;
    while (this.#position < this.#buffer.length && this.#step());
  }

  /** Takes one value or header; false when more bytes are needed. */
  #step(): boolean {
    if (this.#bulk !== undefined) return this.#takeBulk(this.#bulk);
    const end = this.#buffer.indexOf(crlf, this.#position);
    if (end === -1) {
      if (this.#buffer.length - this.#position > lineMax) throw new ProtocolError('a line is too long');
      this.#needed = this.#buffer.length - this.#position + 1;
      return false;
    }
    const type = this.#buffer[this.#position];
    const line = this.#buffer.toString('utf8', this.#position + 1, end);
    this.#count(end + 2 - this.#position);
    this.#position = end + 2;
    this.#takeLine(type, line);
    return true;
  }

  #takeLine(type: number | undefined, line: string): void {
    if (type === 0x2b) this.#complete(new Status(line));
    else if (type === 0x2d) this.#complete(new RedisError(line));
    else if (type === 0x3a) this.#complete(toInteger(line));
    else if (type === 0x24) this.#startBulk(toLength(line));
    else if (type === 0x2a) this.#startArray(toLength(line));
    else throw new ProtocolError(`unknown type byte ${String(type)}`);
  }

  #startBulk(length: number): void {
    if (length === -1) {
      this.#complete(null);
      return;
    }
    this.#count(length + 2);
    this.#bulk = length;
  }

  #takeBulk(length: number): boolean {
    const end = this.#position + length;
    if (this.#buffer.length < end + 2) {
      this.#needed = length + 2;
      return false;
    }
    if (this.#buffer[end] !== 0x0d || this.#buffer[end + 1] !== 0x0a) throw new ProtocolError('a string is not closed');
    const value = this.#buffer.subarray(this.#position, end);
    this.#position = end + 2;
    this.#bulk = undefined;
    this.#complete(value);
    return true;
  }

  #startArray(length: number): void {
    if (length === -1) this.#complete(null);
    else if (length === 0) this.#complete([]);
    else {
      if (this.#open.length === depthMax) throw new ProtocolError('arrays are nested too deeply');
      // The smallest element takes four bytes.
      if (this.#replyBytes + length * 4 > this.#maxBytes) this.#tooLarge();
      this.#open.push({ items: [], missing: length });
    }
  }

  #complete(value: Reply): void {
    let whole = value;
    for (let top = this.#open.at(-1); top !== undefined; top = this.#open.at(-1)) {
      top.items.push(whole);
      top.missing -= 1;
      if (top.missing > 0) return;
      this.#open.pop();
      whole = top.items;
    }
    this.#replyBytes = 0;
    this.#onReply(whole);
  }

  #count(bytes: number): void {
    this.#replyBytes += bytes;
    if (this.#replyBytes > this.#maxBytes) this.#tooLarge();
  }

  #tooLarge(): never {
    throw new ProtocolError(`a reply is larger than ${this.#maxBytes} bytes`);
  }
}

function toInteger(line: string): number | bigint {
  if (!/^[+-]?\d{1,20}$/.test(line)) throw new ProtocolError('an integer is malformed');
  const value = Number(line);
  return Number.isSafeInteger(value) ? value : BigInt(line);
}

function toLength(line: string): number {
  if (!/^(-1|\d{1,10})$/.test(line)) throw new ProtocolError('a length is malformed');
  return Number(line);
}
