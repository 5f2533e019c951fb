/**
 * The regular expressions that people search output with, from text to a small program. A subset whose search takes linear
 * time: no look-around, no back references. Refused is whatever is not of it, in words. Pure.
 */

/** Why a pattern is not taken, worded for whoever typed it. */
export class PatternError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PatternError';
  }
}

/** Pairs [first, last] of code points, sorted, without overlap. */
export type Ranges = readonly (readonly [number, number])[];
export type Assertion = 'start' | 'end' | 'word' | 'notWord';
/** One instruction; `next`, `a` and `b` are indexes of others. */
export type Instruction =
  | { op: 'set'; ranges: Ranges; next: number }
  | { op: 'split'; a: number; b: number }
  | { op: 'assert'; what: Assertion; next: number }
  | { op: 'match' };

export interface Program {
  instructions: readonly Instruction[];
  start: number;
  /** The text that the pattern is, when nothing in it is special: then there are no instructions. */
  literal: string | undefined;
}

type Node =
  | { kind: 'set'; ranges: Ranges }
  | { kind: 'assert'; what: Assertion }
  | { kind: 'cat' | 'alt'; items: Node[] }
  | { kind: 'repeat'; node: Node; least: number; most: number };

export const maxPatternCharacters = 512;
/** Bounds what one character of a line may cost, and the memory of a search. */
const maxInstructions = 200;
const maxDepth = 50;
const lastPoint = 0x10_ff_ff;
/** Letters with a case of their own end below, but for some that nobody searches ranges of. */
const lastCased = 0x0530;

const digit: Ranges = [[48, 57]];
export const wordCharacters: Ranges = [
  [48, 57],
  [65, 90],
  [95, 95],
  [97, 122],
];
const space: Ranges = [
  [9, 13],
  [32, 32],
  [0xa0, 0xa0],
  [0x20_28, 0x20_29],
  [0xfe_ff, 0xfe_ff],
];
const classes: Readonly<Record<string, Ranges>> = {
  d: digit,
  D: negated(digit),
  w: wordCharacters,
  W: negated(wordCharacters),
  s: space,
  S: negated(space),
};
const controls: Readonly<Record<string, number>> = { t: 9, n: 10, v: 11, f: 12, r: 13, '0': 0 };

/** From text to a program. `ignoreCase`: for a search in text of lower case. @throws PatternError */
export function parsePattern(text: string, ignoreCase: boolean): Program {
  if (text === '') throw new PatternError('it is empty');
  if (text.length > maxPatternCharacters) throw new PatternError(`it has more than ${maxPatternCharacters} characters`);
  const node = new Parser(text, ignoreCase).parse();
  const literal = literalOf(node);
  return literal === undefined ? { ...assemble(node), literal } : { instructions: [], start: 0, literal };
}

class Parser {
  readonly #points: readonly string[];
  readonly #ignoreCase: boolean;
  #at = 0;
  #depth = 0;

  constructor(text: string, ignoreCase: boolean) {
    this.#points = Array.from(text);
    this.#ignoreCase = ignoreCase;
  }

  parse(): Node {
    const node = this.#alternatives();
    if (this.#at < this.#points.length) throw new PatternError('there is a ) without its (');
    return node;
  }

  get #next(): string | undefined {
    return this.#points[this.#at];
  }

  #takes(text: string): boolean {
    if (this.#next !== text) return false;
    this.#at++;
    return true;
  }

