/**
 * From bytes of an output stream, as they come, to its lines. It holds at most one line, and of that a bounded part: a line
 * that is longer comes in pieces, so that no byte is left out. Agent and edge read by it alike. Pure.
 */

/** A line, or a piece of one. */
export interface RawLine {
  /** Of its first byte in the stream, and of the first behind it and its newline. */
  offset: number;
  next: number;
  /** When its first byte was written, Unix ms. */
  timeMs: number;
  /** Without the newline. Valid until more is pushed. */
  bytes: Uint8Array;
  /** The line goes on in the next piece. */
  isCut: boolean;
  /** It goes on with a line that was cut. */
  continues: boolean;
}

/** Which lines are wanted of many. */
export interface LineTest {
  accepts(line: RawLine): boolean;
  /** To be awaited behind a line, where there is something to wait for: others have their turn. */
  turn(): Promise<void> | undefined;
}

/** Longest piece of a line. */
export const maxLineBytes = 64 * 1024;
const newline = 10;
const nothing = new Uint8Array(0);

export class LineSplitter {
  #held: Uint8Array = nothing;
  #offset: number;
  #timeMs = 0;
  #continues = false;

  /** The first bytes are those at `from`. */
  constructor(from: number) {
    this.#offset = from;
  }

  /** Where the first line begins that has not come out yet. */
  get begins(): number {
    return this.#offset;
  }

  /** When the line, or the piece of one, was begun that is not whole yet; undefined: there is none. */
  get heldSinceMs(): number | undefined {
    return this.#held.byteLength > 0 ? this.#timeMs : undefined;
  }

  /** Takes bytes that follow those before, and gives the lines that are whole with them. */
  *push(offset: number, timeMs: number, bytes: Uint8Array): Generator<RawLine> {
    for (let at = 0; at < bytes.byteLength;) {
      if (this.#held.byteLength === 0) {
        this.#offset = offset + at;
        this.#timeMs = timeMs;
      }
      const found = bytes.indexOf(newline, at);
      const end = found < 0 ? bytes.byteLength : found;
      const room = maxLineBytes - this.#held.byteLength;
      if (end - at > room) {
        const taken = wholeCharacters(bytes, at, room);
        yield this.#finish(bytes.subarray(at, at + taken), offset + at + taken, true);
        at += taken;
      } else if (found < 0) {
        this.#held = concat(this.#held, bytes.subarray(at));
        return;
      } else {
        yield this.#finish(bytes.subarray(at, end), offset + end + 1, false);
        at = end + 1;
      }
    }
  }

  /** What is held, as the last line before the end or before missing bytes; undefined when it is nothing. */
  flush(): RawLine | undefined {
    if (this.#held.byteLength === 0) return undefined;
    return this.#finish(nothing, this.#offset + this.#held.byteLength, false);
  }

  /** Bytes are missing: goes on behind them. */
  skipTo(offset: number): void {
    this.#held = nothing;
    this.#offset = offset;
    this.#continues = false;
  }

  #finish(tail: Uint8Array, next: number, isCut: boolean): RawLine {
    const bytes = this.#held.byteLength === 0 ? tail : concat(this.#held, tail);
    const line = { offset: this.#offset, next, timeMs: this.#timeMs, bytes, isCut, continues: this.#continues };
    this.#held = nothing;
    this.#offset = next;
    this.#continues = isCut;
    return line;
  }
}

/** At most `room` bytes from `at` on, so that no character of UTF-8 is torn. */
function wholeCharacters(bytes: Uint8Array, at: number, room: number): number {
  let taken = room;
  while (taken > 0 && room - taken < 3 && (bytes[at + taken]! & 0xc0) === 0x80) taken--;
  return taken;
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const whole = new Uint8Array(a.byteLength + b.byteLength);
  whole.set(a);
  whole.set(b, a.byteLength);
  return whole;
}
