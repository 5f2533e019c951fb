/** Redis' glob patterns (`*`, `?`, `[a-z]`, `[^x]`, `\` escapes) over binary strings, in time linear in text times pattern. Pure. */

type Token = '*' | ((character: string) => boolean);

/** Compiles a pattern to a test. Every pattern is valid, an open bracket reaches to the end. */
export function glob(pattern: string): (text: string) => boolean {
  const tokens = [...tokenize(pattern)];
  return (text) => matches(tokens, text);
}

function* tokenize(pattern: string): Generator<Token> {
  let at = 0;
  while (at < pattern.length) {
    const character = pattern[at] ?? '';
    at += 1;
    if (character === '*') yield '*';
    else if (character === '?') yield () => true;
    else if (character === '[') {
      const [test, next] = bracket(pattern, at);
      at = next;
      yield test;
    } else if (character === '\\' && at < pattern.length) {
      const escaped = pattern[at];
      at += 1;
      yield (candidate) => candidate === escaped;
    } else yield (candidate) => candidate === character;
  }
}

/** Reads `^?` and ranges up to `]`; answers the test and the position behind it. */
function bracket(pattern: string, from: number): [test: (character: string) => boolean, next: number] {
  let at = from;
  const negated = pattern[at] === '^';
  if (negated) at += 1;
  const ranges: [low: string, high: string][] = [];
  while (at < pattern.length && pattern[at] !== ']') {
    if (pattern[at] === '\\' && at + 1 < pattern.length) at += 1;
    const low = pattern[at] ?? '';
    const isRange = pattern[at + 1] === '-' && at + 2 < pattern.length;
    const high = isRange ? (pattern[at + 2] ?? '') : low;
    ranges.push(low <= high ? [low, high] : [high, low]);
    at += isRange ? 3 : 1;
  }
  const inside = (character: string) => ranges.some(([low, high]) => character >= low && character <= high);
  return [(character) => inside(character) !== negated, at + 1];
}

/** Greedy, with one way back: to the last star. */
function matches(tokens: readonly Token[], text: string): boolean {
  let token = 0;
  let star = -1;
  let resume = 0;
  let at = 0;
  while (at < text.length) {
    const test = tokens[token];
    if (test === '*') {
      star = token;
      resume = at;
      token += 1;
    } else if (test?.(text[at] ?? '')) {
      token += 1;
      at += 1;
    } else if (star >= 0) {
      token = star + 1;
      resume += 1;
      at = resume;
    } else return false;
  }
  while (tokens[token] === '*') token += 1;
  return token === tokens.length;
}
