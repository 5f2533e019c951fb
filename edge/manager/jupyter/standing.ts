/**
 * Where in the log of its kernel a client stands: what it was sent, what it is told anew, and where it goes on when it comes
 * back. It sends nothing.
 */
import { type LogPosition, type LogRecord, RecordReader } from '../../../schema/protocol/jupyter-framing.ts';
import type { Place } from './places.ts';
import type { Replay } from './replay.ts';

/** What a client was sent so long before it spoke, it has. */
const safeMs = 10_000;

export class Standing {
  /** Absent: the client can not come back. */
  readonly #place: Place | undefined;
  readonly #owner: object;
  #at: LogPosition | undefined;
  #replay: Replay | undefined;
  #isCleared = false;
  #reader = new RecordReader(0);
  #checkpoint: { atMs: number; sent: number } | undefined;

  /** Takes the place for `owner`. `back`: where a client goes on that was here before. */
  constructor(
    place: Place | undefined,
    owner: object,
    back: { after: LogPosition; replay: Replay | undefined } | undefined,
  ) {
    this.#place = place;
    this.#owner = owner;
    this.#at = back && { ...back.after };
    this.#replay = back?.replay;
    if (place) place.owner = owner;
  }

  /** Behind the last record that it has; undefined before there is a stream. */
  get at(): Readonly<LogPosition> | undefined {
    return this.#at;
  }

  /** What it is told anew. */
  get replay(): Replay | undefined {
    return this.#replay;
  }

  /** Where the next stream begins. A replay that was cut begins anew. */
  get asked(): LogPosition | undefined {
    return this.#at && { ...this.#at, ...(this.#replay ? { offset: this.#replay.from } : {}) };
  }

  /** The client has another socket since. */
  get isReplaced(): boolean {
    return this.#place !== undefined && this.#place.owner !== this.#owner;
  }

  /** The offset of the stream that comes next. */
  get next(): number {
    return this.#reader.next;
  }

  /** The records that are whole with these bytes of the stream. @throws FramingError */
  read(bytes: Uint8Array): Iterable<LogRecord> {
    return this.#reader.push(bytes);
  }

  /** A stream begins here. How much is missing before that; undefined: it begins where it was asked for. */
  begin(at: LogPosition): number | undefined {
    const { asked } = this;
    this.#at = { ...at };
    this.#reader = new RecordReader(at.offset);
    this.#isCleared = false;
    let missing: number | undefined;
    if (asked?.starts !== at.starts) this.#replay = undefined;
    else if (at.offset > asked.offset) {
      missing = at.offset - Math.max(asked.offset, this.#replay?.until ?? 0);
      this.#replay = this.#replay?.withoutBegin();
    }
    this.#keep();
    return missing;
  }

  /** It is told this anew, by a stream of its own. */
  tellAgain(replay: Replay): void {
    this.#replay = replay;
  }

  /** What is to be cleared before the first record of a replay, once: by then it is known that its begin is there. */
  takeCleared(): readonly Uint8Array[] {
    if (this.#isCleared || !this.#replay) return [];
    this.#isCleared = true;
    return this.#replay.cleared;
  }

  /** The stream goes on at `to`. How much of what it has not seen is missing. */
  skip(to: number): number {
    const missing = to - Math.max(this.#at?.offset ?? 0, this.#replay?.until ?? 0);
    if (!this.#isCleared) this.#replay = this.#replay?.withoutBegin();
    this.#reader.skip(to);
    if (this.#at) this.#at.offset = to;
    return missing;
  }

  /** It was sent the record that ends here. */
  sent(end: number): void {
    if (!this.#at) return;
    this.#at.offset = end;
    if (this.#replay && end >= this.#replay.until) this.#replay = undefined;
    this.#keep();
  }

  /** This start of the kernel is over: it goes on with the next one, from its begin. */
  startIsOver(): void {
    if (!this.#at) return;
    this.#at = { starts: this.#at.starts + 1, offset: 0 };
    this.#replay = undefined;
    this.#keep();
  }

  /** Its place in the log is not kept any more: it goes on with what comes. */
  lose(): void {
    this.#at = undefined;
    this.#replay = undefined;
  }

  /** The client speaks, so it has what it was sent a while ago. Before what it has all; undefined: nothing new. */
  proven(nowMs: number): number | undefined {
    const place = this.#place;
    if (!place || !this.#at || this.isReplaced) return undefined;
    if (this.#checkpoint && nowMs - this.#checkpoint.atMs < safeMs) return undefined;
    if (this.#checkpoint) place.safe = this.#checkpoint.sent;
    this.#checkpoint = { atMs: nowMs, sent: this.#at.offset };
    return place.safe;
  }

  #keep(): void {
    const place = this.#place;
    if (!place || !this.#at || this.isReplaced) return;
    if (place.starts !== this.#at.starts) place.safe = 0;
    place.starts = this.#at.starts;
    // Of a replay all was sent before.
    place.sent = this.#replay && place.sent > this.#at.offset ? place.sent : this.#at.offset;
  }
}
