/**
 * Reads output from object storage as an agent would send it: bytes and events of the operation `logs`, or the lines of
 * `lines`. One chunk of each stream is held at a time, whatever the range.
 */
import { Refusal } from '../../../schema/errors.ts';
import { chunkBodyBytes, type TimedBytes } from '../../../schema/log/chunk.ts';
import { LineSplitter, type RawLine } from '../../../schema/log/lines.ts';
import { type StreamName, streamNames, type TailSource, tailStarts, toBlocks } from '../../../schema/log/tail.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { type LineItem, lineTest, type LinesOpen, toLineItem } from '../../../schema/protocol/lines.ts';
import type { ProcessEvent, StreamOpen } from '../../../schema/protocol/streams.ts';
import type { Blobs } from '../../platform/blobs-port.ts';
import { readChunkBody } from './bodies.ts';
import { type Archive, endOf } from './find.ts';
import type { StoredChunk } from './keys.ts';

type Gap = Omit<Extract<ProcessEvent, { kind: 'gap' }>, 'kind'>;
type Piece = { gap: Gap } | { offset: number; timeMs: number; bytes: Uint8Array };
type Starts = Partial<Record<StreamName, number>>;
export type LogsOpen = Extract<StreamOpen, { op: 'logs' }>;

export interface Reading {
  blobs: Blobs;
  /** Resolves when others had their turn: a search of a chunk waits for nothing by itself. */
  pause: () => Promise<void>;
  archive: Archive;
  /** Asked before each piece: whether whoever reads may go on. */
  allowed: () => Promise<boolean>;
}

/** Bytes of one item at most: a reader of events takes lines up to 1 MiB. */
const pieceBytes = 256 * 1024;
const textCharacters = 32 * 1024;
const namesOf = ({ streams }: Pick<LogsOpen, 'streams'>) =>
  streamNames.filter((name) => streams === 'both' || streams === name);

/** Where the answer begins. */
export async function startsOf(reading: Reading, open: LogsOpen | LinesOpen): Promise<Starts> {
  const names = namesOf(open);
  const { tailLines } = open;
  if (tailLines !== undefined && (open.op === 'logs' || open.after === undefined)) {
    const sources = names.map((name) => tailSourceOf(reading, name));
    return tailStarts(sources, tailLines, open.op === 'lines' ? lineTest(open, reading.pause) : undefined);
  }
  const sinceMs = open.op === 'lines' ? open.sinceMs : undefined;
  return Object.fromEntries(
    names.map((name) => {
      const since = sinceMs === undefined ? 0 : offsetSince(reading.archive.chunks[name], sinceMs);
      return [name, Math.max(open.after?.[name] ?? 0, since)];
    }),
  );
}

/** At most one chunk is read for nothing. */
function offsetSince(chunks: readonly StoredChunk[], sinceMs: number): number {
  const found = chunks.findIndex(({ lastMs }) => lastMs >= sinceMs);
  // What it begins with may be the rest of a line that was begun before.
  const at = found > 0 && chunks[found]!.firstMs >= sinceMs ? found - 1 : found;
  // From the very beginning what is missing before it is told as well.
  return at === 0 ? 0 : ((at < 0 ? chunks.at(-1) : chunks[at])?.start ?? 0);
}

function tailSourceOf(reading: Reading, stream: StreamName): TailSource {
  const { archive } = reading;
  return {
    stream,
    end: endOf(archive, stream),
    blocks: toBlocks(archive.chunks[stream]),
    async *read(from) {
      for await (const piece of pieces(reading, stream, from)) {
        if ('gap' in piece) return;
        yield piece;
      }
    },
  };
}

/** A stream from `from` on, with what is missing in its place. */
async function* pieces({ blobs, archive, allowed }: Reading, stream: StreamName, from: number): AsyncGenerator<Piece> {
  let position = from;
  for (const chunk of archive.chunks[stream]) {
    if (chunk.end <= position) continue;
    await mustBeAllowed(allowed);
    if (chunk.start > position) {
      yield { gap: { stream, from: position, to: chunk.start, reason: chunk.missing ?? 'not-handed-over' } };
      position = chunk.start;
    }
    const records = await recordsOf(blobs, chunk);
    if (!records) {
      yield { gap: { stream, from: position, to: chunk.end, reason: 'damaged' } };
      position = chunk.end;
      continue;
    }
    let offset = chunk.start;
    for (const { timeMs, bytes } of records) {
      for (let at = Math.max(0, position - offset); at < bytes.byteLength; at += pieceBytes) {
        // Who takes them slowly may have lost the right since the chunk was read. It is known for some seconds.
        await mustBeAllowed(allowed);
        yield { offset: offset + at, timeMs, bytes: bytes.subarray(at, at + pieceBytes) };
      }
      offset += bytes.byteLength;
    }
    position = chunk.end;
  }
  const end = endOf(archive, stream);
  if (position < end)
    yield { gap: { stream, from: position, to: end, reason: archive.end?.missing?.[stream] ?? 'not-handed-over' } };
}

async function mustBeAllowed(allowed: Reading['allowed']): Promise<void> {
  if (!(await allowed())) throw new Refusal('auth_revoked');
}

