/**
 * What a program writes to a terminal, made safe for the terminal of whoever looks at it. What draws and what sets modes
 * that full-screen programs need passes, byte for byte; what reaches beyond the screen (clipboard, titles, files, printers),
 * what makes the terminal type an answer, and what is not known is left out. `docs/security.md` says why. Pure.
 */
import { endOfString, nextToken, type Token } from './sequences.ts';

declare const TextDecoder: new (label: string) => { decode(bytes: Uint8Array): string };

export interface FilterOptions {
  /**
   * Questions of which the answer has a fixed form pass: where one terminal alone looks, and what it types goes to who asked.
   * Else the agent answers for all who look.
   */
  queries: boolean;
}

/** An OSC that passes is held until it ends; a longer one is left out. */
const maxHeldBytes = 4096;
const enq = 0x05;
const osc = 0x5d;
const ascii = new TextDecoder('latin1');
const nothing = new Uint8Array(0);

/** Hyperlinks lead to the web and nowhere else; closing one has no address. */
const link = /^8;[^;]*;(https?:\/\/[^\s]*)?$/i;
/** Marks of prompts and commands in the output. */
const mark = /^133;[A-D](;[\x20-\x7e]*)?$/;

/** Finals of CSI without prefix or intermediate that draw, move, and set modes of drawing. */
const drawing = new Set('@ABCDEFGHIJKLMPSTXZ`abdefgmrsu'.split(''));
/** ANSI modes that may be set: insert, new line, and none where a number is missing. Locking the keyboard is none of them. */
const ansiModes = new Set(['4', '20', '0', '']);
/** Of the operations on windows, those that keep and bring back the title that the viewer has. */
const titleStack = /^2[23](;[0-2])*$/;
const sizeQuery = /^1[468]$/;

