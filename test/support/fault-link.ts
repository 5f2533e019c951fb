/**
 * One direction of the fault proxy: a link with a rate, a delay and a buffer that all its connections share in turn
 * (round-robin, a quantum at a time), as a fair-queueing router would. It moves bytes, never looks into them, and
 * holds no more than the buffer and what is under way.
 */
import type { Socket } from 'node:net';
import type { Rng } from './random.ts';

/** What a direction does to its bytes; an empty object is a plain wire. */
export interface Faults {
  /** One-way delay in ms. */
  latencyMs?: number;
  /** Added to the delay at random, 0 to this many ms; the order of a connection's bytes stays. */
  jitterMs?: number;
  /** Rate of the whole link. */
  bytesPerSecond?: number;
  /** Bytes that wait for the link, per connection, before the proxy stops reading; default rate x delay x 2 (one bandwidth-delay product of a symmetric link), at least 32 KiB. */
  bufferBytes?: number;
  /** Cuts what is written into pieces of 1 to this many bytes, each in a turn of its own. */
  sliceBytes?: number;
  /** Resets a connection once it has carried this many bytes in this direction. */
  limitBytes?: number;
  /** Nothing passes, neither bytes nor the end of a connection; what came before the fault is cleared is delivered then. */
  blackhole?: boolean;
}

const minBufferBytes = 32 * 1024;
/** Bytes under way when there is a delay but no rate. */
const maxUnderWayBytes = 16 * 1024 * 1024;
/** How much unused time the link may make up for: timers come late on a busy machine. */
const burstMs = 10;
const end = Symbol('end');

interface Parcel {
  atMs: number;
  data: Buffer | typeof end;
}

/** One direction of one connection. */
export class Flow {
  readonly source: Socket;
  readonly sink: Socket;
  readonly reset: () => void;
  carriedBytes = 0;
  queuedBytes = 0;
  underWayBytes = 0;
  /** What waits for the link. */
  readonly queue: (Buffer | typeof end)[] = [];
  /** What is on its way to the other end. */
  readonly underWay: Parcel[] = [];

  constructor(source: Socket, sink: Socket, reset: () => void) {
    this.source = source;
    this.sink = sink;
    this.reset = reset;
  }
}

export class Link {
  faults: Faults = {};
  carriedBytes = 0;
  readonly #random: Rng;
  readonly #flows: Flow[] = [];
  #turn = 0;
  #freeAtMs = 0;
  #timer: NodeJS.Timeout | undefined;
  #pumping = false;

  constructor(random: Rng) {
    this.#random = random;
  }

