/**
 * A file of JSON records that survives a crash at any byte: {length u32, crc32 u32, JSON}. What `append` resolved for is
 * on the disk (fdatasync, unless the owner can do without); a torn tail is cut at opening. Appends that come while one is
 * under way share the next sync.
 * It knows nothing of what the records mean.
 */
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { type Disk, type DiskFile, orClose, readIfThere, syncDirectory, writeFully } from '../disk.ts';

const headerBytes = 8;
/** A record above this can only be damage. */
const maxRecordBytes = 4 * 1024 * 1024;
const retryMs = 1000;

function encode(record: unknown): Uint8Array {
  const body = new TextEncoder().encode(JSON.stringify(record));
  const bytes = new Uint8Array(headerBytes + body.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.byteLength);
  view.setUint32(4, crc32(body));
  bytes.set(body, headerBytes);
  return bytes;
}

/** Records of `bytes` up to the first that is torn or damaged, and the length of that prefix. */
export function decodeRecords(bytes: Uint8Array): { records: unknown[]; goodBytes: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: unknown[] = [];
  let at = 0;
  while (at + headerBytes <= bytes.byteLength) {
    const length = view.getUint32(at);
    const from = at + headerBytes;
    if (length > maxRecordBytes || from + length > bytes.byteLength) break;
    const body = bytes.subarray(from, from + length);
    if (crc32(body) !== view.getUint32(at + 4)) break;
    try {
      records.push(JSON.parse(new TextDecoder().decode(body)) as unknown);
    } catch {
      break;
    }
    at = from + length;
  }
  return { records, goodBytes: at };
}

interface Waiting {
  bytes: Uint8Array;
  done: () => void;
  failed: (error: Error) => void;
}

export interface RecordFileOwner {
  /** All records that matter now, those just given to `append` included: what a rewritten file holds. */
  live(): readonly unknown[];
  /** A write failed and is tried again in a second: a full or failing disk. */
  failing(error: unknown): void;
  /** Waits before the next try. */
  pause(delayMs: number): Promise<void>;
}

export class RecordFile {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #owner: RecordFileOwner;
  #file: DiskFile | undefined;
  #sizeBytes = 0;
  #waiting: Waiting[] = [];
  #busy: Promise<void> | undefined;
  /** After a failed write the content of the file is unknown, so it is written anew from the owner's memory. */
  #broken = false;
  #rewriteWanted = false;
  #closed = false;
  readonly #sync: boolean;

  private constructor(path: string, disk: Disk, owner: RecordFileOwner, sync: boolean) {
    this.#path = path;
    this.#disk = disk;
    this.#owner = owner;
    this.#sync = sync;
  }

  /**
   * Opens or creates the file (0600), cuts a torn tail, and tells what is in it. Without `sync` an append outlives this
   * process, not the host's power.
   */
  static async open(
    path: string,
    disk: Disk,
    owner: RecordFileOwner,
    { sync = true }: { sync?: boolean } = {},
  ): Promise<{ file: RecordFile; records: unknown[]; cutBytes: number }> {
    const file = new RecordFile(path, disk, owner, sync);
    const bytes = await readIfThere(disk, path);
    const { records, goodBytes } = decodeRecords(bytes ?? new Uint8Array(0));
    const opened = await disk.open(path, bytes ? 'r+' : 'wx+', 0o600);
    await orClose(opened, async () => {
      if (bytes && goodBytes < bytes.byteLength) await opened.truncate(goodBytes);
      await opened.datasync();
      if (!bytes) await syncDirectory(disk, dirname(path));
    });
    file.#file = opened;
    file.#sizeBytes = goodBytes;
    return { file, records, cutBytes: (bytes?.byteLength ?? 0) - goodBytes };
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /**
   * Resolves when the record is on the disk; while the disk refuses, it waits. The owner's memory must have the record
   * already. Rejects only after `close`.
   */
  append(record: unknown): Promise<void> {
    return this.#enqueue(encode(record));
  }

  /** Resolves when everything appended so far is on the disk. */
  settled(): Promise<void> {
    return this.#busy ? this.#enqueue(new Uint8Array(0)) : Promise.resolve();
  }

  /** Replaces the content by what is live, atomically. */
  compact(): Promise<void> {
    this.#rewriteWanted = true;
    return this.#enqueue(new Uint8Array(0));
  }

  /** Waits for what is under way, not for a disk that refuses. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#busy;
    await this.#file?.close();
    this.#file = undefined;
  }

  #enqueue(bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(new Error(`${this.#path} is closed`));
    return new Promise((done, failed) => {
      this.#waiting.push({ bytes, done, failed });
      this.#busy ??= this.#drain();
    });
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#broken || this.#rewriteWanted) await this.#replace();
        else await this.#write(Buffer.concat(batch.map((each) => each.bytes)));
        for (const each of batch) each.done();
      } catch (error) {
        this.#broken = true;
        this.#waiting = [...batch, ...this.#waiting];
        this.#owner.failing(error);
        if (this.#closed) this.#giveUp();
        else await this.#owner.pause(retryMs);
      }
    }
    this.#busy = undefined;
  }

  #giveUp(): void {
    for (const each of this.#waiting) each.failed(new Error(`${this.#path} was closed before it could be written`));
    this.#waiting = [];
  }

  async #write(bytes: Uint8Array): Promise<void> {
    if (bytes.byteLength === 0) return;
    const file = this.#file;
    if (!file) throw new Error(`${this.#path} is not open`);
    await writeFully(file, bytes, this.#sizeBytes);
    if (this.#sync) await file.datasync();
    this.#sizeBytes += bytes.byteLength;
  }

  async #replace(): Promise<void> {
    const disk = this.#disk;
    const temporary = `${this.#path}.new`;
    await disk.unlink(temporary).catch(() => {});
    const file = await disk.open(temporary, 'wx+', 0o600);
    const bytes = Buffer.concat(this.#owner.live().map(encode));
    await orClose(file, async () => {
      await writeFully(file, bytes, 0);
      await file.sync();
      await disk.rename(temporary, this.#path);
      await syncDirectory(disk, dirname(this.#path));
    });
    await this.#file?.close().catch(() => {});
    this.#file = file;
    this.#sizeBytes = bytes.byteLength;
    this.#broken = false;
    this.#rewriteWanted = false;
  }
}
