/**
 * From the pieces that wait to one write: records with their headers, as few as their times allow, one behind the other
 * in one buffer. Copying costs less than handing the kernel thousands of small pieces.
 */
import { type Gap, headerBytes, maxRecordBytes, writeHeader } from './record.ts';

/** Bytes of a stream as they came from the init. */
export interface Piece {
  offset: number;
  timeMs: number;
  bytes: Uint8Array;
}

/** What one write is made of. */
export interface Batch {
  /** How many of the pieces it holds; `rest` is what is left of the last of them. */
  taken: number;
  rest: Piece | undefined;
  /** Set when the batch is a gap and nothing else. */
  gap: Gap | undefined;
  records: readonly PlannedRecord[];
  payloadBytes: number;
  fileBytes: number;
  /** The stream's offset behind it. */
  end: number;
  timeMs: number;
}

export interface PlannedRecord {
  offset: number;
  timeMs: number;
  parts: Uint8Array[];
  bytes: number;
}

/** Bounds the work of one write where every byte has a time of its own. */
const maxRecords = 4096;

/** The first batch of `pieces` (not empty), of at most `maxBytes` of payload. Pieces follow each other without holes. */
export function toBatch(pieces: readonly (Piece | Gap)[], maxBytes: number): Batch {
  const first = pieces[0] as Piece | Gap;
  if (!('bytes' in first)) return gapBatch(first);
  const records: PlannedRecord[] = [];
  let payloadBytes = 0;
  let taken = 0;
  let rest: Piece | undefined;
  for (const piece of pieces) {
    if (!('bytes' in piece) || payloadBytes === maxBytes || records.length >= maxRecords) break;
    const fits = Math.min(piece.bytes.byteLength, maxBytes - payloadBytes);
    put(records, piece, fits);
    payloadBytes += fits;
    taken++;
    if (fits === piece.bytes.byteLength) continue;
    rest = { ...piece, offset: piece.offset + fits, bytes: piece.bytes.subarray(fits) };
    break;
  }
  const fileBytes = payloadBytes + records.length * headerBytes;
  const end = first.offset + payloadBytes;
  return { taken, rest, gap: undefined, records, payloadBytes, fileBytes, end, timeMs: first.timeMs };
}

function gapBatch(gap: Gap): Batch {
  return { taken: 1, rest: undefined, gap, records: [], payloadBytes: 0, fileBytes: 0, end: gap.to, timeMs: 0 };
}

/** Adds the first `count` bytes of a piece to the records. */
function put(records: PlannedRecord[], piece: Piece, count: number): void {
  for (let from = 0; from < count;) {
    const last = records.at(-1);
    const joins = last !== undefined && last.timeMs === piece.timeMs && last.bytes < maxRecordBytes;
    const record = joins ? last : { offset: piece.offset + from, timeMs: piece.timeMs, parts: [], bytes: 0 };
    if (!joins) records.push(record);
    const to = Math.min(count, from + maxRecordBytes - record.bytes);
    record.parts.push(piece.bytes.subarray(from, to));
    record.bytes += to - from;
    from = to;
  }
}

/** Writes the records of a batch into `target`, which has room for its `fileBytes`. */
export function encodeBatch(batch: Batch, target: Buffer): void {
  let at = 0;
  for (const { offset, timeMs, parts, bytes } of batch.records) {
    const payload = target.subarray(at + headerBytes, at + headerBytes + bytes);
    let within = 0;
    for (const part of parts) {
      payload.set(part, within);
      within += part.byteLength;
    }
    writeHeader(target, at, offset, timeMs, payload);
    at += headerBytes + bytes;
  }
}

/** Big buffers are used again: they would be garbage hundreds of times a second. */
const pooled: Buffer[] = [];
const pooledBytes = 1024 * 1024 + 256 * headerBytes;
const maxPooled = 4;
const smallBytes = 32 * 1024;

/** Runs `use` with the batch as bytes, which are valid until it resolves. */
export async function withBytes(batch: Batch, use: (bytes: Buffer) => Promise<void>): Promise<void> {
  const fits = batch.fileBytes > smallBytes && batch.fileBytes <= pooledBytes;
  const buffer = (fits ? pooled.pop() : undefined) ?? Buffer.allocUnsafeSlow(fits ? pooledBytes : batch.fileBytes);
  const bytes = buffer.subarray(0, batch.fileBytes);
  encodeBatch(batch, bytes);
  try {
    await use(bytes);
  } finally {
    if (fits && pooled.length < maxPooled) pooled.push(buffer);
  }
}
