/**
 * One output stream of one process as a log on disk, fed by causeway-init and acknowledged to it after the write. It
 * knows the policy of a full log and of a full disk, and says exactly what is missing. Appends are taken in any size and
 * written in big batches, one write at a time; what waits in memory is bounded by what the init may have unacknowledged.
 * It never loses a byte that it reported as stored while the host stays up, and never waits for a reader without bound.
 */
import type { OutputPolicy } from '../../schema/api/session-parts.ts';
import type { Clock, Timers } from '../../schema/ports.ts';
import { type Batch, type Piece, toBatch } from './batch.ts';
import { pause } from '../deadline.ts';
import { type DiskFile, isDiskFull } from '../disk.ts';
import { type Changing, whenDue } from '../wake.ts';
import type { Follower, StreamLogContext } from './log-context.ts';
import { patienceMs, tryAgainMs } from './read-again.ts';
import type { Gap, GapReason } from './record.ts';
import { type Segment, type StreamName, recoverSegments, segmentBytesFor } from './segment.ts';
import { SegmentFiles } from './segment-files.ts';

const maxBatchBytes = 1024 * 1024;
/** How long a disk that output was given up for is left alone before the next try. */
const diskRetryMs = 1_000;

export class StreamLog implements Changing {
  readonly stream: StreamName;
  readonly #policy: OutputPolicy;
  readonly #context: StreamLogContext;
  readonly #files: SegmentFiles;
  readonly #followers = new Set<Follower>();
  readonly #listeners = new Set<() => void>();
  readonly #writers: { end: number; resolve: () => void; reject: (error: unknown) => void }[] = [];
  #pending: (Piece | Gap)[] = [];
  #accepted: number;
  #stored: number;
  #hole: Gap | undefined;
  #diskRetryAtMs = 0;
  #blocked = false;
  #blockExpired = false;
  #progressAtMs = 0;
  #cancelBlockTimer: () => void = () => undefined;
  #writing: Promise<void> | undefined;
  #final = false;
  readonly #closing = new AbortController();

  private constructor(
    dir: string,
    stream: StreamName,
    policy: OutputPolicy,
    context: StreamLogContext,
    segments: Segment[],
    hole: Gap | undefined,
  ) {
    this.stream = stream;
    this.#policy = policy;
    this.#context = context;
    this.#files = new SegmentFiles(dir, stream, context, segments);
    this.#stored = Math.max(segments.at(-1)?.end ?? 0, hole?.to ?? 0);
    this.#accepted = this.#stored;
    this.#hole = hole !== undefined && hole.to >= this.#stored && hole.to > hole.from ? hole : undefined;
  }

  /** Opens or makes the log of `stream` in the existing directory `dir`. `hole` is what was kept by `keepHole`; in a `fresh` one is nothing. */
  static async open(
    dir: string,
    stream: StreamName,
    policy: OutputPolicy,
    context: StreamLogContext,
    { hole, fresh = false }: { hole?: Gap | undefined; fresh?: boolean } = {},
  ): Promise<StreamLog> {
    const segments = fresh ? [] : await recoverSegments(context, dir, stream);
    return new StreamLog(dir, stream, policy, context, segments, hole);
  }

  get dir(): string {
    return this.#files.dir;
  }

