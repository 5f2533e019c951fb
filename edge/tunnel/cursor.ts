/**
 * Walks the frames of one message in place: a hub looks at headers and forwards the same buffer, it never decodes payloads
 * that are not for it. The same checks as `decodeFrames` (SPEC rules F1-F5), frame by frame.
 */
import { type FrameType, frameFlags, FrameError, frameTypes, type Frame } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';

const highestType = Math.max(...Object.values(frameTypes));
const knownFlags = frameFlags.more | frameFlags.channelMask;

export class Cursor {
  readonly buffer: ArrayBuffer;
  readonly view: DataView;
  /** Where the current frame begins, where its payload begins, where the next frame begins. */
  at = 0;
  payloadAt = 0;
  end = 0;
  type: FrameType = 1;
  flags = 0;
  stream = 0;
  length = 0;

  /** @throws FrameError when the message is empty or too large */
  constructor(buffer: ArrayBuffer) {
    if (buffer.byteLength === 0) throw new FrameError('F4', 'empty message');
    if (buffer.byteLength > limits.messageBytes) throw new FrameError('F4', 'message over 1 MiB');
    this.buffer = buffer;
    this.view = new DataView(buffer);
  }

  /** Steps to the next frame. False at the end. @throws FrameError */
  next(): boolean {
    const { view } = this;
    const at = this.end;
    const left = view.byteLength - at;
    if (left === 0) return false;
    if (left < limits.headerBytes) throw new FrameError('F2', 'truncated header');
    const version = view.getUint8(at);
    const type = view.getUint8(at + 1);
    const word = view.getUint32(at + 2);
    if (version !== limits.frameVersion) throw new FrameError('F1', `version ${version}`);
    if (type === 0 || type > highestType) throw new FrameError('F5', `type ${type}`);
    this.type = type as FrameType;
    this.flags = word >>> 24;
    this.length = word & 0xff_ff_ff;
    if ((this.flags & ~knownFlags) !== 0) throw new FrameError('F5', `flags ${this.flags}`);
    if (this.length > limits.payloadBytes) throw new FrameError('F3', `payload of ${this.length} bytes`);
    if (left < limits.headerBytes + this.length) throw new FrameError('F2', 'truncated payload');
    this.stream = view.getUint32(at + 6);
    this.at = at;
    this.payloadAt = at + limits.headerBytes;
    this.end = this.payloadAt + this.length;
    return true;
  }

  get channelBit(): number {
    return 1 << ((this.flags & frameFlags.channelMask) >> frameFlags.channelShift);
  }

  get more(): boolean {
    return (this.flags & frameFlags.more) !== 0;
  }

  /** Gives the current frame another stream id. */
  rename(stream: number): void {
    this.view.setUint32(this.at + 6, stream);
  }

  /** Bytes that the current WINDOW frame grants. @throws FrameError */
  get grant(): number {
    if (this.length !== 4) throw new FrameError('S3', 'a malformed WINDOW');
    return this.view.getUint32(this.payloadAt);
  }

  setGrant(bytes: number): void {
    this.view.setUint32(this.payloadAt, bytes);
  }

  /** The current frame for code that wants it decoded. */
  frame(): Frame {
    const payload = new Uint8Array(this.buffer, this.payloadAt, this.length);
    return { type: this.type, flags: this.flags, stream: this.stream, offset: 0, payload };
  }

  /** A copy of the current frame. */
  copy(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.buffer.slice(this.at, this.end));
  }
}

/**
 * Frames of one message that go to the same socket one behind the other: they are sent as one view of the buffer.
 * `send` is called for each run when it is cut.
 */
export class Run<Link> {
  readonly #buffer: ArrayBuffer;
  readonly #send: (link: Link, bytes: Uint8Array<ArrayBuffer>) => void;
  #link: Link | undefined;
  #from = 0;
  #to = 0;

  constructor(buffer: ArrayBuffer, send: (link: Link, bytes: Uint8Array<ArrayBuffer>) => void) {
    this.#buffer = buffer;
    this.#send = send;
  }

  /** The cursor's frame goes to `link`. */
  add(link: Link, cursor: Cursor): void {
    if (this.#link !== link || this.#to !== cursor.at) {
      this.cut();
      this.#link = link;
      this.#from = cursor.at;
    }
    this.#to = cursor.end;
  }

  /** Sends what was gathered. */
  cut(): void {
    const link = this.#link;
    this.#link = undefined;
    if (link !== undefined) this.#send(link, new Uint8Array(this.#buffer, this.#from, this.#to - this.#from));
  }
}