/** By prefix and intermediates. Everything else is left out. */
const csiRules: Record<string, { pass?: RegExp; query?: RegExp }> = {
  '?': { pass: /^[hlrsJKc]$/, query: /^[nu]$/ },
  '?$': { query: /^p$/ },
  '>': { pass: /^[mun]$/, query: /^[cq]$/ },
  '<': { pass: /^u$/ },
  '=': { pass: /^u$/, query: /^c$/ },
  ' ': { pass: /^[q@A]$/ },
  '!': { pass: /^p$/ },
  '"': { pass: /^q$/ },
  $: { pass: /^[rtvxz{]$/, query: /^p$/ },
  '#': { pass: /^[pq{}]$/ },
};

/** Finals of `ESC x`: cursor, tabs, charsets in use, keypad, reset. */
const escapes = /^([6789=>cDEHMNO\\no|}~]|[()*+\-./][0-9A-Za-z<>="`%&]{1,2}|#[3-68])$/;
/** Controls U+0080 to U+009F that do the same: IND, NEL, HTS, RI, SS2, SS3, ST. */
const c1 = new Set([0x84, 0x85, 0x88, 0x8d, 0x8e, 0x8f, 0x9c]);

export class OutputFilter {
  readonly #options: FilterOptions;
  /** Bytes of a token that is not complete. */
  #held: Uint8Array = nothing;
  /** Within a string that is left out: what introduced it. */
  #skipping: number | undefined;
  #asked = 0;

  constructor(options: FilterOptions) {
    this.#options = options;
  }

  /** How many questions passed that make the terminal type an answer. */
  get asked(): number {
    return this.#asked;
  }

  /** What passes of the next bytes. They themselves are given back where all of them do. */
  push(chunk: Uint8Array): Uint8Array {
    const bytes = this.#held.length === 0 ? chunk : joined([this.#held, chunk]);
    const passed: [from: number, to: number][] = [];
    let at = this.#skip(bytes);
    while (at < bytes.length) {
      const token = nextToken(bytes, at);
      if (!token.complete) break;
      if (this.#passes(bytes, at, token)) add(passed, at, token.end);
      at = token.end;
    }
    this.#hold(bytes, at);
    return picked(bytes, passed);
  }

  /** Leaves a string that is left out; where the bytes go on behind it. */
  #skip(bytes: Uint8Array): number {
    if (this.#skipping === undefined) return 0;
    const { end, complete } = endOfString(bytes, 0, this.#skipping);
    if (complete) this.#skipping = undefined;
    return end;
  }

  #hold(bytes: Uint8Array, at: number): void {
    // The bytes are whoever's they came from: a copy is kept.
    this.#held = new Uint8Array(bytes.subarray(at));
    if (this.#skipping !== undefined || at === bytes.length) return;
    const token = nextToken(bytes, at);
    const { body, introducer } = token;
    if (introducer === undefined || body === undefined) {
      // A CSI without an end is none; its parameters alone would be text.
      if (this.#held.length > maxHeldBytes) this.#held = this.#held.subarray(0, 2);
      return;
    }
    if (introducer === osc && this.#held.length <= maxHeldBytes) return;
    this.#skipping = introducer;
    const { end } = endOfString(bytes, body, introducer);
    this.#held = new Uint8Array(bytes.subarray(end));
  }

  #passes(bytes: Uint8Array, at: number, { kind, end, body = at, introducer }: Token): boolean {
    switch (kind) {
      case 'text':
        return true;
      case 'control':
        return bytes[at] !== enq;
      case 'c1':
        return c1.has(bytes[at + 1]!);
      case 'escape':
        return escapes.test(plain(bytes, at + 1, end));
      case 'csi':
        return !bytes.subarray(at, body).includes(enq) && this.#passesCsi(plain(bytes, body, end));
      case 'string':
        return introducer === osc && end - at <= maxHeldBytes && passesOsc(bytes, at, body, end);
      case 'aborted':
      case 'stray':
        return false;
    }
  }

  #passesCsi(text: string): boolean {
    const parsed = /^([<=>?]?)([0-9:;]*)([\x20-\x2f]*)([\x40-\x7e])$/.exec(text);
    if (parsed === null) return false;
    const [, prefix = '', parameters = '', intermediates = '', final = ''] = parsed;
    const verdict =
      prefix + intermediates === '' ? plainCsi(parameters, final) : rule(csiRules[prefix + intermediates], final);
    if (verdict !== 'query') return verdict;
    if (this.#options.queries) this.#asked++;
    return this.#options.queries;
  }
}

function rule(found: { pass?: RegExp; query?: RegExp } | undefined, final: string): boolean | 'query' {
  if (found?.query?.test(final) === true) return 'query';
  return found?.pass?.test(final) === true;
}

function plainCsi(parameters: string, final: string): boolean | 'query' {
  if (drawing.has(final)) return true;
  switch (final) {
    case 'h':
    case 'l':
      return parameters.split(';').every((mode) => ansiModes.has(mode));
    case 't':
      return sizeQuery.test(parameters) ? 'query' : titleStack.test(parameters);
    case 'n':
    case 'c':
      return 'query';
    default:
      return false;
  }
}

function passesOsc(bytes: Uint8Array, at: number, body: number, end: number): boolean {
  if (bytes.subarray(at, body).includes(enq)) return false;
  const bytesOfEnd = bytes[end - 1] === 0x07 ? 1 : 2;
  const text = ascii.decode(bytes.subarray(body, end - bytesOfEnd));
  return /^[\x20-\x7e]*$/.test(text) && (link.test(text) || mark.test(text));
}

/** The text of a sequence without the controls within it; one that asks for an answer spoils it. */
function plain(bytes: Uint8Array, from: number, to: number): string {
  return ascii.decode(bytes.subarray(from, to)).replaceAll(/[\x00-\x04\x06-\x1f\x7f]/g, '');
}

function add(passed: [number, number][], from: number, to: number): void {
  const last = passed.at(-1);
  if (last !== undefined && last[1] === from) last[1] = to;
  else passed.push([from, to]);
}

function picked(bytes: Uint8Array, passed: readonly [number, number][]): Uint8Array {
  const [first] = passed;
  if (first === undefined) return nothing;
  if (passed.length === 1) return bytes.subarray(first[0], first[1]);
  return joined(passed.map(([from, to]) => bytes.subarray(from, to)));
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