  /** First offset from `from` on that is kept (or will be, if nothing is). */
  keptFrom(from = 0): number {
    const segment = this.segments.find(({ end }) => end > from);
    return segment === undefined ? Math.max(from, this.#stored) : Math.max(from, segment.start);
  }

  /** Every byte before is stored or announced as missing. */
  get end(): number {
    return this.#stored;
  }

  /** True when no byte will come any more. */
  get isFinal(): boolean {
    return this.#final && this.#pending.length === 0 && this.#writing === undefined;
  }

  /** True while it is full and takes nothing. */
  get isBlocked(): boolean {
    return this.#blocked;
  }

  /** Bytes before `end` that are not kept. */
  get missing(): number {
    return this.#stored - this.#files.keptBytes;
  }

  get sizeBytes(): number {
    return this.#files.sizeBytes;
  }

  /** For readers: what is kept, oldest first. */
  get segments(): readonly Segment[] {
    return this.#files.all;
  }

  /** For readers: what is missing behind the last segment. */
  get hole(): Gap | undefined {
    return this.#hole;
  }

  /** For readers: opens the file of a segment. */
  openToRead(segment: Segment): Promise<DiskFile> {
    return this.#files.openToRead(segment);
  }

  /** For readers: how they wait for what can not be read. */
  get clock(): Clock {
    return this.#context.clock;
  }
  get timers(): Timers {
    return this.#context.timers;
  }

  /** A reader gave up a file. */
  unreadable({ path }: Segment, error: unknown): void {
    this.#context.log.warn('output can not be read and is told as missing', { path, error: String(error) });
  }

  get policy(): OutputPolicy {
    return this.#policy;
  }

  /**
   * Takes bytes that begin at `offset`, without those that it has already, and resolves when they are stored; rejects when
   * that is not known, and then they must come again. While the
   * log is full they are left to the init, which holds what is not acknowledged: `onRoom` says where to continue.
   */
  append(offset: number, timeMs: number, bytes: Uint8Array): Promise<void> | undefined {
    const skip = this.#accepted - offset;
    if (skip < 0 || skip >= bytes.byteLength || this.#blocked) return undefined;
    this.#pending.push({ offset: this.#accepted, timeMs, bytes: skip === 0 ? bytes : bytes.subarray(skip) });
    this.#accepted += bytes.byteLength - skip;
    this.#kick();
    return this.#storedTo(this.#accepted);
  }

  /** The init gave up the bytes [accepted, to): records them as missing. Resolves and rejects as `append`. */
  appendGap(to: number, reason: GapReason): Promise<void> | undefined {
    if (to <= this.#accepted || this.#blocked) return undefined;
    this.#pending.push({ from: this.#accepted, to, reason });
    this.#accepted = to;
    this.#kick();
    return this.#storedTo(to);
  }

  /** No more bytes will be appended. */
  finish(): void {
    this.#final = true;
    this.#wake();
  }

  /** Resolves when everything accepted so far is stored, or left to the init because the log is full. */
  async settled(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
  }

  /** Registers a live reader; the returned function takes it away. Call `followerMoved` when its position changed. */
  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    if (this.#blockExpired) this.#blockExpired = false;
    // One that has read all there is will not move by itself: only more output moves it.
    this.followerMoved();
    return () => {
      this.#followers.delete(follower);
      this.followerMoved();
    };
  }

  followerMoved(): void {
    if (!this.#blocked) return;
    this.#progressAtMs = this.#context.clock.bootMs();
    const [oldest] = this.segments;
    if (oldest === undefined || this.#mayDrop(oldest)) this.#unblock();
  }

  /** True when there is something behind `offset`, or nothing more comes. */
  isBeyond(offset: number): boolean {
    return this.#stored > offset || this.isFinal;
  }

  /** Resolves when that is so, or `signal` aborts. */
  whenBeyond(offset: number, signal: AbortSignal): Promise<void> {
    return whenDue(() => this.isBeyond(offset), [this], signal);
  }

  /** There is more, or nothing more comes. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Brings what was written to the disk itself. */
  sync(): Promise<void> {
    return this.#files.sync();
  }

  /** Ends all writing, synced; the files stay. What can not be written now comes again. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#cancelBlockTimer();
    await this.settled();
    this.#files.release();
    await this.sync();
  }

  #storedTo(end: number): Promise<void> {
    return new Promise((resolve, reject) => void this.#writers.push({ end, resolve, reject }));
  }

  #releaseWriters(): void {
    const done = this.#writers.findIndex((writer) => writer.end > this.#stored && !this.#blocked);
    for (const { resolve } of this.#writers.splice(0, done < 0 ? this.#writers.length : done)) resolve();
  }

  #kick(): void {
    this.#writing ??= this.#drain();
  }

  async #drain(): Promise<void> {
    // Yields first, so that what one turn appends is one batch, and so that `#writing` is set before it is cleared.
    await Promise.resolve();
    try {
      while (this.#pending.length > 0 && (await this.#writeBatch()));
    } catch (error) {
      // Nobody is told that these bytes are safe, so they come again, and what was stored of them is skipped then.
      this.#pending = [];
      this.#accepted = this.#stored;
      for (const { reject } of this.#writers.splice(0)) reject(error);
    } finally {
      this.#writing = undefined;
      this.#wake();
    }
  }

  /** Writes the next batch. False when the log is full and must wait. */
  async #writeBatch(): Promise<boolean> {
    const batch = toBatch(this.#pending, Math.min(maxBatchBytes, segmentBytesFor(this.#policy.spoolBytes)));
    if (!(await this.#makeRoom(batch.payloadBytes))) {
      this.#block();
      return false;
    }
    this.#pending.splice(0, batch.taken);
    if (batch.rest !== undefined) this.#pending.unshift(batch.rest);
    await this.#context.aroundWrite(() => this.#store(batch));
    this.#context.onStored(this.stream, this.#stored);
    this.#releaseWriters();
    this.#wake();
    return true;
  }

  async #store(batch: Batch): Promise<void> {
    if (this.#hole !== undefined && this.#context.clock.bootMs() < this.#diskRetryAtMs) return this.#giveUp(batch.end);
    const giveUpAtMs = this.#context.clock.bootMs() + (this.#hole === undefined ? patienceMs : 0);
    for (let isStored = false; !isStored;) {
      try {
        await this.#storeHole();
        if (batch.gap === undefined)
          await this.#files.write(batch, this.#stored, segmentBytesFor(this.#policy.spoolBytes));
        else await this.#startWith(batch.gap);
        this.#stored = batch.end;
        isStored = true;
      } catch (error) {
        await this.#files.cutTornTail();
        if (this.#context.clock.bootMs() >= giveUpAtMs) return this.#failed(error, batch.end);
        // At the end nothing is waited for: what is not stored comes again.
        if (this.#closing.signal.aborted) throw error;
        await pause(this.#context.timers, tryAgainMs, this.#closing.signal);
      }
    }
  }

  /** Space is back: what was given up meanwhile becomes a gap of the log itself. */
  async #storeHole(): Promise<void> {
    const hole = this.#hole;
    if (hole === undefined) return;
    if (hole.to > hole.from) await this.#startWith(hole);
    this.#hole = undefined;
    await this.#context.keepHole(this.stream, undefined);
  }

  async #startWith(gap: Gap): Promise<void> {
    await this.#files.rotate(gap, gap.from, this.#context.clock.nowMs());
  }

  /** Writes fail, mostly for lack of space: what can not be kept is given up, exactly, and the container goes on. */
  async #failed(error: unknown, to: number): Promise<void> {
    if (this.#hole === undefined) {
      this.#context.log.warn('output can not be stored and is given up', { dir: this.dir, error: String(error) });
    }
    const reason = isDiskFull(error) ? 'disk-full' : 'damaged';
    this.#hole ??= { from: this.#stored, to: this.#stored, reason };
    this.#diskRetryAtMs = this.#context.clock.bootMs() + diskRetryMs;
    await this.#giveUp(to);
  }

  async #giveUp(to: number): Promise<void> {
    if (this.#hole === undefined) return;
    const hole = { ...this.#hole, to };
    // Where that is refused too nothing is given up: it comes again.
    await this.#context.keepHole(this.stream, hole);
    this.#hole = hole;
    this.#stored = to;
  }

  /** Frees what the policy lets go until `bytes` more fit. False when it must not. */
  async #makeRoom(bytes: number): Promise<boolean> {
    while (this.#files.keptBytes > 0 && this.#files.keptBytes + bytes > this.#policy.spoolBytes) {
      if (!(await this.#dropIfAllowed())) return false;
    }
    // The agent's own limit takes one file for each that is written: no log pays for the others.
    return this.#files.keptBytes === 0 || !this.#context.budget.over || this.#dropIfAllowed();
  }

  async #dropIfAllowed(): Promise<boolean> {
    const [oldest] = this.segments;
    if (oldest === undefined || !this.#mayDrop(oldest)) return false;
    await this.#files.dropOldest();
    return true;
  }

  #mayDrop(oldest: Segment): boolean {
    if (this.#blockExpired) return true;
    const followers = [...this.#followers];
    if (followers.some(({ holds, position }) => holds === true && position < oldest.end)) return false;
    if (this.#policy.onFull === 'drop') return true;
    const readers = followers.filter(({ holds }) => holds !== true);
    return readers.length > 0 && readers.every(({ position }) => position >= oldest.end);
  }

  /** Refuses what waits: the init keeps it, and so the container's writes wait. */
  #block(): void {
    this.#pending = [];
    this.#accepted = this.#stored;
    this.#blocked = true;
    this.#releaseWriters();
    this.#progressAtMs = this.#context.clock.bootMs();
    this.#waitForProgress(this.#policy.blockMs);
    for (const follower of this.#followers) follower.wanted?.();
  }

  /** The oldest goes after all when nobody took anything away for `blockMs`. */
  #waitForProgress(afterMs: number): void {
    this.#cancelBlockTimer = this.#context.timers.after(afterMs, () => {
      const leftMs = this.#progressAtMs + this.#policy.blockMs - this.#context.clock.bootMs();
      if (leftMs > 0) return this.#waitForProgress(leftMs);
      this.#blockExpired = true;
      this.#unblock();
    });
  }

  #unblock(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#cancelBlockTimer();
    this.#context.onRoom(this.stream, this.#accepted);
  }

  #wake(): void {
    for (const listener of this.#listeners) listener();
  }
}
