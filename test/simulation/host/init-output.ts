/**
 * The ring of a model init and the streams that share it (SPEC.md, "Output"): what was read and not acknowledged, cut
 * into chunks as the real one does it, because they decide how much a process may hold.
 */

/** Bytes read at one moment. */
interface Record {
  offset: number;
  timeMs: number;
  bytes: Buffer;
  chunks: number;
}

const chunksOfRing = 512;
const share = 4;
const reservePart = 4;
const newcomerChunks = 2;

export class Ring {
  readonly bytes: number;
  readonly chunkBytes: number;
  free = chunksOfRing;

  /** A sixteenth of the memory, at least 64 KiB and at most 4 MiB. */
  constructor(memoryBytes: number) {
    this.bytes = Math.max(64 * 1024, Math.min(4 * 1024 * 1024, Math.floor(memoryBytes / 16)));
    this.chunkBytes = Math.floor(this.bytes / chunksOfRing);
  }

  /** How many more chunks a process that holds `held` may take: n greedy ones come to equal parts. */
  allowance(held: number): number {
    const reserve = chunksOfRing / reservePart;
    const most = this.free > reserve ? share * (this.free - reserve) : 0;
    if (most > held) return Math.min(this.free, Math.floor((most - held + share) / (share + 1)));
    return held < newcomerChunks && this.free > 0 ? 1 : 0;
  }
}

export type Sent = { kind: 'gap'; from: number; to: number } | ({ kind: 'output' } & Omit<Record, 'chunks'>);

/** One stream of one process. */
export class StreamModel {
  readonly #ring: Ring;
  #records: Record[] = [];
  end = 0;
  acked = 0;
  /** The next offset to send. */
  sent = 0;
  resumed = true;
  chunks = 0;

  constructor(ring: Ring) {
    this.#ring = ring;
  }

  /** The oldest byte that is held. */
  get base(): number {
    const first = this.#records[0];
    return first === undefined ? this.end : Math.max(first.offset, this.acked);
  }

  /** Takes what fits into `chunks` of the ring; tells how many bytes that were. */
  take(bytes: Buffer, chunks: number, timeMs: number): number {
    const taken = bytes.subarray(0, chunks * this.#ring.chunkBytes);
    if (taken.byteLength === 0) return 0;
    const used = Math.ceil(taken.byteLength / this.#ring.chunkBytes);
    this.#records.push({ offset: this.end, timeMs, bytes: taken, chunks: used });
    this.end += taken.byteLength;
    this.chunks += used;
    this.#ring.free -= used;
    return taken.byteLength;
  }

  /** Bytes that nobody keeps. */
  discard(count: number): void {
    this.end += count;
  }

  dropOldest(): void {
    const oldest = this.#records.shift();
    if (oldest === undefined) return;
    this.chunks -= oldest.chunks;
    this.#ring.free += oldest.chunks;
  }

  /** Everything before `offset` is safe at the agent. */
  acknowledge(offset: number): void {
    const owesGap = this.sent < this.base;
    this.acked = Math.max(this.acked, offset);
    for (let first = this.#records[0]; first !== undefined; first = this.#records[0]) {
      if (first.offset + first.bytes.byteLength > this.acked) break;
      this.dropOldest();
    }
    if (this.sent < this.acked && !owesGap) this.sent = this.acked;
  }

  /** The next frame's worth, which counts as sent; undefined when there is none. */
  next(maxBytes: number): Sent | undefined {
    if (!this.resumed) return undefined;
    const { base } = this;
    if (this.sent < base) {
      const gap = { kind: 'gap' as const, from: this.sent, to: base };
      this.sent = base;
      return gap;
    }
    const record = this.#records.find(({ offset, bytes }) => offset + bytes.byteLength > this.sent);
    if (record === undefined) return undefined;
    const skip = this.sent - record.offset;
    const bytes = record.bytes.subarray(skip, skip + maxBytes);
    const sent = { kind: 'output' as const, offset: this.sent, timeMs: record.timeMs, bytes };
    this.sent += bytes.byteLength;
    return sent;
  }

  free(): void {
    while (this.#records.length > 0) this.dropOldest();
  }
}
