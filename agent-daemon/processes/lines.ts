/**
 * The operation `lines` of the tunnel (SPEC rule S20): kept output of a process line by line, searched here, so that only
 * what is wanted travels.
 */
import { Refusal } from '../../schema/errors.ts';
import type { LineTest } from '../../schema/log/lines.ts';
import { PatternError } from '../../schema/log/pattern-parse.ts';
import { tailStarts } from '../../schema/log/tail.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { type LineFilter, type LineItem, lineTest, type LinesOpen, toLineItem } from '../../schema/protocol/lines.ts';
import type { AgentStream, StreamHandler } from '../dispatch.ts';
import type { Soon } from '../init/link-options.ts';
import { LineReader, offsetSince, tailSourceOf } from '../output/line-reader.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import { whenMoreOf } from '../output/when-more.ts';
import { keptFrom, namesOf, type StreamsOf, withSpool } from './streams.ts';

/** Text that is sent at once. */
const pieceBytes = 32 * 1024;
/** How much is looked at for nothing before the client hears how far that is. */
const quietBytes = 1024 * 1024;

type Starts = Partial<Record<StreamName, number>>;

export function linesStream(of: StreamsOf & { soon: Soon }): StreamHandler<'lines'> {
  const pause = oneByOne(of.soon);
  return async (open, stream) => {
    const { streams, after = { stdout: 0, stderr: 0 }, follow } = open.open;
    const test = testOf(open.open, pause);
    await withSpool(of, open, async (spool) => {
      const names = namesOf(streams);
      const from = await startsOf(spool, names, open.open, test);
      stream.opened({ keptFrom: keptFrom(spool, from) });
      const writer = new LineWriter(stream);
      const readers = names.map((name) => new LineReader(spool.log(name), from[name] ?? after[name], { live: follow }));
      try {
        const isOver = await new LinePump(readers, writer, {
          test,
          follow,
          closed: stream.closed,
        }).run();
        if (isOver) await writeExit(writer, spool, readers);
        await writer.flush();
      } finally {
        await Promise.all(readers.map((reader) => reader.close()));
      }
    });
  };
}

/** Resolves when others had their turn. One search goes on between two of those, however many there are. */
function oneByOne(soon: Soon): () => Promise<void> {
  let last = Promise.resolve();
  return () => (last = last.then(() => new Promise<void>((resolve) => soon(resolve))));
}

/** @throws Refusal `session_logs_pattern_invalid` */
function testOf(filter: LineFilter, pause: () => Promise<void>): LineTest {
  try {
    return lineTest(filter, pause);
  } catch (error) {
    if (error instanceof PatternError)
      throw new Refusal('session_logs_pattern_invalid', `The pattern: ${error.message}.`);
    throw error;
  }
}

async function startsOf(
  spool: ProcessSpool,
  names: readonly StreamName[],
  { after, sinceMs, tailLines }: LinesOpen,
  test: LineTest,
): Promise<Starts> {
  if (after === undefined && tailLines !== undefined)
    return tailStarts(
      names.map((name) => tailSourceOf(spool.log(name))),
      tailLines,
      test,
    );
  const since = (name: StreamName) => (sinceMs === undefined ? 0 : offsetSince(spool.log(name), sinceMs));
  return Object.fromEntries(names.map((name) => [name, Math.max(after?.[name] ?? 0, since(name))]));
}

async function writeExit(writer: LineWriter, spool: ProcessSpool, readers: readonly LineReader[]): Promise<void> {
  const { exit } = spool.record;
  if (exit === undefined) return;
  const { exitCode, signal, reason } = exit;
  await writer.write({
    kind: 'exit',
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    reason,
    ends: Object.fromEntries(readers.map(({ log }) => [log.stream, log.end])),
  });
}

/** Items as text on the first output channel, several in one piece. */
class LineWriter {
  readonly #stream: AgentStream;
  #texts: string[] = [];
  #characters = 0;

