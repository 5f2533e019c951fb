/** Where the last lines of a process's output begin, by reading its files from the end. */
import type { ProcessSpool } from './process-spool.ts';
import type { StreamName } from './segment.ts';
import type { StreamLog } from './stream-log.ts';
import { StreamReader } from './stream-reader.ts';

const newline = 10;

/** Beginnings of lines, oldest first, as two lists of the same length: a million of them are not a million objects. */
interface Lines {
  offsets: number[];
  timesMs: number[];
}

/**
 * Offsets from which the last `count` lines of the named streams together follow. A line is what ends in a newline, or
 * what stands at the end without one.
 */
export async function tailOffsets(
  spool: ProcessSpool,
  names: readonly StreamName[],
  count: number,
): Promise<Partial<Record<StreamName, number>>> {
  const found = await Promise.all(names.map((name) => lastLines(spool.log(name), count)));
  const at = found.map((lines) => lines.offsets.length);
  for (let left = count; left > 0; left--) {
    const newest = newestOf(found, at);
    if (newest < 0) break;
    at[newest] = (at[newest] ?? 0) - 1;
  }
  return Object.fromEntries(
    names.map((name, index) => [name, found[index]?.offsets[at[index] ?? 0] ?? spool.log(name).end]),
  );
}

/** Which list has the newest beginning before its mark; -1 when all are used up. */
function newestOf(found: readonly Lines[], at: readonly number[]): number {
  let best = -1;
  let bestMs = -1;
  for (const [index, lines] of found.entries()) {
    const time = lines.timesMs[(at[index] ?? 0) - 1];
    if (time === undefined || time < bestMs) continue;
    best = index;
    bestMs = time;
  }
  return best;
}

/** At most the last `count` beginnings of lines of a stream. */
async function lastLines(log: StreamLog, count: number): Promise<Lines> {
  let lines: Lines = { offsets: [], timesMs: [] };
  const { end } = log;
  for (const segment of log.segments.toReversed()) {
    if (lines.offsets.length >= count) break;
    const here = await linesOf(log, segment.start, Math.min(segment.end, end), end);
    lines = { offsets: [...here.offsets, ...lines.offsets], timesMs: [...here.timesMs, ...lines.timesMs] };
  }
  return { offsets: lines.offsets.slice(-count), timesMs: lines.timesMs.slice(-count) };
}

/** Beginnings of lines in [from, to): the first byte that is kept at all begins one. */
async function linesOf(log: StreamLog, from: number, to: number, end: number): Promise<Lines> {
  const lines: Lines = { offsets: [], timesMs: [] };
  const reader = new StreamReader(log, from, { live: false });
  try {
    for (let item = await reader.next(); item !== undefined && reader.position <= to; item = await reader.next()) {
      if (item.kind === 'gap') continue;
      const { bytes, offset, timeMs } = item;
      if (offset === log.keptFrom()) add(lines, offset, timeMs);
      for (let at = bytes.indexOf(newline); at >= 0; at = bytes.indexOf(newline, at + 1)) {
        if (offset + at + 1 < end) add(lines, offset + at + 1, timeMs);
      }
    }
  } finally {
    await reader.close();
  }
  return lines;
}

function add(lines: Lines, offset: number, timeMs: number): void {
  lines.offsets.push(offset);
  lines.timesMs.push(timeMs);
}
