/**
 * Text that was written to a terminal and is not drawn yet: of a flood of lines only the last ones are ever seen, and the
 * others need not be drawn. Text here is what changes nothing but the line that it stands on, and the pen: characters, CR, LF,
 * tabs, colours (SGR), and erasing within the line (EL). Nothing of it is answered, so nobody minds that it waits.
 */

const tab = 0x09;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;
const esc = 0x1b;
const sgr = 0x6d;
const el = 0x4b;
const noWords = new Uint32Array(0);

/** So much waits that most of it lies above the scroll-back. */
const maxWaitingBytes = 512 * 1024;
/** What each piece takes beside its bytes. */
const pieceBytes = 128;

export class WaitingText {
  leftOutBytes = 0;
  #parts: Uint8Array[] = [];
  #bytes = 0;
  readonly #maxBytes: number;

  constructor(maxBytes = maxWaitingBytes) {
    this.#maxBytes = maxBytes;
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  get isFull(): boolean {
    return this.#bytes >= this.#maxBytes;
  }

  /** `bytes` are text (`endOfText`), and nobody writes to them any more. */
  push(bytes: Uint8Array): void {
    this.#parts.push(bytes);
    this.#bytes += bytes.byteLength + pieceBytes;
  }

  /** All that waits, which waits no longer. */
  take(): Uint8Array {
    const all = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#bytes = 0;
    return all;
  }

  /**
   * Lets go of what is out of sight once the last `lines` lines are drawn below it, and returns the sequences in it that changed
   * the pen. It ends behind a CR LF: the cursor stands at the begin of a new line. Undefined: that is not half of what waits,
   * and all waits as before.
   */
  scroll(lines: number): Uint8Array | undefined {
    const all = this.take();
    const cut = cutAbove(all, lines);
    const isWorthIt = cut > all.byteLength / 2;
    this.push(isWorthIt ? new Uint8Array(all.subarray(cut)) : all);
    if (!isWorthIt) return undefined;
    this.leftOutBytes += cut;
    return penOf(all.subarray(0, cut));
  }
}

/** Where the text ends that `bytes` begin with. */
export function endOfText(bytes: Uint8Array): number {
  const to = bytes.byteLength;
  // Mostly there are four printable characters, which are looked at together.
  const before = -bytes.byteOffset & 3;
  const words = to < before ? noWords : new Uint32Array(bytes.buffer, bytes.byteOffset + before, (to - before) >> 2);
  let at = 0;
  while (at < to) {
    const byte = bytes[at]!;
    if (byte >= 0x20 ? byte < 0x7f : byte === lineFeed || byte === carriageReturn || byte === tab) {
      at++;
      if (((at - before) & 3) === 0 && at >= before) at = before + 4 * endOfPrintable(words, (at - before) >> 2);
    } else if (byte === esc) {
      const end = endOfLineSequence(bytes, at);
      if (end === undefined) return at;
      at = end;
    } else if (isPartOfCharacter(bytes, at)) at++;
    else return at;
  }
  return at;
}

/** Index of the first word from `at` on of which not all four bytes are 0x20 to 0x7e. */
function endOfPrintable(words: Uint32Array, at: number): number {
  let end = at;
  for (; end < words.length; end++) {
    const word = words[end]!;
    const isOutside = word | (word + 0x01010101) | ((word - 0x20202020) & ~word);
    if ((isOutside & 0x80808080) !== 0) break;
  }
  return end;
}

/** Behind SGR or EL at `at`; undefined: it is something else, or cut off. */
function endOfLineSequence(bytes: Uint8Array, at: number): number | undefined {
  if (bytes[at + 1] !== 0x5b) return undefined;
  let end = at + 2;
  // Digits, `:` and `;`.
  while (bytes[end]! >= 0x30 && bytes[end]! <= 0x3b) end++;
  return bytes[end] === sgr || bytes[end] === el ? end + 1 : undefined;
}

/** U+0080 to U+009F are controls; what is no UTF-8 draws at most something that is none. */
function isPartOfCharacter(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xc2 ? bytes[at + 1]! >= 0xa0 : bytes[at]! >= 0x80;
}

/** Behind the last CR LF that has so many LF behind it; 0: there is none. */
function cutAbove(bytes: Uint8Array, lines: number): number {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = bytes.byteLength;
  for (let seen = 0; at > 0; seen++) {
    at = buffer.lastIndexOf(lineFeed, at - 1);
    if (at <= 0) return 0;
    if (seen >= lines && bytes[at - 1] === carriageReturn) return at + 1;
  }
  return 0;
}

/** The sequences of text that change the pen, from the last one on that sets it back. */
function penOf(text: Uint8Array): Uint8Array {
  const buffer = Buffer.from(text.buffer, text.byteOffset, text.byteLength);
  const reset = Math.max(buffer.lastIndexOf('\x1b[m'), buffer.lastIndexOf('\x1b[0m'), 0);
  const parts: Buffer[] = [];
  for (let at = buffer.indexOf(esc, reset); at >= 0;) {
    const end = endOfLineSequence(buffer, at) ?? at + 1;
    if (buffer[end - 1] === sgr) parts.push(buffer.subarray(at, end));
    at = buffer.indexOf(esc, end);
  }
  return Buffer.concat(parts);
}