  constructor(stream: AgentStream) {
    this.#stream = stream;
  }

  /** Resolves when little enough waits. */
  async write(item: LineItem): Promise<void> {
    const text = `${JSON.stringify(item)}\n`;
    this.#texts.push(text);
    this.#characters += text.length;
    if (this.#characters >= pieceBytes) await this.flush();
  }

  async flush(): Promise<void> {
    if (this.#characters === 0) return;
    const bytes = Buffer.from(this.#texts.join(''));
    this.#texts = [];
    this.#characters = 0;
    await this.#stream.write(channels.stdout, bytes);
  }
}

type Peeked = Awaited<ReturnType<LineReader['next']>>;
interface Side {
  reader: LineReader;
  peeked: Peeked;
}

interface PumpOptions {
  test: LineTest;
  follow: boolean;
  closed: AbortSignal;
}

/** Merges streams by the times of their lines, and lets through what is wanted. */
class LinePump {
  readonly #sides: Side[];
  readonly #writer: LineWriter;
  readonly #options: PumpOptions;
  /** Bytes that were searched since something was told. */
  #quiet = 0;

  constructor(readers: readonly LineReader[], writer: LineWriter, options: PumpOptions) {
    this.#sides = readers.map((reader) => ({ reader, peeked: undefined }));
    this.#writer = writer;
    this.#options = options;
  }

  /** True when nothing more will ever come; false when that is all for now, or nobody listens. */
  async run(): Promise<boolean> {
    const { follow, closed } = this.#options;
    while (!closed.aborted) {
      const side = await this.#first();
      if (side?.peeked !== undefined) {
        await this.#give(side.reader.log.stream, side.peeked);
        side.peeked = undefined;
      } else if (this.#sides.every(({ reader }) => reader.isAtEnd)) return true;
      else if (!follow) return false;
      else {
        if (this.#quiet > 0) await this.#tellPlace();
        await this.#writer.flush();
        await this.#whenMore();
      }
    }
    return false;
  }

  /** The side whose next item comes first; what is missing is said before anything else. */
  async #first(): Promise<Side | undefined> {
    let first: Side | undefined;
    for (const side of this.#sides) {
      side.peeked ??= await side.reader.next({ rest: !this.#options.follow || side.reader.isAtEnd });
      if (side.peeked === undefined) continue;
      if (first?.peeked === undefined || timeOf(side.peeked) < timeOf(first.peeked)) first = side;
    }
    return first;
  }

  async #give(stream: StreamName, item: NonNullable<Peeked>): Promise<void> {
    if (item.kind === 'gap') {
      this.#quiet = 0;
      await this.#writer.write({ kind: 'gap', stream, ...item.gap });
      return;
    }
    const { line } = item;
    this.#quiet += line.next - line.offset;
    if (this.#options.test.accepts(line)) {
      this.#quiet = 0;
      await this.#writer.write(toLineItem(stream, line));
    } else if (this.#quiet >= quietBytes) await this.#tellPlace();
    const turn = this.#options.test.turn();
    if (turn !== undefined) await turn;
  }

  /** Where the client goes on from after a cut. What is peeked is not given out yet. */
  async #tellPlace(): Promise<void> {
    this.#quiet = 0;
    const at = { stdout: 0, stderr: 0 };
    for (const { reader, peeked } of this.#sides)
      at[reader.log.stream] = peeked?.kind === 'line' ? peeked.line.offset : reader.begins;
    await this.#writer.write({ kind: 'at', ...at });
  }

  #whenMore(): Promise<void> {
    const open = this.#sides.map(({ reader }) => reader).filter(({ isAtEnd }) => !isAtEnd);
    return whenMoreOf(open, this.#options.closed);
  }
}

function timeOf(item: NonNullable<Peeked>): number {
  return item.kind === 'line' ? item.line.timeMs : 0;
}
