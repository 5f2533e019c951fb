/** Both streams of a process as one, in the order in which the init read them: what was written first comes first. */
import type { ProcessSpool } from './process-spool.ts';
import type { StreamName } from './segment.ts';
import { type OutputItem, StreamReader } from './stream-reader.ts';
import { whenMoreOf } from './when-more.ts';

interface Side {
  reader: StreamReader;
  peeked: OutputItem | undefined;
}

export class MergedReader {
  readonly #sides: Side[];

  /** Reads the named streams from these offsets. `live`: a full log waits for this reader. */
  constructor(spool: ProcessSpool, from: Partial<Record<StreamName, number>>, { live }: { live: boolean }) {
    const names = (['stdout', 'stderr'] as const).filter((name) => from[name] !== undefined);
    this.#sides = names.map((name) => ({
      reader: new StreamReader(spool.log(name), from[name] ?? 0, { live }),
      peeked: undefined,
    }));
  }

  /** The next item, or undefined when nothing more is stored now. Bytes are valid until the following call. */
  async next(): Promise<OutputItem | undefined> {
    for (const side of this.#sides) side.peeked ??= await side.reader.next();
    const waiting = this.#sides.filter((side) => side.peeked !== undefined);
    const first = waiting.toSorted((a, b) => timeOf(a.peeked) - timeOf(b.peeked))[0];
    const item = first?.peeked;
    if (first !== undefined) first.peeked = undefined;
    return item;
  }

  /** True when everything was read and nothing more will come. */
  get isAtEnd(): boolean {
    return this.#sides.every(({ reader, peeked }) => {
      return peeked === undefined && reader.log.isFinal && reader.position >= reader.log.end;
    });
  }

  /** Where each stream ends that is read here, as far as is known now. */
  get ends(): Partial<Record<StreamName, number>> {
    return Object.fromEntries(this.#sides.map(({ reader }) => [reader.log.stream, reader.log.end]));
  }

  /** Resolves when there may be more, or nothing more will come, or `signal` aborts. */
  async whenMore(signal: AbortSignal): Promise<void> {
    const readers = this.#sides.map(({ reader }) => reader);
    const open = readers.filter(({ log, position }) => !(log.isFinal && position >= log.end));
    if (open.length > 0) await whenMoreOf(open, signal);
  }

  async close(): Promise<void> {
    await Promise.all(this.#sides.map(({ reader }) => reader.close()));
  }
}

/** What is missing is said before anything else. */
function timeOf(item: OutputItem | undefined): number {
  return item?.kind === 'bytes' ? item.timeMs : 0;
}
