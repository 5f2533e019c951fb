/** Reads the log of a Jupyter kernel so that behind whatever is missing it goes on with a whole record (SPEC rule S17). */
import type { Gap } from '../output/record.ts';
import type { StreamLog } from '../output/stream-log.ts';
import { type OutputItem, StreamReader } from '../output/stream-reader.ts';
import { RecordFinder } from './records.ts';

type BytesItem = Extract<OutputItem, { kind: 'bytes' }>;

export class AlignedReader {
  readonly #log: StreamLog;
  readonly #reader: StreamReader;
  /** What is missing, until a record was found behind it. */
  #gap: Gap | undefined;
  #finder: RecordFinder | undefined;
  /** Begins with a record, and is told behind its gap. */
  #found: BytesItem | undefined;

  /**
   * `from` may be within a record, which is passed over then: where nothing was read yet behind a gap, whoever goes on does
   * so where that ended. `live`: a full log waits for this reader.
   */
  constructor(log: StreamLog, from: number, { live }: { live: boolean }) {
    this.#log = log;
    this.#reader = new StreamReader(log, from, { live });
    this.#miss({ from, to: from, reason: 'damaged' });
  }

  /** A full log does not wait for this reader, until `hold`. */
  letGo(): void {
    this.#reader.letGo();
  }

  hold(): void {
    this.#reader.hold();
  }

  close(): Promise<void> {
    return this.#reader.close();
  }

  /** True when everything was read and nothing more will come. */
  get isAtEnd(): boolean {
    return this.#log.isFinal && this.#reader.position >= this.#log.end && this.#found === undefined;
  }

  /** Resolves when there may be more, or nothing more will come, or `signal` aborts. */
  whenMore(signal: AbortSignal): Promise<void> {
    return this.#log.whenBeyond(this.#reader.position, signal);
  }

  /** The next item, or undefined when nothing more is stored now. Bytes are valid until the following call. */
  async next(): Promise<OutputItem | undefined> {
    const found = this.#found;
    this.#found = undefined;
    if (found !== undefined) return found;
    for (;;) {
      const item = await this.#reader.next();
      if (item === undefined) return this.#isOver() ?? this.#surelyMissing();
      if (item.kind === 'gap') this.#miss(item.gap);
      else if (this.#finder === undefined) return item;
      else {
        const begin = this.#finder.push(item.bytes);
        if (begin !== undefined) return this.#goOn({ ...item, ...begin });
      }
    }
  }

  /** What is missing before `to`, where nobody wants to read on and no record was found before it. */
  missingTo(to: number): OutputItem | undefined {
    return this.#taken(to);
  }

  #miss(gap: Gap): void {
    this.#gap = { ...gap, from: this.#gap?.from ?? gap.from };
    if (this.#finder === undefined) this.#finder = new RecordFinder(gap.to);
    else this.#finder.skip(gap.to);
  }

  #goOn(item: BytesItem): OutputItem {
    const gap = this.#taken(item.offset);
    if (gap === undefined) return item;
    this.#found = item;
    return gap;
  }

  /** Behind the gap no record begins any more. */
  #isOver(): OutputItem | undefined {
    return this.isAtEnd ? this.#taken(this.#log.end) : undefined;
  }

  /** Told before a record was found behind it: until the kernel says something, none may come for long. */
  #surelyMissing(): OutputItem | undefined {
    const gap = this.#gap;
    if (gap === undefined || gap.from >= gap.to) return undefined;
    this.#gap = { ...gap, from: gap.to };
    return { kind: 'gap', stream: this.#log.stream, gap };
  }

  /** What is missing before `to`, once. */
  #taken(to: number): OutputItem | undefined {
    const gap = this.#gap;
    this.#gap = undefined;
    this.#finder = undefined;
    return gap === undefined || gap.from === to
      ? undefined
      : { kind: 'gap', stream: this.#log.stream, gap: { ...gap, to } };
  }
}
