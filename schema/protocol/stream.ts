/**
 * One stream at one end (SPEC rules S1-S8): what waits to be sent under the other end's credit, what came and is not
 * consumed, and how it ends. It moves no bytes by itself: its `Endpoint` asks it for frames and gives it those that came.
 */
import { type Channel, channelFlags, channelOf, channels, type Frame, FrameError, frameTypes } from './frame.ts';
import { Inbox, type StreamItem } from './inbox.ts';
import { jsonBytes } from './json.ts';
import { limits } from './limits.ts';
import type { Reset } from './messages.ts';
import type { Outgoing } from './outgoing.ts';
import type { StreamOpened } from './streams.ts';
import { ReceiveWindow } from './window.ts';

/** How a stream ended: code `ended` when both ends said so, else the code of the RESET. */
export type StreamEnd = Reset;

/** What a call on a stream that is over fails with. */
export class StreamOver extends Error {
  readonly code: string;
  readonly detail: string | undefined;
  constructor({ code, detail }: StreamEnd) {
    super(detail ?? `the stream is over: ${code}`);
    this.name = 'StreamOver';
    this.code = code;
    this.detail = detail;
  }
}

/** What a stream asks of its endpoint. */
export interface StreamOwner {
  nowMs(): number;
  /** The stream has something to send, maybe. */
  ready(stream: Stream): void;
  sendOpened(stream: Stream, info: StreamOpened): void;
  sendWindow(stream: Stream, bytes: number): void;
  sendReset(stream: Stream, reset: Reset): void;
  /** The stream is over at this end: forget it. */
  done(stream: Stream): void;
}

/** Channels that each role sends on; a stream is over when all of both were ended (S7). */
const sends = {
  opener: [channels.input, channels.control],
  accepter: [channels.stdout, channels.stderr, channels.control],
} as const satisfies Record<string, readonly Channel[]>;
export type StreamRole = keyof typeof sends;

interface Chunk {
  channel: Channel;
  offset: number;
  bytes: Uint8Array;
  /** END of the channel; no bytes. */
  end: boolean;
  /** Who lent the buffer and waits for it. */
  lender: Waiter | undefined;
}

interface Waiter {
  resolve: () => void;
  reject: (error: Error) => void;
}

/** A writer that awaits its writes holds at most this much, and one write. */
const queuedBytes = 256 * 1024;
/** Who grants for ever must not run into the end of exact numbers. */
const maxCredit = 2 ** 48;
const noBytes = new Uint8Array(0);
const ready = Promise.resolve();

export class Stream {
  readonly id: number;
  readonly role: StreamRole;
  /** Resolves with OPENED at the opener; rejects when the stream is over before. */
  readonly whenOpened: Promise<StreamOpened>;
  /** Resolves when the stream is over, for whatever reason. */
  readonly whenOver: Promise<StreamEnd>;
  readonly #owner: StreamOwner;
  readonly #window: ReceiveWindow;
  #resolveOpened!: (info: StreamOpened) => void;
  #rejectOpened!: (error: Error) => void;
  #resolveOver!: (end: StreamEnd) => void;
  #over: StreamEnd | undefined;
  #isOpened = false;
  // sending
  #credit: number = limits.initialWindowBytes;
  #chunks: Chunk[] = [];
  #queued = 0;
  #roomWaiters: Waiter[] = [];
  readonly #writeOffsets = [0, 0, 0, 0];
  readonly #endedHere = new Set<Channel>();
  // receiving
  readonly #receiveOffsets = [0, 0, 0, 0];
  /** Where the input that came begins, and up to where the opener was told that it is taken (accepter only). */
  #inputFrom: number | undefined;
  #inputTaken: number | undefined;
  readonly #endedThere = new Set<Channel>();
  readonly #inbox = new Inbox();
  #itemWaiter: (() => void) | undefined;
  #sink: ((item: StreamItem) => void) | undefined;

