/**
 * Cuts what a program writes to a terminal into tokens: text, controls, and sequences of ECMA-48 and DEC as terminals read
 * them in UTF-8. Pure. Who filters output and who looks for a place to cut it both stand on this.
 */

/**
 * `text`: printable characters, and bytes from 0xa0 on that are no UTF-8. `stray`: one byte 0x80 to 0x9f that belongs to no
 * character, which a terminal that is not in UTF-8 takes for a control. `c1`: a control U+0080 to U+009F that introduces
 * nothing. `string`: OSC, DCS, SOS, PM or APC with its end. `aborted`: a sequence that something else came into.
 */
export type TokenKind = 'text' | 'control' | 'stray' | 'c1' | 'escape' | 'csi' | 'string' | 'aborted';

export interface Token {
  kind: TokenKind;
  /** Behind its last byte. */
  end: number;
  /** False: the bytes end within it, and more may belong to it. */
  complete: boolean;
  /** Of a CSI or a string: behind what introduces it. */
  body?: number;
  /** Of a string: the final of the `ESC x` that introduces it, in whichever form it came. */
  introducer?: number;
}

const esc = 0x1b;
const bel = 0x07;
const can = 0x18;
const sub = 0x1a;
/** Finals of `ESC x`, and controls U+0080 + x - 0x40, that introduce a string: P, X, ], ^, _. */
const stringFinals = new Set([0x50, 0x58, 0x5d, 0x5e, 0x5f]);
const osc = 0x5d;

/** The token that begins at `at`, which lies before the end of `bytes`. */
export function nextToken(bytes: Uint8Array, at: number): Token {
  const byte = bytes[at]!;
  if (byte === esc) return escapeToken(bytes, at);
  if (byte < 0x20 || byte === 0x7f) return { kind: 'control', end: at + 1, complete: true };
  if (byte < 0x80) return textToken(bytes, at);
  const length = characterLength(bytes, at);
  if (length === 'cut') return { kind: 'text', end: bytes.length, complete: false };
  if (length === 'none') return byte < 0xa0 ? { kind: 'stray', end: at + 1, complete: true } : textToken(bytes, at);
  if (byte === 0xc2 && bytes[at + 1]! < 0xa0) return c1Token(bytes, at);
  return textToken(bytes, at);
}

/**
 * Where a string that `introducer` began ends in `bytes`, looked for from `at` on. Not complete: bytes from `end` on, at most
 * one, may be the begin of its end.
 */
export function endOfString(
  bytes: Uint8Array,
  at: number,
  introducer: number,
): { end: number; complete: boolean; aborted: boolean } {
  for (let i = at; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (byte === bel && introducer === osc) return { end: i + 1, complete: true, aborted: false };
    if (byte === can || byte === sub) return { end: i, complete: true, aborted: true };
    if (byte !== esc && byte !== 0xc2) continue;
    if (i + 1 === bytes.length) return { end: i, complete: false, aborted: false };
    if (byte === esc && bytes[i + 1] === 0x5c) return { end: i + 2, complete: true, aborted: false };
    if (byte === esc) return { end: i, complete: true, aborted: true };
    if (bytes[i + 1] === 0x9c) return { end: i + 2, complete: true, aborted: false };
  }
  return { end: bytes.length, complete: false, aborted: false };
}

function textToken(bytes: Uint8Array, at: number): Token {
  let i = at;
  while (i < bytes.length) {
    const byte = bytes[i]!;
    if (byte < 0x20 || byte === 0x7f) break;
    if (byte < 0x80) {
      i++;
      continue;
    }
    const length = characterLength(bytes, i);
    if (length === 'cut') break;
    if (length === 'none') {
      if (byte < 0xa0) break;
      i++;
      continue;
    }
    if (byte === 0xc2 && bytes[i + 1]! < 0xa0) break;
    i += length;
  }
  return { kind: 'text', end: i, complete: true };
}

/** Bytes of the well-formed character at `at` (Unicode, table 3-7); `cut`: the bytes end before it does. */
function characterLength(bytes: Uint8Array, at: number): number | 'cut' | 'none' {
  const lead = bytes[at]!;
  if (lead < 0xc2 || lead > 0xf4) return 'none';
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  for (let i = 1; i < length; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return 'cut';
    const least = i > 1 ? 0x80 : lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
    const most = i > 1 ? 0xbf : lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
    if (byte < least || byte > most) return 'none';
  }
  return length;
}

function c1Token(bytes: Uint8Array, at: number): Token {
  const final = bytes[at + 1]! - 0x40;
  if (final === 0x5b) return csiToken(bytes, at + 2);
  if (stringFinals.has(final)) return stringToken(bytes, at + 2, final);
  return { kind: 'c1', end: at + 2, complete: true };
}

/** Controls within a sequence are carried out by a terminal, and the sequence goes on. */
function isWithin(byte: number): boolean {
  return (byte < 0x20 && byte !== esc && byte !== can && byte !== sub) || byte === 0x7f;
}

function escapeToken(bytes: Uint8Array, at: number): Token {
  let hasIntermediate = false;
  for (let i = at + 1; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (isWithin(byte)) continue;
    if (byte >= 0x20 && byte < 0x30) hasIntermediate = true;
    else if (byte < 0x20 || byte > 0x7e) return { kind: 'aborted', end: i, complete: true };
    else if (!hasIntermediate && byte === 0x5b) return csiToken(bytes, i + 1);
    else if (!hasIntermediate && stringFinals.has(byte)) return stringToken(bytes, i + 1, byte);
    else return { kind: 'escape', end: i + 1, complete: true };
  }
  return { kind: 'escape', end: bytes.length, complete: false };
}

function csiToken(bytes: Uint8Array, body: number): Token {
  for (let i = body; i < bytes.length; i++) {
    const byte = bytes[i]!;
    if (isWithin(byte)) continue;
    if (byte < 0x20 || byte > 0x7e) return { kind: 'aborted', end: i, complete: true };
    if (byte >= 0x40) return { kind: 'csi', end: i + 1, complete: true, body };
  }
  return { kind: 'csi', end: bytes.length, complete: false, body };
}

function stringToken(bytes: Uint8Array, body: number, introducer: number): Token {
  const { end, complete, aborted } = endOfString(bytes, body, introducer);
  if (!complete) return { kind: 'string', end: bytes.length, complete: false, body, introducer };
  return { kind: aborted ? 'aborted' : 'string', end, complete: true, body, introducer };
}
