/**
 * The byte layout that the agent and causeway-init share (SPEC.md, "Frames"). Pure: no I/O, no clock. Strict: a frame
 * that is not exactly of its type's shape throws `MalformedFrame`; nothing is ever repaired. Offsets are safe integers.
 */

import {
  maxDataBytes,
  nonceBytes,
  refusals,
  type FromInit,
  type ProcessExit,
  type ProcessState,
  type SpawnSpec,
  type StreamNumber,
  type ToInit,
} from './messages.ts';

export const headerBytes = 12;
export const maxPayloadBytes = 256 * 1024;
const idBytes = 30;
const maxStrings = 4096;

const types = {
  hello: 1,
  key: 2,
  challenge: 3,
  proof: 4,
  welcome: 5,
  spawn: 16,
  stdin: 17,
  stdinClose: 18,
  resize: 19,
  signal: 20,
  ack: 21,
  resume: 22,
  release: 23,
  lease: 24,
  terminate: 25,
  shutdown: 26,
  ping: 27,
  state: 32,
  ready: 33,
  spawned: 34,
  stdinAck: 35,
  output: 36,
  gap: 37,
  exit: 38,
  leaseExpired: 39,
  pong: 40,
  done: 41,
  refused: 42,
} as const;

export class MalformedFrame extends Error {}

const ids = /^prc_[0-9a-hjkmnp-tv-z]{26}$/;
const unlimited = 0xffff_ffff_ffff_ffffn;
const utf8 = new TextDecoder('utf-8');

/** Collects one payload. Throws RangeError for what does not fit its field: a fault of the caller. */
class Writer {
  #parts: Buffer[] = [];

  #number(size: 1 | 2 | 4 | 8, value: number | bigint): this {
    if (typeof value === 'number') bounded(value, size === 8 ? Number.MAX_SAFE_INTEGER : 256 ** size - 1, 'a number');
    const part = Buffer.allocUnsafe(size);
    if (size === 8) part.writeBigUInt64LE(BigInt(value));
    else part.writeUIntLE(Number(value), 0, size);
    this.#parts.push(part);
    return this;
  }

  u8 = (value: number) => this.#number(1, value);
  u16 = (value: number) => this.#number(2, value);
  u32 = (value: number) => this.#number(4, value);
  u64 = (value: number | bigint) => this.#number(8, value);

  bytes(data: Uint8Array): this {
    this.#parts.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    return this;
  }

  id(processId: string): this {
    if (!ids.test(processId)) throw new RangeError(`not a process id: ${JSON.stringify(processId)}`);
    return this.bytes(Buffer.from(processId, 'latin1'));
  }

  /** `sizeBytes` is the width of the length before the text. */
  text(text: string, sizeBytes: 2 | 4): this {
    if (text.includes('\0')) throw new RangeError('a string for a process can not hold a NUL');
    const bytes = Buffer.from(text, 'utf8');
    return this.#number(sizeBytes, bytes.length).bytes(bytes);
  }

  frame(type: keyof typeof types, seq: number): Buffer {
    const payload = Buffer.concat(this.#parts);
    if (payload.length > maxPayloadBytes) throw new RangeError(`a frame of ${payload.length} bytes is too large`);
    const header = Buffer.alloc(headerBytes);
    header.writeUInt32LE(payload.length, 0);
    header.writeUInt32LE(seq, 4);
    header[8] = types[type];
    return Buffer.concat([header, payload]);
  }
}

function bounded(value: number, most: number, name: string): number {
  if (!Number.isSafeInteger(value) || value < 0 || value > most)
    throw new RangeError(`${name} is not between 0 and ${most}`);
  return value;
}

function writeSpawn(w: Writer, spec: SpawnSpec): void {
  const { user, tty, rlimits = [], output = { onFull: 'block' }, env } = spec;
  const flags =
    (tty ? 1 : 0) | (spec.stdin === 'open' || tty ? 2 : 0) | (user ? 4 : 0) | (output.onFull === 'drop' ? 8 : 0);
  const groups = user?.groups ?? [];
  w.id(spec.processId)
    .u8(flags)
    .u32(bounded(output.blockMs ?? 600_000, 86_400_000, 'output.blockMs'))
    .u32(bounded(spec.drainMs ?? 2000, 600_000, 'drainMs'))
    .u16(tty?.rows ?? 0)
    .u16(tty?.cols ?? 0)
    .u32(bounded(user?.uid ?? 0, 0xffff_fffe, 'user.uid'))
    .u32(bounded(user?.gid ?? 0, 0xffff_fffe, 'user.gid'))
    .u8(bounded(groups.length, 32, 'user.groups'));
  for (const group of groups) w.u32(group);
  w.u8(bounded(rlimits.length, 16, 'rlimits'));
  for (const { resource, soft, hard } of rlimits) {
    if ((soft ?? Infinity) > (hard ?? Infinity)) throw new RangeError('a soft limit is above its hard limit');
    w.u8(bounded(resource, 15, 'rlimits.resource'))
      .u64(soft ?? unlimited)
      .u64(hard ?? unlimited);
  }
  const cwd = spec.cwd ?? '/';
  bounded(Buffer.byteLength(cwd), 4095, 'cwd');
  w.text(cwd, 2);
  const variables = Object.entries(env);
  if (spec.argv.length === 0) throw new RangeError('argv is empty');
  if (variables.some(([name]) => name === '' || name.includes('=')))
    throw new RangeError('the name of an environment variable is empty or holds "="');
  w.u16(bounded(spec.argv.length, maxStrings, 'argv'));
  for (const text of spec.argv) w.text(text, 4);
  w.u16(bounded(variables.length, maxStrings, 'env'));
  for (const [name, value] of variables) w.text(`${name}=${value}`, 4);
}

