/**
 * Searches text for a pattern in time linear in the text, whatever the pattern and the text are: a set of places in the
 * program is carried over the text, and sets that were met before are looked up. The engine of the language backtracks, and
 * what a person types must not be able to hold an agent or the edge. Pure.
 */
import { type Assertion, type Instruction, parsePattern, type Ranges, wordCharacters } from './pattern-parse.ts';

/** What stands before or behind a place. */
type Side = 'edge' | 'word' | 'other';

interface State {
  /** Instructions to go on from, before assertions are looked at; in their order. */
  places: readonly number[];
  before: Side;
  /** By class of the next character. */
  steps: (State | 'found' | undefined)[];
  /** Whether it is found when the text ends here. */
  atEnd: boolean | undefined;
}

const sides: readonly Side[] = ['edge', 'word', 'other'];
/** Places and steps of all states: what is remembered is bounded, and forgotten as a whole. */
const maxRemembered = 200_000;

export class Pattern {
  readonly #ignoreCase: boolean;
  readonly #literal: string | undefined;
  readonly #instructions: readonly Instruction[];
  readonly #start: number;
  /** First code points of all classes but the first. */
  readonly #bounds: readonly number[];
  readonly #ascii = new Uint16Array(128);
  readonly #isWord: readonly boolean[];
  /** For each instruction that takes a character: which classes. */
  readonly #takes: readonly (readonly boolean[] | undefined)[];
  #states = new Map<string, State>();
  #remembered = 0;
  #first: State;
  #cost = 0;

  /** @throws PatternError */
  constructor(text: string, { ignoreCase }: { ignoreCase: boolean }) {
    const { instructions, start, literal } = parsePattern(text, ignoreCase);
    this.#ignoreCase = ignoreCase;
    this.#literal = literal;
    this.#instructions = instructions;
    this.#start = start;
    this.#bounds = boundsOf(instructions);
    for (let point = 0; point < 128; point++) this.#ascii[point] = this.#search(point);
    const firsts = [0, ...this.#bounds];
    this.#isWord = firsts.map((point) => includes(wordCharacters, point));
    // What is counted is written out with the same ranges each time.
    const takes = new Map<Ranges, readonly boolean[]>();
    for (const each of instructions)
      if (each.op === 'set' && !takes.has(each.ranges))
        takes.set(
          each.ranges,
          firsts.map((point) => includes(each.ranges, point)),
        );
    this.#takes = instructions.map((each) => (each.op === 'set' ? takes.get(each.ranges) : undefined));
    this.#first = this.#state([], 'edge');
  }

  /** What searching has taken beyond a look at each character: instructions, where a set of places was met first. */
  get cost(): number {
    return this.#cost;
  }

  /** True when it is found anywhere in `text`. */
  test(text: string): boolean {
    const searched = this.#ignoreCase ? text.toLowerCase() : text;
    if (this.#literal !== undefined) return searched.includes(this.#literal);
    let state = this.#first;
    for (let at = 0; at < searched.length; at++) {
      const point = searched.codePointAt(at)!;
      if (point > 0xff_ff) at++;
      const kind = point < 128 ? this.#ascii[point]! : this.#search(point);
      const step = (state.steps[kind] ??= this.#step(state, kind));
      if (step === 'found') return true;
      state = step;
    }
    return (state.atEnd ??= this.#reached(state, 'edge').isFound);
  }

  #search(point: number): number {
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#bounds[middle]! <= point) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #step(state: State, kind: number): State | 'found' {
    const { isFound, takers } = this.#reached(state, this.#isWord[kind]! ? 'word' : 'other');
    if (isFound) return 'found';
    const isPlace = new Uint8Array(this.#instructions.length);
    for (const taker of takers) {
      const instruction = this.#instructions[taker]!;
      if (instruction.op === 'set' && this.#takes[taker]![kind]!) isPlace[instruction.next] = 1;
    }
    const places: number[] = [];
    for (let at = isPlace.indexOf(1); at >= 0; at = isPlace.indexOf(1, at + 1)) places.push(at);
    return this.#state(places, this.#isWord[kind]! ? 'word' : 'other');
  }

  /** Where the places lead without a character, when `behind` is next. A search may begin at every place. */
  #reached({ places, before }: State, behind: Side): { isFound: boolean; takers: number[] } {
    this.#cost += this.#instructions.length;
    const seen = new Uint8Array(this.#instructions.length);
    const stack = [...places, this.#start];
    const takers: number[] = [];
    while (stack.length > 0) {
      const at = stack.pop()!;
      if (seen[at] === 1) continue;
      seen[at] = 1;
      const instruction = this.#instructions[at]!;
      if (instruction.op === 'match') return { isFound: true, takers };
      if (instruction.op === 'set') takers.push(at);
      else if (instruction.op === 'split') stack.push(instruction.a, instruction.b);
      else if (holds(instruction.what, before, behind)) stack.push(instruction.next);
    }
    return { isFound: false, takers };
  }

  #state(places: readonly number[], before: Side): State {
    const key = String.fromCharCode(sides.indexOf(before), ...places);
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    const state: State = { places, before, steps: [], atEnd: undefined };
    this.#remembered += places.length + this.#bounds.length + 1;
    if (this.#remembered > maxRemembered) {
      this.#states = new Map();
      this.#remembered = 0;
      // What it led to is forgotten with the rest.
      this.#first = { ...this.#first, steps: [] };
    }
    this.#states.set(key, state);
    return state;
  }
}

function holds(what: Assertion, before: Side, behind: Side): boolean {
  if (what === 'start') return before === 'edge';
  if (what === 'end') return behind === 'edge';
  const isBetween = (before === 'word') !== (behind === 'word');
  return what === 'word' ? isBetween : !isBetween;
}

function boundsOf(instructions: readonly Instruction[]): number[] {
  const bounds = new Set<number>();
  const sets = instructions.flatMap((each) => (each.op === 'set' ? [each.ranges] : []));
  for (const ranges of [...sets, wordCharacters]) for (const [first, last] of ranges) bounds.add(first).add(last + 1);
  bounds.delete(0);
  return [...bounds].sort((a, b) => a - b);
}

function includes(ranges: Ranges, point: number): boolean {
  return ranges.some(([first, last]) => first <= point && point <= last);
}
