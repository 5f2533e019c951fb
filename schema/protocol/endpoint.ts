/**
 * One end of a socket that carries streams: agents (data sockets), clients, and the Worker when it serves bytes over HTTP.
 * It turns frames into streams and back, sends fairly (SPEC rule S14), gathers what one tick produced into few messages,
 * answers marks, and never sends faster than the socket takes. No I/O and no clock but its ports.
 */
import { decodeFrames, type Frame, frameFlags, FrameError, frameTypes, type FrameType } from './frame.ts';
import { isJsonType, JsonJoiner, jsonFrames } from './json.ts';
import { limits } from './limits.ts';
import { Reset } from './messages.ts';
import { MessagePool } from './message-pool.ts';
import { FramePieces } from './frame-pieces.ts';
import { Outgoing } from './outgoing.ts';
import { Stream, StreamOver, type StreamOwner } from './stream.ts';
import { type StreamOpen, StreamOpened } from './streams.ts';

export interface EndpointPorts {
  /** Sends one message, whose buffer is the socket's until it calls `sent`: when it left, or never will. */
  send(message: Uint8Array<ArrayBuffer>, sent: () => void): void;
  /** Runs `task` once, after what is running now and what came with it. */
  soon(task: () => void): void;
  /** Milliseconds on a clock that never goes back; fractions welcome. */
  nowMs(): number;
}

export interface EndpointOptions {
  /** What receive windows may grow to: 16 MiB for bulk, the initial 256 KiB for interactive sockets (S4). */
  maxWindowBytes: number;
  /** Takes a stream that the other end opened. Absent: this end only opens. */
  accept?: (stream: Stream, open: unknown) => void;
  /** Takes a JSON message of the socket itself (stream 0). Absent: there are none. */
  message?: (value: unknown) => void;
  /** Streams at a time; default {@link limits.streamsPerSocket}. */
  maxStreams?: number;
  /** Bytes of one message, and those under way to the socket before more is made. Smaller means less waiting in front of a key press. */
  messageBytes?: number;
  inFlightBytes?: number;
  /** The socket holds on to buffers after `sent` (workerd does): each message gets a fresh one. */
  freshBuffers?: boolean;
}

/** Answers and grants that may wait for a socket that takes nothing; whoever provokes more is cut off. */
const maxUrgent = 8192;
/** How much further than stream data they may run ahead of the socket. */
const urgentBytes = 256 * 1024;

export class Endpoint {
  readonly #ports: EndpointPorts;
  readonly #options: EndpointOptions;
  readonly #streams = new Map<number, Stream>();
  readonly #joiner = new JsonJoiner();
  readonly #pieces = new FramePieces();
  readonly #messageBytes: number;
  readonly #inFlightBytes: number;
  readonly #owner: StreamOwner;
  readonly #pool: MessagePool;
  /** Frames that pass before stream data: grants, answers to marks, opens and resets. */
  #urgent: Frame[] = [];
  /** Streams that may have something to send, in turn. */
  #ready = new Set<Stream>();
  #inFlight = 0;
  #scheduled = false;
  #nextId = 1;
  #closed = false;
  #whenIdle: (() => void)[] = [];