  #alternatives(): Node {
    const items = [this.#sequence()];
    while (this.#takes('|')) items.push(this.#sequence());
    return items.length === 1 ? items[0]! : { kind: 'alt', items };
  }

  #sequence(): Node {
    const items: Node[] = [];
    while (this.#next !== undefined && this.#next !== '|' && this.#next !== ')') items.push(this.#repeated());
    return items.length === 1 ? items[0]! : { kind: 'cat', items };
  }

  #repeated(): Node {
    const node = this.#atom();
    const times = this.#quantifier();
    if (times === undefined) return node;
    if (node.kind === 'assert') throw new PatternError(String.raw`^, $ and \b can not be repeated`);
    // Whether it takes as much or as little as it can is all the same to whether it is found.
    this.#takes('?');
    if (this.#quantifier() !== undefined) throw new PatternError('something is repeated twice: put it into ( )');
    return { kind: 'repeat', node, ...times };
  }

  #quantifier(): { least: number; most: number } | undefined {
    if (this.#takes('*')) return { least: 0, most: Number.POSITIVE_INFINITY };
    if (this.#takes('+')) return { least: 1, most: Number.POSITIVE_INFINITY };
    if (this.#takes('?')) return { least: 0, most: 1 };
    if (this.#next !== '{') return undefined;
    const [whole, least, comma, most] = /^\{([0-9]{1,4})(,?)([0-9]{0,4})\}/.exec(this.#ahead(12)) ?? [];
    // As everywhere: a brace that counts nothing is a brace.
    if (whole === undefined || (comma === '' && most !== '')) return undefined;
    this.#at += whole.length;
    const first = Number(least);
    const last = comma === '' ? first : most === '' ? Number.POSITIVE_INFINITY : Number(most);
    if (last < first) throw new PatternError(`${whole} counts backwards`);
    return { least: first, most: last };
  }

  #ahead(count: number): string {
    return this.#points.slice(this.#at, this.#at + count).join('');
  }

  #atom(): Node {
    const character = this.#points[this.#at++]!;
    switch (character) {
      case '(':
        return this.#group();
      case '[':
        return this.#class();
      case '.':
        return { kind: 'set', ranges: [[0, lastPoint]] };
      case '^':
        return { kind: 'assert', what: 'start' };
      case '$':
        return { kind: 'assert', what: 'end' };
      case '\\':
        return this.#escaped();
      case '*':
      case '+':
      case '?':
        throw new PatternError(`${character} has nothing before it to repeat: write \\${character} for the character`);
      default:
        return this.#set([pointOf(character)]);
    }
  }

  #group(): Node {
    if (++this.#depth > maxDepth) throw new PatternError(`it is nested more than ${maxDepth} deep`);
    if (this.#takes('?') && !this.#takes(':'))
      throw new PatternError('of groups there are ( ) and (?: ) only: look-around is not searched for');
    const node = this.#alternatives();
    if (!this.#takes(')')) throw new PatternError('there is a ( without its )');
    this.#depth--;
    // One thing from now on: it may be repeated whatever is in it.
    return { kind: 'cat', items: [node] };
  }

  #escaped(): Node {
    if (this.#takes('b')) return { kind: 'assert', what: 'word' };
    if (this.#takes('B')) return { kind: 'assert', what: 'notWord' };
    const { ranges } = this.#escape();
    return { kind: 'set', ranges: this.#folded(ranges) };
  }

  /** Behind a backslash. `isClass`: it is a set such as \d, not one character. */
  #escape(): { ranges: Ranges; isClass: boolean } {
    const character = this.#points[this.#at++];
    if (character === undefined) throw new PatternError('it ends in a backslash');
    const known = classes[character];
    if (known !== undefined) return { ranges: known, isClass: true };
    const point = controls[character] ?? this.#hexadecimal(character) ?? pointOf(character);
    return { ranges: [[point, point]], isClass: false };
  }

  #hexadecimal(character: string): number | undefined {
    const digits = character === 'x' ? 2 : character === 'u' ? 4 : undefined;
    if (digits !== undefined) {
      const text = this.#ahead(digits);
      if (text.length < digits || !/^[0-9a-fA-F]+$/.test(text))
        throw new PatternError(`\\${character} needs ${digits} hexadecimal digits behind it`);
      this.#at += digits;
      return Number.parseInt(text, 16);
    }
    if (/^[a-zA-Z1-9]$/.test(character)) throw new PatternError(`\\${character} is not searched for`);
    return undefined;
  }

  #class(): Node {
    if (this.#next === ':')
      throw new PatternError('classes such as [:alpha:] are not searched for: write \\d, \\w, a-z');
    const isNegated = this.#takes('^');
    const ranges: (readonly [number, number])[] = [];
    while (!this.#takes(']')) {
      if (this.#next === undefined) throw new PatternError('there is a [ without its ]');
      ranges.push(...this.#member());
    }
    if (ranges.length === 0) throw new PatternError('[] is empty');
    const folded = this.#folded(joined(ranges));
    return { kind: 'set', ranges: isNegated ? negated(folded) : folded };
  }

  #member(): Ranges {
    const { ranges, isClass } = this.#classCharacter();
    if (isClass || this.#next !== '-' || this.#points[this.#at + 1] === ']') return ranges;
    this.#at++;
    const to = this.#classCharacter();
    const [from, last] = [ranges[0]![0], to.ranges[0]![0]];
    if (to.isClass || last < from) throw new PatternError('a range in [ ] goes backwards');
    return [[from, last]];
  }

  #classCharacter(): { ranges: Ranges; isClass: boolean } {
    const character = this.#points[this.#at++];
    if (character === undefined) throw new PatternError('there is a [ without its ]');
    if (character === '[' && this.#next === ':')
      throw new PatternError('classes such as [:alpha:] are not searched for: write \\d, \\w, a-z');
    if (character === '\\') return this.#escape();
    const point = pointOf(character);
    return { ranges: [[point, point]], isClass: false };
  }

  #set(points: readonly number[]): Node {
    return { kind: 'set', ranges: this.#folded(points.map((point) => [point, point] as const)) };
  }

  /** What is found in text of lower case. */
  #folded(ranges: Ranges): Ranges {
    if (!this.#ignoreCase) return ranges;
    const lower: (readonly [number, number])[] = [];
    for (const [first, last] of ranges)
      for (let point = first; point <= Math.min(last, Math.max(first, lastCased)); point++) {
        const small = String.fromCodePoint(point).toLowerCase();
        if (Array.from(small).length === 1) lower.push([pointOf(small), pointOf(small)]);
      }
    return joined([...ranges, ...lower]);
  }
}

function pointOf(character: string): number {
  return character.codePointAt(0)!;
}

function joined(ranges: Ranges): Ranges {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const out: [number, number][] = [];
  for (const [first, last] of sorted) {
    const before = out.at(-1);
    if (before !== undefined && first <= before[1] + 1) before[1] = Math.max(before[1], last);
    else out.push([first, last]);
  }
  return out;
}

function negated(ranges: Ranges): Ranges {
  const out: [number, number][] = [];
  let from = 0;
  for (const [first, last] of joined(ranges)) {
    if (first > from) out.push([from, first - 1]);
    from = last + 1;
  }
  if (from <= lastPoint) out.push([from, lastPoint]);
  return out;
}

function assemble(node: Node): Omit<Program, 'literal'> {
  const instructions: Instruction[] = [{ op: 'match' }];
  const add = (instruction: Instruction): number => {
    if (instructions.length >= maxInstructions)
      throw new PatternError('it is too large when its counts are written out');
    return instructions.push(instruction) - 1;
  };
  const put = (each: Node, next: number): number => {
    switch (each.kind) {
      case 'set':
        return add({ op: 'set', ranges: each.ranges, next });
      case 'assert':
        return add({ op: 'assert', what: each.what, next });
      case 'cat':
        return each.items.reduceRight((behind, item) => put(item, behind), next);
      case 'alt':
        return each.items
          .map((item) => put(item, next))
          .reduceRight((behind, start) => add({ op: 'split', a: start, b: behind }));
      case 'repeat':
        return repeat(each, next);
    }
  };
  const repeat = ({ node: body, least, most }: Extract<Node, { kind: 'repeat' }>, next: number): number => {
    let start = next;
    if (most === Number.POSITIVE_INFINITY) {
      start = add({ op: 'split', a: next, b: next });
      const loop = start;
      instructions[loop] = { op: 'split', a: put(body, loop), b: next };
    } else for (let count = least; count < most; count++) start = add({ op: 'split', a: put(body, start), b: next });
    for (let count = 0; count < least; count++) {
      const behind = start;
      start = put(body, behind);
      // It takes nothing: more of it is no more, and would be written out without ever being too large.
      if (start === behind) break;
    }
    return start;
  };
  return { start: put(node, 0), instructions };
}

function literalOf(node: Node): string | undefined {
  const items = node.kind === 'cat' ? node.items : [node];
  let text = '';
  for (const item of items) {
    const only = item.kind === 'set' && item.ranges.length === 1 ? item.ranges[0] : undefined;
    if (only === undefined || only[0] !== only[1]) return undefined;
    text += String.fromCodePoint(only[0]);
  }
  return text === '' ? undefined : text;
}