  constructor(id: number, role: StreamRole, maxWindowBytes: number, owner: StreamOwner) {
    this.id = id;
    this.role = role;
    this.#owner = owner;
    this.#window = new ReceiveWindow(maxWindowBytes, owner.nowMs());
    this.whenOpened = new Promise((resolve, reject) => {
      this.#resolveOpened = resolve;
      this.#rejectOpened = reject;
    });
    this.whenOpened.catch(() => {}); // who waits for it sees it
    this.whenOver = new Promise((resolve) => (this.#resolveOver = resolve));
  }

  /** How it ended, once it has. */
  get over(): StreamEnd | undefined {
    return this.#over;
  }

  /** Bytes that this end holds for the stream: waiting to be sent, and received but not consumed. */
  get heldBytes(): number {
    return this.#queued + this.#window.heldBytes;
  }

  /** Window that this end grants now. */
  get windowBytes(): number {
    return this.#window.windowBytes;
  }

  /** Accepts the stream (accepter only, once, before the first write). */
  opened(info: StreamOpened = {}): void {
    this.#check();
    if (this.role !== 'accepter' || this.#isOpened) throw new Error('a stream is opened once, by the accepter');
    this.#isOpened = true;
    this.#inputTaken = info.inputOffset ?? 0;
    this.#owner.sendOpened(this, info);
    if (!this.#beginsWhereTaken()) this.#refuseHole(channels.input);
  }

  /** Sets the offset of the next byte written on `channel`: a resumed channel, or the far side of a gap. */
  seek(channel: Channel, offset: number): void {
    this.#writeOffsets[channel] = offset;
  }

  /**
   * Sends bytes under the other end's credit. Takes the buffer: do not change it afterwards. Resolves while less than
   * 256 KiB wait; await it, and a bounded amount is held. @throws StreamOver
   */
  write(channel: Channel, bytes: Uint8Array): Promise<void> {
    const { over } = this;
    if (over) return Promise.reject(new StreamOver(over));
    if (this.#endedHere.has(channel)) return Promise.reject(this.#whyEnded(channel));
    if (bytes.byteLength === 0) return ready;
    if (channel === channels.control && bytes.byteLength > limits.payloadBytes)
      return Promise.reject(new Error('a control message is one frame of at most 64 KiB'));
    this.#push(channel, bytes, false);
    if (this.#queued < queuedBytes) return ready;
    return new Promise((resolve, reject) => void this.#roomWaiters.push({ resolve, reject }));
  }

  /**
   * As `write`, but lends the buffer: resolves when every byte was taken out of it, and the caller may fill it anew. Big
   * output needs no buffer of its own for each write that way. @throws StreamOver
   */
  lend(channel: Channel, bytes: Uint8Array): Promise<void> {
    const { over } = this;
    if (over) return Promise.reject(new StreamOver(over));
    if (this.#endedHere.has(channel)) return Promise.reject(this.#whyEnded(channel));
    if (bytes.byteLength === 0) return ready;
    return new Promise((resolve, reject) => this.#push(channel, bytes, false, { resolve, reject }));
  }

  /** An opener's channels end with the accepter's, whoever writes meanwhile. */
  #whyEnded(channel: Channel): Error {
    return this.#allEndedThere() ? new StreamOver({ code: 'ended' }) : new Error(`channel ${channel} was ended`);
  }

  /** Sends one JSON object as one frame on the control channel. */
  writeControl(message: object): Promise<void> {
    return this.write(channels.control, jsonBytes(message));
  }

  /** No more on this channel after what was written. */
  end(channel: Channel): void {
    if (this.#over || this.#endedHere.has(channel)) return;
    this.#endedHere.add(channel);
    this.#push(channel, noBytes, true);
  }

  /** Ends every channel of this end. The stream is over when the other end did so too. */
  finish(): void {
    for (const channel of sends[this.role]) this.end(channel);
  }

  /** Ends the stream at once, both ways; what waits is dropped. */
  reset(code: string, detail?: string): void {
    if (this.#over) return;
    const reset = { code, ...(detail === undefined ? {} : { detail: detail.slice(0, 1024) }) };
    this.#owner.sendReset(this, reset);
    this.finishWith(reset);
  }

  /** Gives everything that comes to `sink` at once. Its owner calls `consumed` when done with the bytes, which it must not keep otherwise. */
  receive(sink: (item: StreamItem) => void): void {
    this.#sink = sink;
    for (let item = this.#inbox.take(); item !== undefined; item = this.#inbox.take()) sink(item);
  }

  /** Grants credit for bytes that were dealt with (`receive` only; `read` does it by itself). */
  consumed(bytes: number): void {
    if (this.#over) return;
    const grant = this.#window.consume(bytes, this.#owner.nowMs());
    if (grant > 0) this.#owner.sendWindow(this, grant);
  }

  /**
   * What the other end sends, in order. Asking for the next item grants credit for the last one. Ends when the other end
   * ended all its channels; throws what `toError` makes of a reset (by default StreamOver).
   */
  async *read(
    toError: (end: StreamEnd) => Error = (end) => new StreamOver(end),
  ): AsyncGenerator<StreamItem, void, void> {
    for (;;) {
      const item = this.#inbox.take();
      if (item) {
        yield item;
        this.consumed(item.bytes.byteLength);
      } else if (this.#over && this.#over.code !== 'ended') throw toError(this.#over);
      else if (this.#over || this.#allEndedThere()) return;
      else await new Promise<void>((resolve) => (this.#itemWaiter = resolve));
    }
  }

  // ---- for the endpoint ----

  /** True when a frame could be sent now. */
  get sendable(): boolean {
    const first = this.#chunks[0];
    return first !== undefined && (first.end || this.#credit >= this.#least(first));
  }

  #push(channel: Channel, bytes: Uint8Array, end: boolean, lender?: Waiter): void {
    this.#chunks.push({ channel, offset: this.#writeOffsets[channel]!, bytes, end, lender });
    this.#writeOffsets[channel]! += bytes.byteLength;
    this.#queued += bytes.byteLength;
    this.#owner.ready(this);
  }

  /** Credit that the first chunk needs: a control message goes whole. */
  #least(chunk: Chunk): number {
    return chunk.channel === channels.control ? chunk.bytes.byteLength : 1;
  }

  /** Adds frames of at most 64 KiB payload in all: one turn of the round robin (S14). */
  takeTurn(outgoing: Outgoing): void {
    let left: number = limits.payloadBytes;
    while (this.sendable && left > 0 && outgoing.room > 0) {
      const first = this.#chunks[0]!;
      if (first.end) {
        this.#chunks.shift();
        outgoing.add(frameTypes.end, channelFlags(first.channel), this.id, first.offset, [], 0);
        continue;
      }
      const most = Math.min(left, this.#credit, outgoing.room);
      if (first.channel === channels.control && first.bytes.byteLength > most) break;
      left -= this.#takeData(outgoing, first, most);
    }
    this.#wakeWriters();
    this.#settle();
  }

  /** Gathers chunks of one channel that follow each other into one frame. */
  #takeData(outgoing: Outgoing, { channel, offset }: Chunk, most: number): number {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    while (bytes < most) {
      const chunk = this.#chunks[0];
      if (!chunk || chunk.end || chunk.channel !== channel || chunk.offset !== offset + bytes) break;
      const part = chunk.bytes.subarray(0, most - bytes);
      parts.push(part);
      bytes += part.byteLength;
      if (part.byteLength === chunk.bytes.byteLength) {
        this.#chunks.shift();
        // The lender goes on in a later microtask, when the message has been made.
        chunk.lender?.resolve();
      } else {
        chunk.bytes = chunk.bytes.subarray(part.byteLength);
        chunk.offset += part.byteLength;
      }
      if (channel === channels.control) break;
    }
    outgoing.add(frameTypes.data, channelFlags(channel), this.id, offset, parts, bytes);
    this.#credit -= bytes;
    this.#queued -= bytes;
    return bytes;
  }

  /** The other end grants more. */
  takeCredit(bytes: number): void {
    this.#credit = Math.min(this.#credit + bytes, maxCredit);
    this.#owner.ready(this);
  }

  takeOpened(info: StreamOpened): void {
    if (this.role !== 'opener' || this.#isOpened) throw new FrameError('S1', 'a second OPENED');
    this.#isOpened = true;
    this.#resolveOpened(info);
  }

  takeFrame(frame: Frame, messageBytes: number): void {
    const channel = channelOf(frame);
    if (!this.#maySend(channel)) throw new FrameError('S7', `channel ${channel} is not the sender's`);
    if (this.#endedThere.has(channel)) throw new FrameError('S7', `channel ${channel} was ended`);
    const length = frame.payload.byteLength;
    if (frame.type === frameTypes.data && length === 0) throw new FrameError('S2', 'DATA without a byte');
    if (frame.offset < this.#receiveOffsets[channel]!) {
      this.reset('tunnel_frame_invalid', `Offsets of channel ${channel} went back.`);
      return;
    }
    if (channel === channels.input && !this.#inputGoesOn(frame.offset)) {
      this.#refuseHole(channel);
      return;
    }
    if (!this.#window.receive(length, this.#owner.nowMs())) {
      this.reset('tunnel_window_exceeded');
      return;
    }
    this.#receiveOffsets[channel] = frame.offset + length;
    const end = frame.type === frameTypes.end;
    if (end) this.#endedThere.add(channel);
    this.#deliver({ channel, offset: frame.offset, bytes: frame.payload, end }, messageBytes);
    if (end && this.#allEndedThere()) {
      // Nothing can come of what the opener would still send.
      if (this.role === 'opener') this.finish();
      this.#settle();
    }
  }

  /** The stream is over: by RESET, by the loss of its socket, or because both ends ended it. */
  finishWith(end: StreamEnd): void {
    if (this.#over) return;
    this.#over = end;
    const error = new StreamOver(end);
    for (const { lender } of this.#chunks) lender?.reject(error);
    this.#chunks = [];
    this.#queued = 0;
    this.#rejectOpened(error);
    for (const waiter of this.#roomWaiters.splice(0)) waiter.reject(error);
    this.#itemWaiter?.();
    this.#resolveOver(end);
    this.#owner.done(this);
  }

  #deliver(item: StreamItem, messageBytes: number): void {
    if (this.#sink) {
      this.#sink(item);
      return;
    }
    if (!this.#inbox.put(item, messageBytes)) {
      this.reset('tunnel_window_exceeded', 'Too many control messages wait to be read.');
      return;
    }
    const waiter = this.#itemWaiter;
    this.#itemWaiter = undefined;
    waiter?.();
  }

  /** Input has no gaps: what is missing before a piece, or before END, overtook nothing and was lost (S2, S7). */
  #inputGoesOn(offset: number): boolean {
    if (this.#inputFrom !== undefined) return offset === this.#receiveOffsets[channels.input];
    this.#inputFrom = offset;
    return this.#beginsWhereTaken();
  }

  #beginsWhereTaken(): boolean {
    return (this.#inputFrom ?? 0) <= (this.#inputTaken ?? Number.MAX_SAFE_INTEGER);
  }

  #refuseHole(channel: Channel): void {
    this.reset('tunnel_frame_invalid', `Bytes of channel ${channel} are missing.`);
  }

  #maySend(channel: Channel): boolean {
    const there: readonly Channel[] = sends[this.role === 'opener' ? 'accepter' : 'opener'];
    return there.includes(channel);
  }

  #allEndedThere(): boolean {
    return this.#endedThere.size === sends[this.role === 'opener' ? 'accepter' : 'opener'].length;
  }

  #settle(): void {
    const allSent = this.#chunks.length === 0 && this.#endedHere.size === sends[this.role].length;
    if (allSent && this.#allEndedThere()) this.finishWith({ code: 'ended' });
  }

  #wakeWriters(): void {
    if (this.#queued >= queuedBytes) return;
    for (const waiter of this.#roomWaiters.splice(0)) waiter.resolve();
  }

  #check(): void {
    if (this.#over) throw new StreamOver(this.#over);
  }
}