/** Encodes a frame for the init. Throws RangeError when the caller's values do not fit. */
export function encode(frame: ToInit, seq = 0): Buffer {
  const w = new Writer();
  switch (frame.type) {
    case 'key':
    case 'challenge':
      w.bytes(frame.nonce).bytes(frame.secret);
      break;
    case 'welcome':
    case 'ping':
      break;
    case 'spawn':
      writeSpawn(w, frame.spec);
      break;
    case 'stdin':
      bounded(frame.bytes.length - 1, maxDataBytes - 1, 'bytes');
      w.id(frame.processId).u64(frame.offset).bytes(frame.bytes);
      break;
    case 'stdinClose':
      w.id(frame.processId).u64(frame.offset);
      break;
    case 'resize':
      w.id(frame.processId).u16(frame.rows).u16(frame.cols);
      break;
    case 'signal':
      bounded(frame.signal - 1, 63, 'signal');
      w.id(frame.processId).u8(frame.signal).u8(['process', 'group', 'session'].indexOf(frame.scope));
      break;
    case 'ack':
    case 'resume':
      w.id(frame.processId).u8(frame.stream).u64(frame.offset);
      break;
    case 'release':
      w.id(frame.processId);
      break;
    case 'lease':
      if (frame.deadlineBootMs === 0) throw new RangeError('a lease without a deadline');
      w.u64(frame.deadlineBootMs);
      break;
    case 'terminate':
      w.u32(bounded(frame.graceMs, 3_600_000, 'graceMs'));
      break;
    case 'shutdown':
      w.u8(frame.now ? 1 : 0);
      break;
  }
  return w.frame(frame.type, seq);
}

