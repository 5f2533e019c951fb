/**
 * Outputs of which every byte follows from its offset, so that what was read anywhere, over any number of cuts and gaps,
 * can be judged without what came before. Pure.
 */

export type TapeKind = 'lines' | 'blocks';

const lineBytes = 16;
const blockBytes = 1024;

/** What prints the tape, for `sh` of busybox; `everyMs` between two pieces. `between` runs after each piece. */
export function tapeScript(kind: TapeKind, everyMs: number, between = ':'): string {
  const pause = `usleep ${everyMs * 1000}`;
  const loop = (print: string): string => `i=0; while :; do ${print}; ${between}; i=$((i+1)); ${pause}; done`;
  if (kind === 'lines') return loop(`printf '%015d\\n' $i`);
  // Every value of a byte, over and over; made anew until the disk had room for all of it.
  const octal = '\\\\$((b/64))$((b/8%8))$((b%8))';
  const all = `b=0; while [ $b -lt 256 ]; do printf "${octal}"; b=$((b+1)); done`;
  const make = `(${all}) > all; cat all all all all | head -c ${blockBytes - lineBytes} > block`;
  return `until ${make}; [ "$(wc -c < block)" = ${blockBytes - lineBytes} ]; do sleep 1; done 2>/dev/null; ${loop(
    `printf '%015d\\n' $i; cat block`,
  )}`;
}

/** What a tape has at an offset. */
export function tapeBytes(kind: TapeKind, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  const pieceBytes = kind === 'lines' ? lineBytes : blockBytes;
  for (let at = 0; at < length;) {
    const piece = Math.floor((offset + at) / pieceBytes);
    const whole = pieceOf(kind, piece);
    const from = offset + at - piece * pieceBytes;
    at += whole.copy(bytes, at, from);
  }
  return bytes;
}

/** The number of the piece that is under way at an offset. */
export function tapePiece(kind: TapeKind, offset: number): number {
  return Math.floor(offset / (kind === 'lines' ? lineBytes : blockBytes));
}

function pieceOf(kind: TapeKind, piece: number): Buffer {
  const line = Buffer.from(`${String(piece).padStart(lineBytes - 1, '0')}\n`);
  if (kind === 'lines') return line;
  return Buffer.concat([line, Buffer.from(Uint8Array.from({ length: blockBytes - lineBytes }, (_, at) => at % 256))]);
}

/** [I5] Where bytes read at an offset are not the tape's; undefined when they are. */
export function tapeFault(kind: TapeKind, offset: number, bytes: Uint8Array): string | undefined {
  const expected = tapeBytes(kind, offset, bytes.length);
  if (expected.equals(bytes)) return undefined;
  const at = expected.findIndex((byte, index) => byte !== bytes[index]);
  const show = (source: Uint8Array): string => JSON.stringify(Buffer.from(source.subarray(at, at + 24)).toString());
  return `[I5] byte ${offset + at} begins ${show(Buffer.from(bytes))} instead of ${show(expected)}`;
}