  /** Carries a connection's bytes from source to sink until either is gone. */
  add(flow: Flow): void {
    this.#flows.push(flow);
    flow.source.on('data', (data: Buffer) => {
      flow.queue.push(data);
      flow.queuedBytes += data.length;
      if (flow.queuedBytes >= this.#bufferBytes()) flow.source.pause();
      this.pump();
    });
    flow.source.on('end', () => {
      flow.queue.push(end);
      this.pump();
    });
    flow.sink.on('drain', () => this.pump());
  }

  remove(flow: Flow): void {
    const at = this.#flows.indexOf(flow);
    if (at >= 0) this.#flows.splice(at, 1);
  }

  /** Ends the direction on every connection, as if the source had: a half close. */
  endAll(): void {
    for (const flow of this.#flows) {
      flow.source.pause();
      flow.queue.push(end);
    }
    this.pump();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#flows.length = 0;
  }

  /** Moves what may move now and sets the clock for the rest. */
  pump(): void {
    if (this.#pumping || this.faults.blackhole === true) return;
    this.#pumping = true;
    clearTimeout(this.#timer);
    const nowMs = performance.now();
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs - burstMs);
    let next = Infinity;
    do {
      for (const flow of this.#flows) deliver(flow, nowMs);
    } while (this.#admit(nowMs));
    for (const flow of this.#flows) {
      if (flow.queuedBytes < this.#bufferBytes() && flow.queue.at(-1) !== end) flow.source.resume();
      const first = flow.underWay[0];
      if (first !== undefined && !flow.sink.writableNeedDrain) next = Math.min(next, first.atMs);
      if (flow.queue.length > 0 && this.#hasRoom(flow)) next = Math.min(next, this.#freeAtMs);
    }
    this.#pumping = false;
    if (next < Infinity) this.#timer = setTimeout(() => this.pump(), Math.max(0, next - performance.now()));
  }

  /** Puts one quantum of each connection in turn on the wire, as long as the wire is free; true when something may be delivered at once. */
  #admit(nowMs: number): boolean {
    const { latencyMs = 0, jitterMs = 0, bytesPerSecond, limitBytes } = this.faults;
    let idle = 0;
    let arrived = false;
    while (this.#freeAtMs <= nowMs && idle < this.#flows.length) {
      this.#turn = (this.#turn + 1) % this.#flows.length;
      const flow = this.#flows[this.#turn]!;
      const piece = this.#hasRoom(flow) ? this.#take(flow) : undefined;
      idle = piece === undefined ? idle + 1 : 0;
      if (piece === undefined) continue;
      const size = piece === end ? 0 : piece.length;
      if (bytesPerSecond !== undefined) this.#freeAtMs += (size / bytesPerSecond) * 1000;
      const startMs = bytesPerSecond === undefined ? nowMs : Math.max(nowMs, this.#freeAtMs);
      const previousMs = flow.underWay.at(-1)?.atMs ?? 0;
      const atMs = Math.max(previousMs, startMs + latencyMs + this.#random.next() * jitterMs);
      flow.underWay.push({ atMs, data: piece });
      flow.underWayBytes += size;
      flow.carriedBytes += size;
      this.carriedBytes += size;
      arrived ||= atMs <= nowMs;
      if (limitBytes !== undefined && flow.carriedBytes >= limitBytes) {
        deliver(flow, Infinity);
        flow.reset();
      }
    }
    return arrived;
  }

  #take(flow: Flow): Buffer | typeof end | undefined {
    const first = flow.queue[0];
    if (first === undefined || first === end) return flow.queue.shift();
    const { sliceBytes, limitBytes = Infinity } = this.faults;
    const slice = sliceBytes === undefined ? Infinity : this.#random.integer(1, sliceBytes);
    const size = Math.min(first.length, this.#quantum(), slice, Math.max(1, limitBytes - flow.carriedBytes));
    if (size === first.length) flow.queue.shift();
    else flow.queue[0] = first.subarray(size);
    flow.queuedBytes -= size;
    return first.subarray(0, size);
  }

  /** What one connection may send in one turn: about 1 ms of the link, at least a packet. */
  #quantum(): number {
    const { bytesPerSecond } = this.faults;
    return bytesPerSecond === undefined
      ? Infinity
      : Math.min(65_536, Math.max(1448, Math.floor(bytesPerSecond / 1000)));
  }

  #bufferBytes(): number {
    const { bufferBytes, bytesPerSecond = 0, latencyMs = 0 } = this.faults;
    return bufferBytes ?? Math.max(minBufferBytes, Math.ceil((bytesPerSecond * latencyMs * 2) / 1000));
  }

  /** The wire itself holds rate x delay; more is under way only towards a receiver that does not read. */
  #hasRoom(flow: Flow): boolean {
    const { bytesPerSecond, latencyMs = 0, jitterMs = 0 } = this.faults;
    if (flow.sink.writableNeedDrain && flow.underWay.length > 0) return false;
    if (bytesPerSecond === undefined) return flow.underWayBytes < maxUnderWayBytes;
    return flow.underWayBytes < (bytesPerSecond * (latencyMs + jitterMs + 2 * burstMs)) / 1000 + this.#quantum();
  }
}

function deliver(flow: Flow, nowMs: number): void {
  let first = flow.underWay[0];
  while (first !== undefined && first.atMs <= nowMs && !flow.sink.writableNeedDrain) {
    flow.underWay.shift();
    if (first.data === end) flow.sink.end();
    else {
      flow.underWayBytes -= first.data.length;
      if (flow.sink.writable) flow.sink.write(first.data);
    }
    first = flow.underWay[0];
  }
}