/** Reads one payload from its start; what is not of the shape is a {@link MalformedFrame}. */
export class PayloadReader {
  #at = 0;
  readonly #bytes: Buffer;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  take(size: number): Buffer {
    if (this.#bytes.length - this.#at < size) throw new MalformedFrame('the frame is too short');
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  rest = (): Buffer => this.take(this.#bytes.length - this.#at);
  u8 = (): number => this.take(1).readUInt8();
  u16 = (): number => this.take(2).readUInt16LE();
  u32 = (): number => this.take(4).readUInt32LE();

  u64(): number {
    const value = Number(this.take(8).readBigUInt64LE());
    if (!Number.isSafeInteger(value)) throw new MalformedFrame('a number is not a safe integer');
    return value;
  }

  /** At most `most`; for flags and enumerations. */
  upTo(most: number): number {
    const value = this.u8();
    if (value > most) throw new MalformedFrame(`${value} is not between 0 and ${most}`);
    return value;
  }

  id(): string {
    const id = this.take(idBytes).toString('latin1');
    if (!ids.test(id)) throw new MalformedFrame('not a process id');
    return id;
  }

  stream(): StreamNumber {
    const stream = this.u8();
    if (stream !== 1 && stream !== 2) throw new MalformedFrame(`no stream ${stream}`);
    return stream;
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw new MalformedFrame('the frame is too long');
  }
}

const exitKinds = [undefined, 'code', 'signal', 'failed'] as const;

function readExit(
  r: PayloadReader,
): Omit<ProcessExit, 'kind' | 'final' | 'message'> & { kind: ProcessExit['kind'] | undefined } {
  const kind = exitKinds[r.upTo(3)];
  return { kind, value: r.u8(), errno: r.u32(), timeMs: r.u64(), ends: { 1: r.u64(), 2: r.u64() } };
}

function readState(r: PayloadReader): ProcessState {
  const processId = r.id();
  const flags = r.upTo(31);
  const state = {
    processId,
    tty: (flags & 1) !== 0,
    stdinOpen: (flags & 2) !== 0,
    started: (flags & 16) !== 0,
    pid: r.u32(),
    startedMs: r.u64(),
    stdinOffset: r.u64(),
    acked: { 1: r.u64(), 2: r.u64() },
  };
  const { kind, ...exit } = readExit(r);
  const exited = (flags & 4) !== 0;
  if (!exited) return { ...state, ends: exit.ends };
  if (!kind) throw new MalformedFrame('an ended process without a kind of end');
  return { ...state, ends: exit.ends, exit: { ...exit, kind, final: (flags & 8) !== 0, message: '' } };
}

function readExitFrame(r: PayloadReader): FromInit {
  const processId = r.id();
  const final = r.upTo(1) === 1;
  const { kind, ...exit } = readExit(r);
  if (!kind) throw new MalformedFrame('an exit without a kind');
  return { type: 'exit', processId, exit: { ...exit, kind, final, message: utf8.decode(r.rest()) } };
}

function readOutput(r: PayloadReader): FromInit {
  const head = { processId: r.id(), stream: r.stream(), offset: r.u64(), timeMs: r.u64() };
  const bytes = r.rest();
  if (bytes.length === 0 || bytes.length > maxDataBytes) throw new MalformedFrame('output of a wrong size');
  return { type: 'output', ...head, bytes };
}

function readGap(r: PayloadReader): FromInit {
  const gap = { processId: r.id(), stream: r.stream(), from: r.u64(), to: r.u64() };
  if (gap.from >= gap.to) throw new MalformedFrame('an empty gap');
  return { type: 'gap', ...gap };
}

function readFrame(type: number, seq: number, r: PayloadReader): FromInit {
  switch (type) {
    case types.hello: {
      const version = r.u16();
      const hasKey = r.upTo(1) === 1;
      r.upTo(0);
      return { type: 'hello', version, hasKey, nonce: r.take(nonceBytes), tag: r.take(nonceBytes) };
    }
    case types.proof:
      return { type: 'proof', proof: r.take(nonceBytes) };
    case types.state:
      return { type: 'state', state: readState(r) };
    case types.ready: {
      const flags = r.upTo(3);
      const [leaseExpired, terminating] = [(flags & 1) !== 0, (flags & 2) !== 0];
      return { type: 'ready', leaseExpired, terminating, ringBytes: r.u32(), bootMs: r.u64() };
    }
    case types.spawned:
      return { type: 'spawned', processId: r.id(), pid: r.u32() };
    case types.stdinAck: {
      const processId = r.id();
      const offset = r.u64();
      const flags = r.upTo(3);
      return { type: 'stdinAck', processId, offset, room: (flags & 1) !== 0, closed: (flags & 2) !== 0 };
    }
    case types.output:
      return readOutput(r);
    case types.gap:
      return readGap(r);
    case types.exit:
      return readExitFrame(r);
    case types.leaseExpired:
      return { type: 'leaseExpired' };
    case types.pong:
      return { type: 'pong', seq };
    case types.done:
      return { type: 'done', seq };
    case types.refused: {
      const refusal = refusals[r.u8() - 1];
      if (!refusal) throw new MalformedFrame('an unknown refusal');
      return { type: 'refused', seq, refusal, message: utf8.decode(r.rest()) };
    }
    default:
      throw new MalformedFrame(`no frame of type ${type} comes from an init`);
  }
}

/** Cuts the bytes of one connection into frames. After it threw `MalformedFrame` the connection is of no use any more. */
export class FrameReader {
  #held: Buffer = Buffer.alloc(0);
  readonly #maxPayload: number;

  /** `maxPayload` can be lowered while the other end is not authenticated. */
  constructor(maxPayload = maxPayloadBytes) {
    this.#maxPayload = maxPayload;
  }

  /** Whether bytes of an incomplete frame are held. */
  get pending(): boolean {
    return this.#held.length > 0;
  }

  /** The frames that `chunk` completes. Their byte fields are views of the chunks that were pushed. */
  *push(chunk: Buffer): Generator<FromInit> {
    let bytes = this.#held.length > 0 ? Buffer.concat([this.#held, chunk]) : chunk;
    while (bytes.length >= headerBytes) {
      const length = bytes.readUInt32LE(0);
      if (length > this.#maxPayload) throw new MalformedFrame(`a frame of ${length} bytes is too large`);
      if (bytes.readUIntLE(9, 3) !== 0) throw new MalformedFrame('reserved bytes are not zero');
      if (bytes.length < headerBytes + length) break;
      const r = new PayloadReader(bytes.subarray(headerBytes, headerBytes + length));
      const frame = readFrame(bytes.readUInt8(8), bytes.readUInt32LE(4), r);
      r.end();
      bytes = bytes.subarray(headerBytes + length);
      this.#held = bytes;
      yield frame;
    }
    this.#held = bytes;
  }
}
