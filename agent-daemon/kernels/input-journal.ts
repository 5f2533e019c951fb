/**
 * What clients say to one Jupyter kernel: each record is kept before it is taken, then given to the kernel's bridge at an
 * offset of its standard input, so that it is given once, over the death of the agent too. Records of several writers follow
 * each other whole. The file need not outlive the host's power, since no kernel does.
 *
 * The file: entries {u32 crc of the head, u32 bytes of the head, head as JSON, bytes}. The first has no bytes and says where
 * each writer is and from where on standard input the others go on. A torn tail is cut at opening.
 */
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { runsWriter, WriterId } from '../../schema/protocol/channels.ts';
import { type Disk, type DiskFile, isMissing, orClose, writeFully } from '../disk.ts';

const count = z.int().nonnegative();
const Table = z.strictObject({
  starts: count,
  /** Offset of standard input of what follows. */
  from: count,
  /** Where each writer's taken input ends, in the order of their last words. */
  writers: z.array(z.tuple([WriterId, count])),
});
const Entry = z.strictObject({ writer: WriterId, end: count, sizeBytes: count });
type Entry = z.infer<typeof Entry>;

const prefixBytes = 8;
const maxHeadBytes = 64 * 1024;
/** Writers that are remembered; the one that was silent longest is forgotten, but never that of runs: they run once. */
const maxWriters = 64;
/** Bytes of entries that wait for the kernel and are held in memory too. */
const heldBytes = 1024 * 1024;
/** A file this large is written anew when the kernel has all of it. */
const compactBytes = 4 * 1024 * 1024;
/** Beyond any of these, no more is taken from writers until the kernel has read. */
const maxWaitingBytes = 64 * 1024 * 1024;
const maxWaitingRecords = 4096;
const maxFileBytes = 256 * 1024 * 1024;
const chunkBytes = 256 * 1024;

/** Bytes of standard input, and where they are. */
interface Piece {
  offset: number;
  sizeBytes: number;
  fileAt: number;
  bytes: Uint8Array | undefined;
}

/** A record as its writer sent it: in memory, or (larger ones) in a file of its own. */
export type RecordBytes = { sizeBytes: number; bytes: Uint8Array } | { sizeBytes: number; file: DiskFile };

