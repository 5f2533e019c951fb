/**
 * The bytes of the init's side of SPEC.md: what an init sends, and what it reads. The mirror of the production codec,
 * which is what the frames of a model are read and written by at the other end.
 */
import { headerBytes, MalformedFrame, maxPayloadBytes, PayloadReader } from '../../../agent-daemon/init/codec.ts';
import type { FromInit, ProcessExit, SpawnSpec, ToInit } from '../../../agent-daemon/init/messages.ts';

const numbers = {
  hello: 1,
  proof: 4,
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
const exitKinds = ['code', 'signal', 'failed'] as const;
const refusals = ['limit', 'resources', 'lease_expired', 'terminating', 'unknown_process', 'wrong_state'];
const scopes = ['process', 'group', 'session'] as const;
const noExit = { value: 0, errno: 0, timeMs: 0 };

function le(size: 1 | 2 | 4 | 8, value: number): Buffer {
  const bytes = Buffer.alloc(size);
  if (size === 8) bytes.writeBigUInt64LE(BigInt(value));
  else bytes.writeUIntLE(value, 0, size);
  return bytes;
}

const flags = (...bits: boolean[]): Buffer =>
  le(
    1,
    bits.reduce((sum, bit, place) => sum + (bit ? 2 ** place : 0), 0),
  );

function exitBytes(exit: Partial<ProcessExit> & { ends: ProcessExit['ends'] }): Buffer[] {
  const { value, errno, timeMs } = { ...noExit, ...exit };
  const kind = exit.kind === undefined ? 0 : exitKinds.indexOf(exit.kind) + 1;
  return [le(1, kind), le(1, value), le(4, errno), le(8, timeMs), le(8, exit.ends[1]), le(8, exit.ends[2])];
}

function payloadOf(frame: FromInit): Uint8Array[] {
  switch (frame.type) {
    case 'hello':
      return [le(2, frame.version), flags(frame.hasKey), le(1, 0), frame.nonce, frame.tag];
    case 'proof':
      return [frame.proof];
    case 'state': {
      const { processId, tty, stdinOpen, started, pid, startedMs, stdinOffset, acked, exit, ends } = frame.state;
      return [
        Buffer.from(processId),
        flags(tty, stdinOpen, exit !== undefined, exit?.final ?? false, started),
        le(4, pid),
        le(8, startedMs),
        le(8, stdinOffset),
        le(8, acked[1]),
        le(8, acked[2]),
        ...exitBytes(exit ?? { ends }),
      ];
    }
    case 'ready':
      return [flags(frame.leaseExpired, frame.terminating), le(4, frame.ringBytes), le(8, frame.bootMs)];
    case 'spawned':
      return [Buffer.from(frame.processId), le(4, frame.pid)];
    case 'stdinAck':
      return [Buffer.from(frame.processId), le(8, frame.offset), flags(frame.room, frame.closed)];
    case 'output': {
      const { processId, stream, offset, timeMs, bytes } = frame;
      return [Buffer.from(processId), le(1, stream), le(8, offset), le(8, timeMs), bytes];
    }
    case 'gap':
      return [Buffer.from(frame.processId), le(1, frame.stream), le(8, frame.from), le(8, frame.to)];
    case 'exit': {
      const { processId, exit } = frame;
      return [Buffer.from(processId), flags(exit.final), ...exitBytes(exit), Buffer.from(exit.message)];
    }
    case 'leaseExpired':
    case 'pong':
    case 'done':
      return [];
    case 'refused':
      return [le(1, refusals.indexOf(frame.refusal) + 1), Buffer.from(frame.message)];
  }
}

/** The bytes of one frame of an init. */
export function encodeFromInit(frame: FromInit): Buffer {
  const payload = Buffer.concat(payloadOf(frame));
  const seq = 'seq' in frame ? frame.seq : 0;
  return Buffer.concat([le(4, payload.byteLength), le(4, seq), le(1, numbers[frame.type]), Buffer.alloc(3), payload]);
}

/** A frame as the init reads it, with the number that its answer repeats. */
export interface ReceivedFrame {
  seq: number;
  frame: ToInit;
}

const textOf = (r: PayloadReader, size: number): string => r.take(size).toString();

function readSpawn(r: PayloadReader): SpawnSpec {
  const processId = r.id();
  const bits = r.u8();
  const [blockMs, drainMs, rows, cols, uid, gid] = [r.u32(), r.u32(), r.u16(), r.u16(), r.u32(), r.u32()];
  const groups = Array.from({ length: r.u8() }, () => r.u32());
  const rlimits = Array.from({ length: r.u8() }, () => ({ resource: r.u8(), soft: r.u64(), hard: r.u64() }));
  const cwd = textOf(r, r.u16());
  const argv = Array.from({ length: r.u16() }, () => textOf(r, r.u32()));
  const env = Array.from({ length: r.u16() }, () => textOf(r, r.u32()));
  return {
    processId,
    argv,
    cwd,
    rlimits,
    drainMs,
    stdin: (bits & 2) === 0 ? 'null' : 'open',
    env: Object.fromEntries(env.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)])),
    ...((bits & 1) === 0 ? {} : { tty: { rows, cols } }),
    ...((bits & 4) === 0 ? {} : { user: { uid, gid, groups } }),
    output: { onFull: (bits & 8) === 0 ? 'block' : 'drop', blockMs },
  };
}

function readFrame(type: number, r: PayloadReader): ToInit {
  switch (type) {
    case 2:
    case 3:
      return { type: type === 2 ? 'key' : 'challenge', nonce: r.take(32), secret: r.take(32) };
    case 5:
      return { type: 'welcome' };
    case 16:
      return { type: 'spawn', spec: readSpawn(r) };
    case 17:
      return { type: 'stdin', processId: r.id(), offset: r.u64(), bytes: r.rest() };
    case 18:
      return { type: 'stdinClose', processId: r.id(), offset: r.u64() };
    case 19:
      return { type: 'resize', processId: r.id(), rows: r.u16(), cols: r.u16() };
    case 20:
      return { type: 'signal', processId: r.id(), signal: r.u8(), scope: scopes[r.u8()] ?? 'group' };
    case 21:
    case 22:
      return { type: type === 21 ? 'ack' : 'resume', processId: r.id(), stream: r.stream(), offset: r.u64() };
    case 23:
      return { type: 'release', processId: r.id() };
    case 24:
      return { type: 'lease', deadlineBootMs: r.u64() };
    case 25:
      return { type: 'terminate', graceMs: r.u32() };
    case 26:
      return { type: 'shutdown', now: r.u8() === 1 };
    case 27:
      return { type: 'ping' };
    default:
      throw new MalformedFrame(`no frame of type ${type} comes from an agent`);
  }
}

/** Cuts the bytes of one connection into frames. Throws for what no agent may send. */
export class ToInitReader {
  #held: Buffer = Buffer.alloc(0);

  *push(chunk: Buffer): Generator<ReceivedFrame> {
    this.#held = this.#held.byteLength === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (this.#held.byteLength >= headerBytes) {
      const length = this.#held.readUInt32LE(0);
      if (length > maxPayloadBytes) throw new MalformedFrame('too large');
      if (this.#held.byteLength < headerBytes + length) return;
      const [seq, type] = [this.#held.readUInt32LE(4), this.#held.readUInt8(8)];
      const r = new PayloadReader(this.#held.subarray(headerBytes, headerBytes + length));
      this.#held = this.#held.subarray(headerBytes + length);
      const frame = readFrame(type, r);
      r.end();
      yield { seq, frame };
    }
  }
}
