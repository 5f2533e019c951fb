/**
 * One file of a stream's log: records without a hole between them, perhaps behind one gap record. A new file starts
 * where the old one is big enough or where bytes are missing, so the list of files is the index, and dropping the oldest
 * bytes is removing a file. Named by the stream and the log's end when the file was made.
 */
import { join } from 'node:path';
import type { Clock, Log, Timers } from '../../schema/ports.ts';
import type { Disk, DiskFile } from '../disk.ts';
import { isUnreadable, readAgain } from './read-again.ts';
import { type Gap, checkedPayload, headerBytes, maxRecordBytes, parseHeader, toGap } from './record.ts';

export type StreamName = 'stdout' | 'stderr';

export interface Segment {
  path: string;
  /** Missing bytes before this file. */
  gap: Gap | undefined;
  /** Payload [start, end) of the stream. */
  start: number;
  end: number;
  /** Valid bytes of the file: records behind it are being written or torn. */
  sizeBytes: number;
  firstTimeMs: number;
}

/** `size` of a segment for a stream that keeps `spoolBytes`: small enough that dropping one loses little. */
export function segmentBytesFor(spoolBytes: number): number {
  return Math.min(4 * 1024 * 1024, Math.max(4096, Math.floor(spoolBytes / 8)));
}

export function segmentPath(dir: string, stream: StreamName, logEnd: number): string {
  return join(dir, `${stream}-${String(logEnd).padStart(16, '0')}`);
}

/** Where a segment file of this name begins, or undefined when it is none of `stream`. */
function parseName(name: string, stream: StreamName): number | undefined {
  const [of, digits] = name.split('-');
  return of === stream && digits !== undefined && /^\d{16}$/.test(digits) ? Number(digits) : undefined;
}

/**
 * Reads what a directory holds of a stream, oldest first, after whatever kind of death: the last file is checked record
 * by record and cut where it stops being whole; of the others only the beginning is read, the rest when it is wanted.
 * Rejects where the disk does not give that of the last: where the log stood is not known then.
 */
export async function recoverSegments(
  { disk, clock, timers, log }: { disk: Disk; clock: Clock; timers: Timers; log: Log },
  dir: string,
  stream: StreamName,
): Promise<Segment[]> {
  const names = (await disk.readdir(dir)).filter((name) => parseName(name, stream) !== undefined).toSorted();
  const segments: Segment[] = [];
  let successor: number | undefined;
  for (const name of names.toReversed()) {
    const logEnd = parseName(name, stream) ?? 0;
    const path = join(dir, name);
    const recover = () => recoverSegment(disk, path, logEnd, successor);
    const segment = await readAgain({ clock, timers }, recover).catch((error: unknown) => {
      if (successor === undefined || !isUnreadable(error)) throw error;
      log.warn('the beginning of a file of output can not be read', { path, error: String(error) });
      return opaque(disk, path, logEnd, successor);
    });
    if (segment === undefined) {
      await disk.unlink(path);
      continue;
    }
    segments.unshift(segment);
    successor = logEnd;
  }
  return segments;
}

/**
 * One file, or undefined when nothing in it is whole. The last one stays in any case, emptied: its name tells where the
 * log stood, which must not go back when the file before it was torn, too.
 */
async function recoverSegment(
  disk: Disk,
  path: string,
  logEnd: number,
  successor?: number,
): Promise<Segment | undefined> {
  const file = await disk.open(path, 'r+');
  try {
    const { size } = await file.stat();
    const beginning = await readBeginning(file, path, logEnd);
    if (beginning === undefined) return successor === undefined ? await emptied(file, path, logEnd) : undefined;
    // A file that has a successor ends where the log stood when that one was made.
    if (successor !== undefined) return { ...beginning, end: Math.max(beginning.end, successor), sizeBytes: size };
    const whole = await scan(file, beginning.sizeBytes, beginning.start);
    if (whole.sizeBytes < size) await file.truncate(whole.sizeBytes);
    return { ...beginning, ...whole };
  } finally {
    await file.close();
  }
}

/** Its beginning can not be read now. Where its bytes lie is told by the names of both files; readers try again. */
async function opaque(disk: Disk, path: string, logEnd: number, successor: number): Promise<Segment> {
  const size = (await disk.stat(path).catch(() => undefined))?.size;
  return { path, gap: undefined, start: logEnd, end: successor, sizeBytes: size ?? 0, firstTimeMs: 0 };
}

async function emptied(file: DiskFile, path: string, logEnd: number): Promise<Segment> {
  await file.truncate(0);
  return { path, gap: undefined, start: logEnd, end: logEnd, sizeBytes: 0, firstTimeMs: 0 };
}

async function readBeginning(file: DiskFile, path: string, logEnd: number): Promise<Segment | undefined> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(2 * headerBytes + 16), 0, 2 * headerBytes + 16, 0);
  const bytes = buffer.subarray(0, bytesRead);
  const header = parseHeader(bytes, 0);
  if (header === undefined || header.offset !== logEnd) return undefined;
  const from = { path, start: logEnd, end: logEnd, firstTimeMs: header.timeMs };
  if (!header.isGap) return { ...from, gap: undefined, sizeBytes: 0 };
  const payload = checkedPayload(bytes, 0, header);
  if (payload === undefined) return undefined;
  const gap = toGap(header, payload);
  if (!Number.isSafeInteger(gap.to) || gap.to < gap.from) return undefined;
  return { ...from, gap, start: gap.to, end: gap.to, sizeBytes: headerBytes + header.length };
}

/** Checks every record from `at`, where the stream stands at `offset`; tells where the last whole one ends. */
async function scan(file: DiskFile, at: number, offset: number): Promise<{ sizeBytes: number; end: number }> {
  const buffer = Buffer.allocUnsafe(headerBytes + maxRecordBytes);
  let sizeBytes = at;
  let end = offset;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, sizeBytes);
    const bytes = buffer.subarray(0, bytesRead);
    let within = 0;
    for (;;) {
      const header = parseHeader(bytes, within);
      if (header === undefined || header.isGap || header.offset !== end) break;
      if (checkedPayload(bytes, within, header) === undefined) break;
      within += headerBytes + header.length;
      end += header.length;
    }
    if (within === 0) return { sizeBytes, end };
    sizeBytes += within;
  }
}