  constructor(ports: EndpointPorts, options: EndpointOptions) {
    this.#ports = ports;
    this.#options = options;
    this.#messageBytes = options.messageBytes ?? limits.messageBytes;
    this.#inFlightBytes = options.inFlightBytes ?? limits.messageBytes;
    this.#pool = new MessagePool(this.#messageBytes);
    this.#owner = {
      nowMs: () => ports.nowMs(),
      ready: (stream) => {
        this.#ready.add(stream);
        this.#schedule();
      },
      sendOpened: (stream, info) => this.#urge(jsonFrames(frameTypes.opened, stream.id, info)),
      sendWindow: (stream, bytes) => this.#urge([windowFrame(stream.id, bytes)]),
      sendReset: (stream, reset) => this.#urge(jsonFrames(frameTypes.reset, stream.id, reset)),
      done: (stream) => this.#forget(stream),
    };
  }

  /** Streams that are not over. */
  get streams(): number {
    return this.#streams.size;
  }

  /** Bytes held at this end: queued by writers, received and not consumed, under way to the socket. */
  get heldBytes(): number {
    let held = this.#inFlight;
    for (const stream of this.#streams.values()) held += stream.heldBytes;
    return held;
  }

  /** Opens a stream. @throws FrameError when the socket carries 64 already, StreamOver when it has been closed. */
  open(open: StreamOpen): Stream {
    if (this.#closed) throw new StreamOver({ code: 'tunnel_closed' });
    if (this.#streams.size >= (this.#options.maxStreams ?? limits.streamsPerSocket))
      throw new FrameError('K3', 'too many streams on one socket');
    while (this.#streams.has(this.#nextId) || this.#nextId === 0) this.#nextId = (this.#nextId + 1) >>> 0;
    const stream = this.#add(this.#nextId, 'opener');
    this.#nextId = (this.#nextId + 1) >>> 0;
    this.#urge(jsonFrames(frameTypes.open, stream.id, open));
    return stream;
  }

  /** Sends a JSON message of the socket itself. */
  sendMessage(value: unknown): void {
    this.#urge(jsonFrames(frameTypes.message, 0, value));
  }

  /**
   * Takes one message of the socket.
   * @throws FrameError when the other end broke a rule: close the socket with 1002 (1009 for F4) and call `close`.
   */
  receive(message: Uint8Array): void {
    if (this.#closed) return;
    for (const frame of decodeFrames(message)) this.#take(frame, message.byteLength);
  }

  /**
   * As `receive`, for a message that comes in pieces; `last` ends it. The bytes are valid during the call only: what a
   * stream keeps, it copies.
   */
  receivePiece(piece: Uint8Array, last: boolean): void {
    if (this.#closed) return;
    this.#pieces.push(piece, last, (frame) => this.#take(frame, Number.POSITIVE_INFINITY));
  }

  /** The socket is gone: every stream is over with this code. */
  close(code: string, detail?: string): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#urgent = [];
    this.#ready.clear();
    const end = { code, ...(detail === undefined ? {} : { detail }) };
    for (const stream of this.#streams.values()) stream.finishWith(end);
  }

  /** Calls `task` when the last stream is over, once. */
  whenIdle(task: () => void): void {
    if (this.#streams.size === 0) task();
    else this.#whenIdle.push(task);
  }

  #take(frame: Frame, messageBytes: number): void {
    if (isJsonType(frame.type)) {
      const joined = this.#joiner.join(frame);
      if (joined) this.#takeJson(frame.type, frame.stream, joined.value);
      return;
    }
    if ((frame.flags & frameFlags.more) !== 0) throw new FrameError('F6', 'MORE on a frame that is not JSON');
    const stream = this.#streams.get(frame.stream);
    switch (frame.type) {
      case frameTypes.data:
        if (stream) stream.takeFrame(frame, messageBytes);
        else this.#urge(jsonFrames(frameTypes.reset, frame.stream, { code: 'tunnel_stream_unknown' }));
        return;
      case frameTypes.end:
        stream?.takeFrame(frame, messageBytes);
        return;
      case frameTypes.window:
        stream?.takeCredit(grantOf(frame));
        return;
      case frameTypes.mark:
        if (frame.stream !== 0 || frame.payload.byteLength !== 8) throw new FrameError('S5', 'a malformed MARK');
        this.#urge([{ ...frame, type: frameTypes.marked, payload: frame.payload.slice() }]);
        return;
      default:
        throw new FrameError('F5', `type ${frame.type} is not for this end`);
    }
  }

  #takeJson(type: FrameType, id: number, value: unknown): void {
    if (type === frameTypes.message) {
      if (id !== 0 || !this.#options.message) throw new FrameError('F5', 'a message is not for this end');
      this.#options.message(value);
      return;
    }
    if (type === frameTypes.open) return this.#takeOpen(id, value);
    const stream = this.#streams.get(id);
    if (!stream) return;
    if (type === frameTypes.opened) {
      const opened = StreamOpened.safeParse(value);
      if (!opened.success) throw new FrameError('F6', 'an OPENED of no known shape');
      stream.takeOpened(opened.data);
    } else {
      const reset = Reset.safeParse(value);
      stream.finishWith(reset.success ? reset.data : { code: 'internal' });
    }
  }

  #takeOpen(id: number, value: unknown): void {
    const { accept, maxStreams = limits.streamsPerSocket } = this.#options;
    if (!accept) throw new FrameError('S1', 'this end opens streams, it does not accept them');
    if (id === 0 || this.#streams.has(id)) throw new FrameError('S1', `stream ${id} is not fresh`);
    if (this.#streams.size >= maxStreams) {
      this.#urge(jsonFrames(frameTypes.reset, id, { code: 'tunnel_stream_limit' }));
      return;
    }
    accept(this.#add(id, 'accepter'), value);
  }

  #add(id: number, role: 'opener' | 'accepter'): Stream {
    const stream = new Stream(id, role, this.#options.maxWindowBytes, this.#owner);
    this.#streams.set(id, stream);
    return stream;
  }

  #forget(stream: Stream): void {
    this.#streams.delete(stream.id);
    this.#ready.delete(stream);
    this.#joiner.drop(stream.id);
    if (this.#streams.size > 0) return;
    for (const task of this.#whenIdle.splice(0)) task();
  }

  #urge(frames: readonly Frame[]): void {
    if (this.#closed) return;
    if (this.#urgent.length > maxUrgent) throw new FrameError('K6', 'the other end asks and does not read');
    this.#urgent.push(...frames);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    this.#ports.soon(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  /** Sends until nothing is left, or the socket has enough to do. */
  #flush(): void {
    while (!this.#closed && this.#inFlight < this.#inFlightBytes + urgentBytes) {
      const message = this.#gather();
      if (!message) return;
      this.#inFlight += message.byteLength;
      this.#ports.send(message, () => {
        this.#inFlight -= message.byteLength;
        if (this.#options.freshBuffers !== true) this.#pool.give(message);
        if (this.#urgent.length > 0 || this.#ready.size > 0) this.#schedule();
      });
    }
  }

  #gather(): Uint8Array<ArrayBuffer> | undefined {
    const outgoing = new Outgoing(this.#messageBytes);
    let taken = 0;
    for (const { type, flags, stream, offset, payload } of this.#urgent) {
      if (!outgoing.empty && outgoing.room < payload.byteLength) break;
      outgoing.add(type, flags, stream, offset, [payload], payload.byteLength);
      taken++;
    }
    if (taken > 0) this.#urgent = this.#urgent.slice(taken);
    if (this.#urgent.length > 0) return outgoing.take(this.#pool);
    if (this.#inFlight < this.#inFlightBytes) this.#gatherTurns(outgoing);
    return outgoing.empty ? undefined : outgoing.take(this.#pool);
  }

  /** One turn for each ready stream, again and again, until the message is full. Who has more goes to the back. */
  #gatherTurns(outgoing: Outgoing): void {
    for (const stream of this.#ready) {
      if (outgoing.room <= 0) return;
      this.#ready.delete(stream);
      if (!stream.sendable) continue;
      const before = outgoing.room;
      stream.takeTurn(outgoing);
      const idle = outgoing.room === before;
      // A Set is walked in the order of insertion, so this stream comes again behind the others.
      if (stream.sendable && !stream.over) this.#ready.add(stream);
      if (idle) return;
    }
  }
}

function windowFrame(stream: number, bytes: number): Frame {
  const payload = new Uint8Array(4);
  new DataView(payload.buffer).setUint32(0, bytes);
  return { type: frameTypes.window, flags: 0, stream, offset: 0, payload };
}

/** Bytes that a WINDOW frame grants. @throws FrameError */
function grantOf({ payload }: Frame): number {
  if (payload.byteLength !== 4) throw new FrameError('S3', 'a malformed WINDOW');
  return new DataView(payload.buffer, payload.byteOffset, 4).getUint32(0);
}
