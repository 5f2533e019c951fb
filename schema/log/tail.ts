/** Where the last lines of an output begin, by reading its parts from the end: of what is large, only as much as is needed. Pure. */
import { LineSplitter, type LineTest, type RawLine } from './lines.ts';

export type StreamName = 'stdout' | 'stderr';
export const streamNames = ['stdout', 'stderr'] as const;

/** A part of a stream that can be read by itself: [start, end). */
export interface Block {
  start: number;
  end: number;
  /** The bytes before it are not there: it begins a line. */
  isFirst: boolean;
}

/** One stream as it is kept. */
export interface TailSource {
  stream: StreamName;
  /** Behind its last byte. */
  end: number;
  /** Oldest first. */
  blocks: readonly Block[];
  /** Its bytes from `from` on, until bytes are missing. */
  read(from: number): AsyncIterable<{ offset: number; timeMs: number; bytes: Uint8Array }>;
}

const everyLine: LineTest = { accepts: () => true, turn: () => undefined };

/** Beginnings of lines, as two lists of the same length: a million of them are not a million objects. */
interface Beginnings {
  offsets: number[];
  timesMs: number[];
}

/** Marks the parts that follow nothing. */
export function toBlocks(parts: readonly { start: number; end: number }[]): Block[] {
  return parts.map(({ start, end }, at) => ({ start, end, isFirst: parts[at - 1]?.end !== start }));
}

/**
 * Offsets from which the last `count` lines of all streams together follow, of those that `test` takes. A line is what
 * ends in a newline, or what stands at the end without one.
 */
export async function tailStarts(
  sources: readonly TailSource[],
  count: number,
  test: LineTest = everyLine,
): Promise<Partial<Record<StreamName, number>>> {
  const found: Beginnings[] = [];
  for (const source of sources) found.push(await lastBeginnings(source, count, test));
  const at = found.map((lines) => lines.offsets.length);
  for (let left = count; left > 0; left--) {
    const newest = newestOf(found, at);
    if (newest < 0) break;
    at[newest] = (at[newest] ?? 0) - 1;
  }
  return Object.fromEntries(
    sources.map(({ stream, end }, index) => [stream, found[index]?.offsets[at[index] ?? 0] ?? end]),
  );
}

/** Which list has the newest beginning before its mark; -1 when all are used up. */
function newestOf(found: readonly Beginnings[], at: readonly number[]): number {
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

async function lastBeginnings(source: TailSource, count: number, test: LineTest): Promise<Beginnings> {
  let lines: Beginnings = { offsets: [], timesMs: [] };
  for (const block of source.blocks.toReversed()) {
    if (lines.offsets.length >= count) break;
    const here = await beginningsIn(source, block, test);
    lines = { offsets: here.offsets.concat(lines.offsets), timesMs: here.timesMs.concat(lines.timesMs) };
  }
  return count === 0
    ? { offsets: [], timesMs: [] }
    : { offsets: lines.offsets.slice(-count), timesMs: lines.timesMs.slice(-count) };
}

/** Lines that begin in a block, or right behind its last newline: the next block leaves out what begins before it. */
async function beginningsIn(source: TailSource, block: Block, test: LineTest): Promise<Beginnings> {
  const lines: Beginnings = { offsets: [], timesMs: [] };
  const splitter = new LineSplitter(block.start);
  let skips = !block.isFirst;
  const take = (line: RawLine): void => {
    if (skips) skips = line.isCut;
    else if (line.offset <= block.end && !line.continues && test.accepts(line)) {
      lines.offsets.push(line.offset);
      lines.timesMs.push(line.timeMs);
    }
  };
  for await (const { offset, timeMs, bytes } of source.read(block.start)) {
    for (const line of splitter.push(offset, timeMs, bytes)) {
      take(line);
      const turn = test.turn();
      if (turn !== undefined) await turn;
    }
    if (splitter.begins > block.end) return lines;
  }
  const last = splitter.flush();
  if (last !== undefined) take(last);
  return lines;
}
