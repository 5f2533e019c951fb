/**
 * What is kept of one process beside its output: how it was asked for, how it ended, and what output is missing for lack
 * of disk space. A file of two fixed blocks, written in turn in place, so that it can be changed on a full disk and a
 * torn write leaves the older one.
 */
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { type Disk, type DiskFile, orClose, writeFully } from '../disk.ts';
import { OutputPolicy } from '../../schema/api/session-parts.ts';

const count = z.int().nonnegative();
const Hole = z.strictObject({ from: count, to: count, reason: z.enum(['disk-full', 'damaged']) });

export const ProcessExit = z.strictObject({
  exitCode: z.int().min(0).max(255).optional(),
  signal: z.string().max(16).optional(),
  /** `exited`, or why it was ended. */
  reason: z.string().max(32),
  atMs: count,
});
export type ProcessExit = z.infer<typeof ProcessExit>;

export const ProcessRecord = z.strictObject({
  /** SHA-256 of what was asked for: the same id with another spawn is a conflict. */
  spawn: z.string().max(64),
  /** Shortened: see `shortArgv`. */
  argv: z.array(z.string()),
  tty: z.boolean(),
  stdin: z.boolean(),
  startedAtMs: count,
  output: OutputPolicy,
  holes: z.strictObject({ stdout: Hole.optional(), stderr: Hole.optional() }),
  exit: ProcessExit.optional(),
});
export type ProcessRecord = z.infer<typeof ProcessRecord>;

/** Argv as it fits into a record: for people who look at a list. */
export function shortArgv(argv: readonly string[]): string[] {
  let left = 1000;
  const short: string[] = [];
  for (const text of argv.slice(0, 64)) {
    // JSON may need six bytes for one character.
    const fits = text.slice(0, Math.max(0, Math.floor(left / 2)));
    left -= Buffer.byteLength(JSON.stringify(fits)) + 1;
    short.push(fits.length < text.length ? `${fits}...` : fits);
    if (left <= 8) break;
  }
  return short;
}

const blockBytes = 4096;
/** {sequence u32, length u32, crc32 u32} before the JSON text. */
const prefixBytes = 12;

export class ProcessRecordFile {
  readonly #file: DiskFile;
  #sequence: number;
  #record: ProcessRecord | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(file: DiskFile, sequence: number, record: ProcessRecord | undefined) {
    this.#file = file;
    this.#sequence = sequence;
    this.#record = record;
  }

  /** Opens the file, made with its full size when it is new. */
  static async open(disk: Disk, path: string): Promise<ProcessRecordFile> {
    const file = await disk.open(path, 'create', 0o600);
    const buffer = Buffer.alloc(2 * blockBytes);
    await orClose(file, async () => {
      const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, 0);
      if (bytesRead < buffer.byteLength) await writeFully(file, buffer.subarray(bytesRead), bytesRead);
    });
    const blocks = [0, 1].flatMap((index) => parseBlock(buffer.subarray(index * blockBytes, (index + 1) * blockBytes)));
    const newest = blocks.toSorted((a, b) => b.sequence - a.sequence)[0];
    return new ProcessRecordFile(file, newest?.sequence ?? 0, newest?.record);
  }

  /** Makes the file with its first record, over whatever a death left of one, in one write. */
  static async create(disk: Disk, path: string, record: ProcessRecord): Promise<ProcessRecordFile> {
    const file = await disk.open(path, 'create', 0o600);
    const blocks = Buffer.alloc(2 * blockBytes);
    toBlock(1, record).copy(blocks, blockBytes);
    await orClose(file, () => writeFully(file, blocks, 0));
    return new ProcessRecordFile(file, 1, record);
  }

  get record(): ProcessRecord | undefined {
    return this.#record;
  }

  /** Replaces the record; writes happen in the order of the calls. One that failed is written over, never the one before. */
  write(record: ProcessRecord): Promise<void> {
    this.#record = record;
    const next = this.#writing.then(async () => {
      const sequence = this.#sequence + 1;
      await writeFully(this.#file, toBlock(sequence, record), (sequence % 2) * blockBytes);
      this.#sequence = sequence;
    });
    this.#writing = next.catch(() => undefined);
    return next;
  }

  async sync(): Promise<void> {
    await this.#writing;
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}

function toBlock(sequence: number, record: ProcessRecord): Buffer {
  const block = Buffer.alloc(blockBytes);
  const text = Buffer.from(JSON.stringify(record));
  block.writeUInt32LE(sequence, 0);
  block.writeUInt32LE(text.byteLength, 4);
  block.writeUInt32LE(crc32(text, crc32(block.subarray(0, 8))), 8);
  text.copy(block, prefixBytes);
  return block;
}

function parseBlock(block: Buffer): { sequence: number; record: ProcessRecord }[] {
  const length = block.readUInt32LE(4);
  if (length === 0 || length > blockBytes - prefixBytes) return [];
  const text = block.subarray(prefixBytes, prefixBytes + length);
  if (crc32(text, crc32(block.subarray(0, 8))) !== block.readUInt32LE(8)) return [];
  const parsed = ProcessRecord.safeParse(JSON.parse(text.toString()));
  return parsed.success ? [{ sequence: block.readUInt32LE(0), record: parsed.data }] : [];
}
