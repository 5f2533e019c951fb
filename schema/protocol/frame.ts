/**
 * The one codec of the tunnel, used by agents, clients and hubs. Layout (big endian), SPEC rules F1-F6:
 *
 *   0      1      2      3..5       6..9        10..15      16..
 *   version type  flags  length u24 stream u32  offset u48  payload
 */
import { limits } from './limits.ts';

/** Types of frames. Numbers are never reused. */
export const frameTypes = {
  /** A JSON message of the socket itself (stream 0). */
  message: 1,
  /** Opens a stream; JSON. */
  open: 2,
  /** The other end accepted the stream; JSON. */
  opened: 3,
  /** Bytes of a channel at an offset. */
  data: 4,
  /** Grants `u32` more bytes of credit. */
  window: 5,
  /** The sender sends no more on this channel. */
  end: 6,
  /** The stream is over at once; JSON {code, detail}. */
  reset: 7,
  /** Hub to a socket: eight random bytes. */
  mark: 8,
  /** The same eight bytes back. */
  marked: 9,
} as const;
export type FrameType = (typeof frameTypes)[keyof typeof frameTypes];

export const frameFlags = {
  /** The payload continues in the next frame of the same type and stream. */
  more: 1,
  /** Bits 1-2: the channel of DATA and END. */
  channelShift: 1,
  channelMask: 0b110,
} as const;

/** Channels of a stream. Offsets count per channel and direction. */
export const channels = { input: 0, stdout: 1, stderr: 2, control: 3 } as const;
export type Channel = (typeof channels)[keyof typeof channels];

export interface Frame {
  type: FrameType;
  flags: number;
  stream: number;
  /** Bytes of the channel before this payload; below 2^48. */
  offset: number;
  payload: Uint8Array;
}

/** A frame that breaks a rule. `rule` is the id in SPEC.md. */
export class FrameError extends Error {
  readonly rule: string;
  constructor(rule: string, message: string) {
    super(`[${rule}] ${message}`);
    this.name = 'FrameError';
    this.rule = rule;
  }
}

const empty = new Uint8Array(0);

/** Writes the header of a frame with `payloadBytes` bytes at `at`; the caller puts the payload behind it. */
export function writeHeader(
  view: DataView,
  at: number,
  type: FrameType,
  flags: number,
  stream: number,
  offset: number,
  payloadBytes: number,
): void {
  view.setUint8(at, limits.frameVersion);
  view.setUint8(at + 1, type);
  view.setUint32(at + 2, ((flags << 24) | payloadBytes) >>> 0);
  view.setUint32(at + 6, stream >>> 0);
  view.setUint16(at + 10, Math.floor(offset / 2 ** 32));
  view.setUint32(at + 12, offset >>> 0);
}

/** Encodes frames into one buffer, in order. Payloads above the limit are a programming error and throw. */
export function encodeFrames(frames: readonly Frame[]): Uint8Array<ArrayBuffer> {
  let total = 0;
  for (const frame of frames) {
    if (frame.payload.byteLength > limits.payloadBytes) throw new FrameError('F3', 'payload over 64 KiB');
    total += limits.headerBytes + frame.payload.byteLength;
  }
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const frame of frames) {
    writeHeader(view, at, frame.type, frame.flags, frame.stream, frame.offset, frame.payload.byteLength);
    bytes.set(frame.payload, at + limits.headerBytes);
    at += limits.headerBytes + frame.payload.byteLength;
  }
  return bytes;
}

/** Encodes one frame. */
export function encodeFrame(frame: Frame): Uint8Array<ArrayBuffer> {
  return encodeFrames([frame]);
}

const knownTypes = new Set<number>(Object.values(frameTypes));

/**
 * Decodes the header at `at`, of which all bytes are there; `length` is that of the payload.
 * @throws FrameError when it names an unknown version, type or flag, or a payload over the limit
 */
export function decodeHeader(view: DataView, at: number): Omit<Frame, 'payload'> & { length: number } {
  const version = view.getUint8(at);
  if (version !== limits.frameVersion) throw new FrameError('F1', `version ${version}`);
  const type = view.getUint8(at + 1);
  if (!knownTypes.has(type)) throw new FrameError('F5', `type ${type}`);
  const word = view.getUint32(at + 2);
  const flags = word >>> 24;
  if ((flags & ~(frameFlags.more | frameFlags.channelMask)) !== 0) throw new FrameError('F5', `flags ${flags}`);
  const length = word & 0xff_ff_ff;
  if (length > limits.payloadBytes) throw new FrameError('F3', `payload of ${length} bytes`);
  const offset = view.getUint16(at + 10) * 2 ** 32 + view.getUint32(at + 12);
  return { type: type as FrameType, flags, stream: view.getUint32(at + 6), offset, length };
}

/**
 * Decodes every frame of one WebSocket message. Payloads are views into `bytes`, not copies.
 * @throws FrameError when the message is truncated, over a limit, or names an unknown version, type or flag.
 */
export function decodeFrames(bytes: Uint8Array): Frame[] {
  if (bytes.byteLength > limits.messageBytes) throw new FrameError('F4', 'message over 1 MiB');
  if (bytes.byteLength === 0) throw new FrameError('F4', 'empty message');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const frames: Frame[] = [];
  let at = 0;
  while (at < bytes.byteLength) {
    if (bytes.byteLength - at < limits.headerBytes) throw new FrameError('F2', 'truncated header');
    const { type, flags, stream, offset, length } = decodeHeader(view, at);
    const from = at + limits.headerBytes;
    if (from + length > bytes.byteLength) throw new FrameError('F2', 'truncated payload');
    frames.push({ type, flags, stream, offset, payload: length === 0 ? empty : bytes.subarray(from, from + length) });
    at = from + length;
  }
  return frames;
}

/** The channel of a DATA or END frame. */
export function channelOf(frame: { flags: number }): Channel {
  return ((frame.flags & frameFlags.channelMask) >> frameFlags.channelShift) as Channel;
}

/** Flags of a DATA or END frame on `channel`. */
export function channelFlags(channel: Channel): number {
  return channel << frameFlags.channelShift;
}
