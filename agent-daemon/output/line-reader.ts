/** A stream's log line by line while it is written, with what is missing in its place. */
import { LineSplitter, type RawLine } from '../../schema/log/lines.ts';
import { type TailSource, toBlocks } from '../../schema/log/tail.ts';
import type { Gap } from './record.ts';
import type { StreamLog } from './stream-log.ts';
import { StreamReader } from './stream-reader.ts';

export type LineOrGap = { kind: 'line'; line: RawLine } | { kind: 'gap'; gap: Gap };

export class LineReader {
  readonly #reader: StreamReader;
  readonly #splitter: LineSplitter;
  #lines: Iterator<RawLine> | undefined;
  #gap: Gap | undefined;

  /** A `live` reader is one that a full log waits for. */
  constructor(log: StreamLog, from: number, { live }: { live: boolean }) {
    this.#reader = new StreamReader(log, from, { live });
    this.#splitter = new LineSplitter(from);
  }

  get log(): StreamLog {
    return this.#reader.log;
  }

  /** Bytes before were read from the disk. */
  get position(): number {
    return this.#reader.position;
  }

  /** Where the first line begins that was not given out. */
  get begins(): number {
    return this.#splitter.begins;
  }

  /** Nothing more will come but what is held. */
  get isAtEnd(): boolean {
    return this.log.isFinal && this.position >= this.log.end;
  }

  /**
   * The next line, or undefined when no whole one is stored now. `rest`: what is kept ends here, so that a last line needs
   * no newline. Bytes of a line are valid until the following call.
   */
  async next({ rest }: { rest: boolean }): Promise<LineOrGap | undefined> {
    for (;;) {
      const line = this.#lines?.next();
      if (line?.done === false) return { kind: 'line', line: line.value };
      this.#lines = undefined;
      if (this.#gap !== undefined) return this.#giveGap(this.#gap);
      const item = await this.#reader.next();
      if (item?.kind === 'bytes') this.#lines = this.#splitter.push(item.offset, item.timeMs, item.bytes);
      else {
        const last = item !== undefined || rest ? this.#splitter.flush() : undefined;
        this.#gap = item?.gap;
        if (last !== undefined) return { kind: 'line', line: last };
        if (item === undefined) return undefined;
      }
    }
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  #giveGap(gap: Gap): LineOrGap {
    this.#gap = undefined;
    this.#splitter.skipTo(gap.to);
    return { kind: 'gap', gap };
  }
}

/** The log as a source of last lines: its files are the parts. */
export function tailSourceOf(log: StreamLog): TailSource {
  const { stream, end } = log;
  return {
    stream,
    end,
    blocks: toBlocks(log.segments.map((segment) => ({ start: segment.start, end: Math.min(segment.end, end) }))),
    read: (from) => readUntilGap(log, from),
  };
}

async function* readUntilGap(log: StreamLog, from: number) {
  const reader = new StreamReader(log, from, { live: false });
  try {
    for (let item = await reader.next(); item?.kind === 'bytes'; item = await reader.next()) yield item;
  } finally {
    await reader.close();
  }
}

/**
 * Where to begin to read for what was written since a time. The times at which the log's files begin are its index: at most
 * one file is read for nothing.
 */
export function offsetSince(log: StreamLog, sinceMs: number): number {
  const { segments } = log;
  const later = segments.findIndex(({ firstTimeMs }) => firstTimeMs >= sinceMs);
  const first = segments[later < 0 ? segments.length - 1 : Math.max(0, later - 1)];
  // From the very beginning what is missing before it is told as well.
  return first === undefined || first === segments[0] ? 0 : first.start;
}
