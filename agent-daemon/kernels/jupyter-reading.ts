/**
 * Reads the log of one start of a Jupyter kernel while it is written, for the agent itself: what it hears it tells at once
 * and does not hold. A full log waits for clients, not for this; only while a run is under way it does, and goes on with it.
 */
import type { ProcessExit } from '../output/process-record.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import { type Insistence, insist } from '../deadline.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import type { OutputItem } from '../output/stream-reader.ts';
import type { Bell } from '../bell.ts';
import { LastWords } from './last-words.ts';
import { type LogRecord, RecordReader } from './records.ts';

/** The kernel. */
export interface ReadingOwner {
  spools: Spools;
  /** Rings when all was read, and after each read while a run is under way. */
  bell: Bell;
  hear(record: LogRecord): void;
  /** Bytes before `at` are missing. */
  missed(at: number): void;
  /** A run is under way. */
  isBusy(): boolean;
}

export class JupyterReading {
  readonly #owner: ReadingOwner;
  readonly #ref: SpoolRef;
  readonly #reader: RecordReader;
  readonly #words = new LastWords();
  /** While it is read. */
  #spool: ProcessSpool | undefined;
  #seen: number;
  #readTo: number;
  #stderrTo = 0;
  #letGo: (() => void) | undefined;
  #isCaughtUp = false;

  /** `from`: where the log is read from; 0 is the begin of a record, anywhere else may be within one. */
  constructor(ref: SpoolRef, from: number, owner: ReadingOwner) {
    this.#ref = ref;
    this.#owner = owner;
    this.#reader = new RecordReader(from, { isLost: from > 0 });
    this.#seen = from;
    this.#readTo = from;
  }

  /** Where the next record begins, as far as the log was read; undefined behind a gap, until one was found. */
  get boundary(): number | undefined {
    return this.#reader.boundary;
  }

  /** All records before this were heard. */
  get seen(): number {
    return this.#seen;
  }

  /** Bytes before this were read, of a record that is not whole too. */
  get readTo(): number {
    return this.#readTo;
  }

  /** The last that the kernel said. */
  get lastWords(): string {
    return this.#words.text;
  }

  /** Resolves with the end of the process, when all was heard; undefined when `signal` aborted, or there is no log. Where the disk fails, it waits. */
  read(insistence: Insistence): Promise<ProcessExit | undefined> {
    return insist(insistence, () => this.#readOn(insistence.signal));
  }

  async #readOn(signal: AbortSignal): Promise<ProcessExit | undefined> {
    const kept = await this.#owner.spools.read(this.#ref);
    if (kept === undefined) return undefined;
    this.#spool = kept.spool;
    this.hold();
    const from = { stdout: this.#readTo, stderr: kept.spool.log('stderr').keptFrom(this.#stderrTo) };
    const reader = new MergedReader(kept.spool, from, { live: false });
    try {
      while (!signal.aborted) {
        const item = await reader.next();
        if (item !== undefined) this.#take(item);
        else {
          this.#isCaughtUp = true;
          if (reader.isAtEnd) return kept.spool.record.exit;
          this.#owner.bell.ring();
          await reader.whenMore(signal);
        }
      }
      return undefined;
    } finally {
      this.#stopHolding();
      await reader.close();
      await kept.done();
    }
  }

  /** All that was there at first was heard. */
  get isCaughtUp(): boolean {
    return this.#isCaughtUp;
  }

  /** Holds the log while a run is under way: its end must be heard, whoever else reads or does not. */
  hold(): void {
    const log = this.#spool?.log('stdout');
    if (log === undefined || !this.#owner.isBusy()) return this.#stopHolding();
    const readTo = () => this.#readTo;
    this.#letGo ??= log.follow({
      get position() {
        return readTo();
      },
    });
    log.followerMoved();
  }

  /** What nobody reads keeps the log from going on no more, until the returned function is called. */
  flow(): () => void {
    const log = this.#spool?.log('stdout');
    const stop = log?.follow({ position: Number.POSITIVE_INFINITY });
    log?.followerMoved();
    return stop ?? (() => undefined);
  }

  /** One published `stream` message, for the last words. */
  published(content: Buffer | undefined): void {
    this.#words.published(content);
  }

  #take(item: OutputItem): void {
    if (item.stream === 'stderr') {
      if (item.kind === 'bytes') this.#words.wrote(item.bytes);
      this.#stderrTo = item.kind === 'gap' ? item.gap.to : item.offset + item.bytes.byteLength;
      return;
    }
    if (item.kind === 'gap') {
      this.#reader.skip(item.gap.to);
      this.#owner.missed(item.gap.to);
      this.#readTo = item.gap.to;
    } else {
      for (const record of this.#reader.push(item.bytes)) this.#owner.hear(record);
      this.#readTo = item.offset + item.bytes.byteLength;
    }
    this.#seen = this.#reader.boundary ?? this.#seen;
    this.hold();
    if (this.#owner.isBusy()) this.#owner.bell.ring();
  }

  #stopHolding(): void {
    this.#letGo?.();
    this.#letGo = undefined;
  }
}