export class InputJournal {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #writers = new Map<string, number>();
  #starts = 0;
  #file: DiskFile | undefined;
  #fileBytes = 0;
  /** End of what is kept, and of what the kernel's standard input has, as offsets of that. */
  #end = 0;
  #given = 0;
  #pieces: Piece[] = [];
  #held = 0;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(path: string, disk: Disk) {
    this.#path = path;
    this.#disk = disk;
  }

  /** Takes up what is kept for this start of the kernel, once; of an earlier one only where its writers are. */
  open(starts: number): Promise<void> {
    return this.#inTurn(() => (this.#file === undefined ? this.#load(starts) : undefined));
  }

  /** Bytes that the kernel's standard input has not taken. */
  get waitingBytes(): number {
    return this.#end - this.#given;
  }

  /** False while the kernel should read before more is taken. */
  get hasRoom(): boolean {
    const { length } = this.#pieces;
    return this.waitingBytes <= maxWaitingBytes && length <= maxWaitingRecords && this.#fileBytes <= maxFileBytes;
  }

  /** From where a writer goes on. */
  endOf(writer: string): number {
    return this.#writers.get(writer) ?? 0;
  }

  /** Another start of the kernel: nothing that the former had not read is given to it. */
  restart(starts: number): Promise<void> {
    return this.#inTurn(async () => {
      this.#starts = starts;
      this.#end = 0;
      await this.#anew();
    });
  }

  /** Keeps the next record of a writer. Resolves when it is kept; it is given in the order of these calls. */
  append(writer: string, record: RecordBytes): Promise<void> {
    return this.#inTurn(() => this.#append(writer, record));
  }

  /** Gives what waits, in order, by `write`, which takes bytes at an offset of standard input. Resolves when nothing waits. */
  async give(write: (offset: number, bytes: Uint8Array) => Promise<void>): Promise<void> {
    for (let piece = this.#pieces[0]; piece !== undefined; piece = this.#pieces[0]) {
      const starts = this.#starts;
      for (let done = 0; done < piece.sizeBytes;) {
        const bytes = piece.bytes ?? (await this.#read(piece, done));
        await write(piece.offset + done, bytes);
        done += bytes.byteLength;
      }
      if (this.#starts !== starts || this.#pieces[0] !== piece) return;
      this.#pieces.shift();
      this.#held -= piece.bytes?.byteLength ?? 0;
      this.#given = piece.offset + piece.sizeBytes;
    }
    if (this.#fileBytes > compactBytes)
      await this.#inTurn(() => (this.#pieces.length === 0 ? this.#anew() : undefined));
  }

  async close(): Promise<void> {
    await this.#turn.catch(() => undefined);
    await this.#file?.close();
    this.#file = undefined;
  }

  async remove(): Promise<void> {
    await this.close();
    await this.#disk.rm(this.#path, { force: true });
  }

  #inTurn<T>(act: () => Promise<T> | T): Promise<T> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #append(writer: string, record: RecordBytes): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw new Error(`${this.#path} is not open`);
    const { sizeBytes } = record;
    const end = this.endOf(writer) + sizeBytes;
    const head = toHead({ writer, end, sizeBytes });
    const at = this.#fileBytes;
    if ('bytes' in record) await writeFully(file, Buffer.concat([head, record.bytes]), at);
    else await copy(record.file, file, { head, at, sizeBytes });
    this.#fileBytes = at + head.byteLength + sizeBytes;
    const isHeld = 'bytes' in record && this.#held + sizeBytes <= heldBytes;
    if (isHeld) this.#held += sizeBytes;
    this.#add({ writer, end, sizeBytes }, at + head.byteLength, isHeld ? record.bytes : undefined);
    this.#forgetOld();
  }

  #add({ writer, end, sizeBytes }: Entry, fileAt: number, bytes: Uint8Array | undefined): void {
    this.#writers.delete(writer);
    this.#writers.set(writer, end);
    this.#pieces.push({ offset: this.#end, sizeBytes, fileAt, bytes });
    this.#end += sizeBytes;
  }

  #forgetOld(): void {
    if (this.#writers.size <= maxWriters) return;
    const oldest = [...this.#writers.keys()].find((writer) => writer !== runsWriter);
    if (oldest !== undefined) this.#writers.delete(oldest);
  }

  async #read({ fileAt, sizeBytes }: Piece, done: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, sizeBytes - done));
    const { bytesRead } = (await this.#file?.read(buffer, 0, buffer.byteLength, fileAt + done)) ?? { bytesRead: 0 };
    if (bytesRead === 0) throw new Error(`${this.#path} is shorter than it was`);
    return buffer.subarray(0, bytesRead);
  }

  /** The file with nothing but where everything is, in one step. */
  async #anew(): Promise<void> {
    this.#pieces = [];
    this.#held = 0;
    this.#given = this.#end;
    const table = { starts: this.#starts, from: this.#end, writers: [...this.#writers] };
    const temporary = `${this.#path}.new`;
    const file = await this.#disk.open(temporary, 'w+', 0o600);
    const head = toHead(table);
    await orClose(file, async () => {
      await writeFully(file, head, 0);
      await this.#disk.rename(temporary, this.#path);
    });
    const before = this.#file;
    this.#file = file;
    this.#fileBytes = head.byteLength;
    await before?.close();
  }

  async #load(starts: number): Promise<void> {
    this.#starts = starts;
    // Of a time that failed.
    this.#writers.clear();
    this.#pieces = [];
    const file = await this.#disk.open(this.#path, 'r+').catch((error: unknown) => {
      if (isMissing(error)) return undefined;
      throw error;
    });
    if (file === undefined) return this.#anew();
    if (await orClose(file, () => this.#restore(file, starts))) {
      this.#file = file;
      return;
    }
    await file.close();
    await this.#anew();
  }

  /** What is in `file`. False when it is not written to any more: of an earlier start, or damaged. */
  async #restore(file: DiskFile, starts: number): Promise<boolean> {
    const { size } = await file.stat();
    const first = await headAt(file, 0, size);
    const table = Table.safeParse(first?.head).data;
    if (first === undefined || table === undefined) return false;
    for (const [writer, end] of table.writers) this.#writers.set(writer, end);
    this.#end = table.from;
    this.#given = table.from;
    let at = first.sizeBytes;
    for (;;) {
      const next = await headAt(file, at, size);
      const entry = Entry.safeParse(next?.head).data;
      if (next === undefined || entry === undefined || at + next.sizeBytes + entry.sizeBytes > size) break;
      this.#add(entry, at + next.sizeBytes, undefined);
      at += next.sizeBytes + entry.sizeBytes;
    }
    this.#fileBytes = at;
    if (at < size) await file.truncate(at);
    if (table.starts !== starts) this.#end = 0;
    return table.starts === starts;
  }
}

function toHead(value: object): Buffer {
  const text = Buffer.from(JSON.stringify(value));
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(crc32(text), 0);
  prefix.writeUInt32BE(text.byteLength, 4);
  return Buffer.concat([prefix, text]);
}

/** The head that begins at `at`, if it is whole, and its size. */
async function headAt(
  file: DiskFile,
  at: number,
  size: number,
): Promise<{ head: unknown; sizeBytes: number } | undefined> {
  const prefix = Buffer.alloc(prefixBytes);
  if (at + prefixBytes > size || (await file.read(prefix, 0, prefixBytes, at)).bytesRead < prefixBytes)
    return undefined;
  const length = prefix.readUInt32BE(4);
  if (length > maxHeadBytes || at + prefixBytes + length > size) return undefined;
  const text = Buffer.alloc(length);
  await file.read(text, 0, length, at + prefixBytes);
  if (crc32(text) !== prefix.readUInt32BE(0)) return undefined;
  return { head: JSON.parse(text.toString()), sizeBytes: prefixBytes + length };
}

async function copy(
  from: DiskFile,
  to: DiskFile,
  { head, at, sizeBytes }: { head: Buffer; at: number; sizeBytes: number },
): Promise<void> {
  await writeFully(to, head, at);
  const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, sizeBytes));
  for (let done = 0; done < sizeBytes;) {
    const { bytesRead } = await from.read(buffer, 0, Math.min(buffer.byteLength, sizeBytes - done), done);
    if (bytesRead === 0) throw new Error('a record is shorter than it was');
    await writeFully(to, buffer.subarray(0, bytesRead), at + head.byteLength + done);
    done += bytesRead;
  }
}
