/**
 * Reads a stream's log from any offset while it is written. What is missing or damaged comes as a gap item with its
 * exact range, in its place; bytes come in order, each once, whatever happens to the files meanwhile. What the disk does not
 * give for a while is damaged. A reader holds one open file and one buffer.
 */
import { type DiskFile, isMissing } from '../disk.ts';
import { type Gap, checkedPayload, headerBytes, maxRecordBytes, parseHeader } from './record.ts';
import { isUnreadable, readAgain } from './read-again.ts';
import type { Segment, StreamName } from './segment.ts';
import type { Follower } from './log-context.ts';
import type { StreamLog } from './stream-log.ts';

export type OutputItem =
  | { kind: 'bytes'; stream: StreamName; offset: number; timeMs: number; bytes: Buffer }
  | { kind: 'gap'; stream: StreamName; gap: Gap };

/** Enough for one record of any size; several small ones come with one read. */
const bufferBytes = headerBytes + maxRecordBytes;

/** Undefined: it is damaged. */
type Found = { offset: number; timeMs: number; bytes: Buffer } | 'dropped' | undefined;

const nothing = (): void => undefined;

export class StreamReader implements Follower {
  readonly #log: StreamLog;
  #position: number;
  #segment: Segment | undefined;
  #file: DiskFile | undefined;
  /** Place in the file of the record that begins at `#recordOffset` of the stream. */
  #at = 0;
  #recordOffset = 0;
  #buffer: Buffer | undefined;
  #bufferAt = 0;
  #bufferEnd = 0;
  #unfollow: () => void = nothing;
  readonly #closing = new AbortController();

  readonly #live: boolean;
  readonly #givesUp: boolean;

  /**
   * A `live` reader is one that a full log waits for, and lets go of what it has read. One that does not give up throws what
   * the disk says, and can be asked again.
   */
  constructor(log: StreamLog, from: number, { live, givesUp = true }: { live: boolean; givesUp?: boolean }) {
    this.#log = log;
    this.#position = from;
    this.#live = live;
    this.#givesUp = givesUp;
    this.hold();
  }

  /** A full log waits for a live reader again. */
  hold(): void {
    if (this.#live && this.#unfollow === nothing) this.#unfollow = this.#log.follow(this);
  }

  /** A full log does not wait for this reader, until `hold`. */
  letGo(): void {
    this.#unfollow();
    this.#unfollow = nothing;
  }

  /** The next offset of the stream that `next` returns or announces as missing. */
  get position(): number {
    return this.#position;
  }

  get log(): StreamLog {
    return this.#log;
  }

  /** The next item, or undefined when nothing more is stored now. Bytes are valid until the following call. */
  async next(): Promise<OutputItem | undefined> {
    const item = await this.#find();
    if (item === undefined) return undefined;
    this.#position = item.kind === 'gap' ? item.gap.to : item.offset + item.bytes.byteLength;
    this.#log.followerMoved();
    return item;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.letGo();
    await this.#leave();
  }

  async #find(): Promise<OutputItem | undefined> {
    const { segments, hole, stream, end } = this.#log;
    if (this.#position >= end) return undefined;
    const segment = segments.find((each) => each.end > this.#position);
    if (segment === undefined) return hole === undefined ? undefined : this.#gap({ ...hole, from: this.#position });
    if (segment.start > this.#position) return this.#gap(missingBefore(segment, segments[0], this.#position));
    const found = await this.#readPatiently(segment);
    if (found === 'dropped' && !segments.includes(segment)) return this.#find();
    if (typeof found === 'object') return { kind: 'bytes', stream, ...found };
    return this.#gap({ from: this.#position, to: segment.end, reason: 'damaged' });
  }

  #gap(gap: Gap): OutputItem {
    return { kind: 'gap', stream: this.#log.stream, gap };
  }

  /** As `#read`; undefined also when the disk does not give it. */
  async #readPatiently(segment: Segment): Promise<Found> {
    const { signal } = this.#closing;
    try {
      return await readAgain(this.#log, () => this.#read(segment), signal);
    } catch (error) {
      if (!this.#givesUp || signal.aborted || !isUnreadable(error)) throw error;
      this.#log.unreadable(segment, error);
      return undefined;
    }
  }

  /** The record of `segment` in which the position lies, from there on; undefined when it is damaged. */
  async #read(segment: Segment): Promise<Found> {
    if (!(await this.#enter(segment))) return 'dropped';
    for (;;) {
      const bytes = await this.#bytesAt(this.#at, segment.sizeBytes);
      const header = parseHeader(bytes, 0);
      if (header === undefined || (!header.isGap && header.offset !== this.#recordOffset)) return undefined;
      const size = headerBytes + header.length;
      const recordEnd = header.isGap ? segment.start : header.offset + header.length;
      if (recordEnd > this.#position) return this.#payload(bytes, header);
      this.#at += size;
      this.#recordOffset = recordEnd;
    }
  }

  #payload(bytes: Buffer, header: NonNullable<ReturnType<typeof parseHeader>>) {
    const payload = checkedPayload(bytes, 0, header);
    if (payload === undefined) return undefined;
    const skip = this.#position - header.offset;
    return { offset: this.#position, timeMs: header.timeMs, bytes: payload.subarray(skip) };
  }

  /** Opens the file of `segment` unless it is open and not read too far. False when it was dropped meanwhile. */
  async #enter(segment: Segment): Promise<boolean> {
    if (this.#segment === segment && this.#recordOffset <= this.#position) return true;
    await this.#leave();
    try {
      this.#file = await this.#log.openToRead(segment);
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
    this.#segment = segment;
    this.#at = 0;
    this.#recordOffset = segment.start;
    return true;
  }

  async #leave(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#segment = undefined;
    this.#bufferAt = 0;
    this.#bufferEnd = 0;
    await file?.close();
  }

  /** Bytes of the file from `at` on: at least one whole record, if there is one before `fileEnd`. */
  async #bytesAt(at: number, fileEnd: number): Promise<Buffer> {
    const held = this.#held(at);
    const header = parseHeader(held, 0);
    if (header !== undefined && held.byteLength >= headerBytes + header.length) return held;
    this.#buffer ??= Buffer.allocUnsafe(bufferBytes);
    const length = Math.min(bufferBytes, fileEnd - at);
    const read = length <= 0 ? undefined : await this.#file?.read(this.#buffer, 0, length, at);
    this.#bufferAt = at;
    this.#bufferEnd = at + (read?.bytesRead ?? 0);
    return this.#held(at);
  }

  #held(at: number): Buffer {
    if (this.#buffer === undefined || at < this.#bufferAt || at >= this.#bufferEnd) return Buffer.alloc(0);
    return this.#buffer.subarray(at - this.#bufferAt, this.#bufferEnd - this.#bufferAt);
  }
}

/** What is missing between `from` and the segment: dropped, given up, or lost with the files between. */
function missingBefore(segment: Segment, oldest: Segment | undefined, from: number): Gap {
  const to = segment.start;
  if (segment.gap !== undefined && from >= segment.gap.from) return { from, to, reason: segment.gap.reason };
  if (segment !== oldest) return { from, to: segment.gap?.from ?? to, reason: 'damaged' };
  return { from, to: segment.gap?.from ?? to, reason: 'spool-full' };
}