/** Undefined when it is gone or damaged. */
async function recordsOf(blobs: Blobs, { key }: StoredChunk): Promise<TimedBytes[] | undefined> {
  const bytes = await blobs.read(key, chunkBodyBytes);
  try {
    return bytes && (await readChunkBody(bytes));
  } catch {
    return undefined;
  }
}

interface Side<Item> {
  stream: StreamName;
  items: AsyncIterator<Item>;
  peeked: Item | undefined;
}

/** Several streams as one, by time; what is missing is said before anything else. */
async function* merged<Item>(
  sources: readonly { stream: StreamName; items: AsyncIterator<Item> }[],
  timeOf: (item: Item) => number,
): AsyncGenerator<{ stream: StreamName; item: Item }> {
  const sides: Side<Item>[] = [];
  for (const source of sources) sides.push({ ...source, peeked: await nextOf(source.items) });
  try {
    for (;;) {
      let first: Side<Item> | undefined;
      for (const side of sides) {
        if (side.peeked === undefined) continue;
        if (first?.peeked === undefined || timeOf(side.peeked) < timeOf(first.peeked)) first = side;
      }
      if (first?.peeked === undefined) return;
      yield { stream: first.stream, item: first.peeked };
      first.peeked = await nextOf(first.items);
    }
  } finally {
    for (const { items } of sides) await items.return?.();
  }
}

async function nextOf<Item>(items: AsyncIterator<Item>): Promise<Item | undefined> {
  const next = await items.next();
  return next.done ? undefined : next.value;
}

/** As the operation `logs`. */
export async function* readLogs(reading: Reading, starts: Starts): AsyncGenerator<StreamItem> {
  const sources = Object.entries(starts).map(([name, from]) => {
    const stream = name as StreamName;
    return { stream, items: pieces(reading, stream, from) };
  });
  for await (const { stream, item } of merged(sources, (piece) => ('gap' in piece ? 0 : piece.timeMs))) {
    if ('gap' in item) yield controlItem({ kind: 'gap', ...item.gap });
    else yield { channel: channels[stream], offset: item.offset, bytes: item.bytes, end: false };
  }
  yield controlItem(lastItem(reading.archive, Object.keys(starts) as StreamName[]));
}

function controlItem(event: ProcessEvent): StreamItem {
  const bytes = new TextEncoder().encode(JSON.stringify(event));
  return { channel: channels.control, offset: 0, bytes, end: false };
}

/** How it ended; or that the rest was not handed over. */
function lastItem(archive: Archive, names: readonly StreamName[]): Extract<LineItem, { kind: 'exit' | 'missing' }> {
  const { end } = archive;
  if (!end) return { kind: 'missing', after: { stdout: endOf(archive, 'stdout'), stderr: endOf(archive, 'stderr') } };
  const { exitCode, signal, reason } = end.exit ?? { reason: 'host-lost' };
  return {
    kind: 'exit',
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    reason,
    ends: Object.fromEntries(names.map((name) => [name, endOf(archive, name)])),
  };
}

type LineOrGap = { line: RawLine } | { gap: Gap };

/** As the operation `lines`. */
export async function* readLines(reading: Reading, starts: Starts, open: LinesOpen): AsyncGenerator<StreamItem> {
  const test = lineTest(open, reading.pause);
  const sources = Object.entries(starts).map(([name, from]) => {
    const stream = name as StreamName;
    return { stream, items: linesOf(reading, stream, from, open.untilMs) };
  });
  const encoder = new TextEncoder();
  let text = '';
  let offset = 0;
  const take = (): StreamItem => {
    const bytes = encoder.encode(text);
    const item = { channel: channels.stdout, offset, bytes, end: false };
    offset += bytes.byteLength;
    text = '';
    return item;
  };
  const timeOf = (item: LineOrGap) => ('gap' in item ? 0 : item.line.timeMs);
  for await (const { stream, item } of merged<LineOrGap>(sources, timeOf)) {
    if ('gap' in item) text += `${JSON.stringify({ kind: 'gap', ...item.gap })}\n`;
    else if (test.accepts(item.line)) text += `${JSON.stringify(toLineItem(stream, item.line))}\n`;
    const turn = test.turn();
    if (turn !== undefined) await turn;
    if (text.length >= textCharacters) yield take();
  }
  text += `${JSON.stringify(lastItem(reading.archive, Object.keys(starts) as StreamName[]))}\n`;
  yield take();
}

/** Nothing behind the chunk in which the last line begun before `untilMs` ends is read. */
async function* linesOf(
  reading: Reading,
  stream: StreamName,
  from: number,
  untilMs = Number.POSITIVE_INFINITY,
): AsyncGenerator<LineOrGap> {
  const splitter = new LineSplitter(from);
  for await (const piece of pieces(reading, stream, from)) {
    if ('gap' in piece) {
      const held = splitter.flush();
      if (held) yield { line: held };
      splitter.skipTo(piece.gap.to);
      yield piece;
      continue;
    }
    // A line that was begun before is whole.
    if (piece.timeMs >= untilMs && (splitter.heldSinceMs ?? untilMs) >= untilMs) break;
    for (const line of splitter.push(piece.offset, piece.timeMs, piece.bytes)) yield { line };
  }
  const last = splitter.flush();
  if (last) yield { line: last };
}
