/**
 * The files of one log, oldest first: the last one is written to, the others are read until they are dropped. What is written
 * is in the page cache; `sync` brings it to the disk. What is kept and what may go is decided elsewhere.
 */
import { type Batch, withBytes } from './batch.ts';
import { type DiskFile, orClose, writeFully } from '../disk.ts';
import type { StreamLogContext, Syncable } from './log-context.ts';
import { type Gap, encodeGap } from './record.ts';
import { type Segment, type StreamName, segmentPath } from './segment.ts';

export class SegmentFiles implements Syncable {
  readonly dir: string;
  readonly #stream: StreamName;
  readonly #context: Pick<StreamLogContext, 'disk' | 'budget' | 'dirty'>;
  readonly #segments: Segment[];
  #file: DiskFile | undefined;
  /** Written and not on the disk yet; those that are not written to any more are closed after that. */
  #unsynced: DiskFile[] = [];
  readonly #fileOf = new WeakMap<Segment, DiskFile>();
  #syncing: Promise<void> = Promise.resolve();

  constructor(
    dir: string,
    stream: StreamName,
    context: Pick<StreamLogContext, 'disk' | 'budget' | 'dirty'>,
    segments: Segment[],
  ) {
    this.dir = dir;
    this.#stream = stream;
    this.#context = context;
    this.#segments = segments;
  }

  get all(): readonly Segment[] {
    return this.#segments;
  }

  /** Bytes of payload. */
  get keptBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.end - segment.start, 0);
  }

  get sizeBytes(): number {
    return this.#segments.reduce((sum, segment) => sum + segment.sizeBytes, 0);
  }

  openToRead(segment: Segment): Promise<DiskFile> {
    return this.#context.disk.open(segment.path, 'r');
  }

  /** Writes a batch that begins at `logEnd`, to the last file where it goes on there and stays within `mostBytes`, or to a new one. */
  async write(batch: Batch, logEnd: number, mostBytes: number): Promise<void> {
    const segment = await this.#current(batch, logEnd, mostBytes);
    const file = this.#file as DiskFile;
    await withBytes(batch, (bytes) => writeFully(file, bytes, segment.sizeBytes));
    segment.sizeBytes += batch.fileBytes;
    segment.end = batch.end;
    this.#context.budget.add(batch.fileBytes);
    this.#markDirty();
  }

  /** Starts the next file of a log that ends at `logEnd`, with `gap` as its first record. */
  async rotate(gap: Gap | undefined, logEnd: number, timeMs: number): Promise<Segment> {
    const start = gap?.to ?? logEnd;
    const path = segmentPath(this.dir, this.#stream, logEnd);
    this.release();
    // A file that never got its first record has this very name: it is written anew.
    if (this.#segments.at(-1)?.path === path) this.#segments.pop();
    const file = await this.#context.disk.open(path, 'w+');
    const record = gap === undefined ? Buffer.alloc(0) : encodeGap(gap, timeMs);
    await orClose(file, () => writeFully(file, record, 0));
    this.#file = file;
    const sizeBytes = record.byteLength;
    const segment = { path, gap, start, end: start, sizeBytes, firstTimeMs: timeMs };
    this.#segments.push(segment);
    this.#fileOf.set(segment, this.#file);
    this.#context.budget.add(sizeBytes);
    this.#markDirty();
    return segment;
  }

  /** What a write that failed may have left. */
  async cutTornTail(): Promise<void> {
    try {
      await this.#file?.truncate(this.#segments.at(-1)?.sizeBytes ?? 0);
    } catch {
      // It is cut at the next opening; records behind the valid size are never read.
    }
  }

  async dropOldest(): Promise<void> {
    const oldest = this.#segments.shift();
    if (oldest === undefined) return;
    if (this.#segments.length === 0) this.release();
    this.#context.budget.add(-oldest.sizeBytes);
    await this.#context.disk.rm(oldest.path, { force: true });
    const file = this.#fileOf.get(oldest);
    if (file === undefined || !this.#unsynced.includes(file)) return;
    this.#unsynced.splice(this.#unsynced.indexOf(file), 1);
    // A sync that is under way may have it before it still.
    this.#syncing = this.#syncing.catch(() => undefined).then(() => file.close());
    await this.#syncing;
  }

  /** Brings what was written to the disk itself. */
  sync(): Promise<void> {
    this.#syncing = this.#syncing.catch(() => undefined).then(() => this.#syncNow());
    return this.#syncing;
  }

  /** Lets go of the last file: the next sync closes it. */
  release(): void {
    if (this.#file === undefined) return;
    this.#markDirty();
    this.#file = undefined;
  }

  async #current({ payloadBytes, timeMs }: Batch, logEnd: number, mostBytes: number): Promise<Segment> {
    const last = this.#segments.at(-1);
    const held = last === undefined ? 0 : last.end - last.start;
    const fits = held === 0 || held + payloadBytes <= mostBytes;
    if (last === undefined || !fits || last.end !== logEnd) return this.rotate(undefined, logEnd, timeMs);
    this.#file ??= await this.#context.disk.open(last.path, 'r+');
    this.#fileOf.set(last, this.#file);
    return last;
  }

  #markDirty(): void {
    if (this.#file !== undefined && !this.#unsynced.includes(this.#file)) this.#unsynced.push(this.#file);
    this.#context.dirty(this);
  }

  async #syncNow(): Promise<void> {
    const files = this.#unsynced;
    this.#unsynced = [];
    const failures: unknown[] = [];
    for (const file of files) {
      // One that can not be synced keeps no other from it.
      await file.datasync().catch((error: unknown) => failures.push(error));
      if (file !== this.#file && !this.#unsynced.includes(file)) await file.close();
    }
    if (failures.length > 0) throw failures[0];
  }
}
