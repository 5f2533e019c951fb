/**
 * Output as it lies in object storage: chunks, each the bytes [from, to) of one stream with the times at which they were
 * written, compressed by gzip. Their names are their ranges, so a listing is the index. Pure.
 *
 * Uncompressed, a chunk is records one behind the other: {timeMs f64, length u32} in little endian, and so many bytes.
 */
import { z } from 'zod';

/** Bytes of output of one chunk at most: what a reader of any range has to read, and holds. */
export const chunkOutputBytes = 2 * 1024 * 1024;
const recordHeadBytes = 12;
/** Records of one chunk at most, where every byte has a time of its own. */
export const chunkRecords = 64 * 1024;
/** A whole chunk, uncompressed. */
export const chunkRawBytes = chunkOutputBytes + chunkRecords * recordHeadBytes;
/** What is taken compressed: gzip makes nothing larger by more. */
export const chunkBodyBytes = chunkRawBytes + 64 * 1024;

/** Why bytes before a chunk are missing, as the agent knows it. */
export const missingReasons = ['spool-full', 'disk-full', 'ring-full', 'retention', 'damaged'] as const;

const count = z.int().nonnegative();
const MissingReason = z.enum(missingReasons);

/** The last that an agent hands over of a process: with it, what is there is all. */
export const HandOverEnd = z
  .strictObject({
    exit: z
      .strictObject({
        exitCode: z.int().min(0).max(255).optional(),
        signal: z.string().max(16).optional(),
        reason: z.string().max(32),
      })
      .optional(),
    /** Where each stream ended. */
    ends: z.strictObject({ stdout: count, stderr: count }),
    /** Why the last bytes before that are missing, if they are. */
    missing: z.strictObject({ stdout: MissingReason.optional(), stderr: MissingReason.optional() }).optional(),
  })
  .meta({ id: 'HandOverEnd' });
export type HandOverEnd = z.infer<typeof HandOverEnd>;

const namePattern = /^([0-9]{16})-([0-9]{16})$/;

/** Name of the chunk of the bytes [from, to): names sort as the bytes do. */
export function chunkName(from: number, to: number): string {
  return `${digits(from)}-${digits(to)}`;
}

/** The range that a name says; undefined for what is no name. */
export function parseChunkName(name: string): { from: number; to: number } | undefined {
  const [, from, to] = namePattern.exec(name) ?? [];
  if (from === undefined || to === undefined) return undefined;
  const range = { from: Number(from), to: Number(to) };
  return Number.isSafeInteger(range.to) && range.from < range.to ? range : undefined;
}

const digits = (value: number) => String(value).padStart(16, '0');

/** Bytes that were written at one time. */
export interface TimedBytes {
  timeMs: number;
  bytes: Uint8Array;
}

/** Bytes that records take, uncompressed. */
export function encodedBytes(outputBytes: number, records: number): number {
  return outputBytes + records * recordHeadBytes;
}

export function encodeChunk(records: readonly TimedBytes[]): Uint8Array {
  const outputBytes = records.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const whole = new Uint8Array(encodedBytes(outputBytes, records.length));
  const view = new DataView(whole.buffer);
  let at = 0;
  for (const { timeMs, bytes } of records) {
    view.setFloat64(at, timeMs, true);
    view.setUint32(at + 8, bytes.byteLength, true);
    whole.set(bytes, at + recordHeadBytes);
    at += recordHeadBytes + bytes.byteLength;
  }
  return whole;
}

/** The records of an uncompressed chunk, as views into it. @throws Error for what no agent of ours writes */
export function decodeChunk(whole: Uint8Array): TimedBytes[] {
  const view = new DataView(whole.buffer, whole.byteOffset, whole.byteLength);
  const records: TimedBytes[] = [];
  for (let at = 0; at < whole.byteLength;) {
    const bodyAt = at + recordHeadBytes;
    if (records.length === chunkRecords || bodyAt > whole.byteLength) throw new Error('a chunk is damaged');
    const timeMs = view.getFloat64(at, true);
    const length = view.getUint32(at + 8, true);
    if (length === 0 || bodyAt + length > whole.byteLength || !Number.isSafeInteger(timeMs) || timeMs < 0)
      throw new Error('a chunk is damaged');
    records.push({ timeMs, bytes: whole.subarray(bodyAt, bodyAt + length) });
    at = bodyAt + length;
  }
  return records;
}
