/**
 * Finds the regular expressions of a source text by reading it as a tokenizer does: comments, strings and templates are
 * passed over, and a slash begins an expression where an operand can stand. Pure.
 */

export interface FoundRegex {
  line: number;
  source: string;
  flags: string;
}

/** After these a slash divides; after anything else it begins a regular expression. */
const operandEnd = /[\w$)\]}'"`]$/;
const keywordEnd = /\b(?:return|typeof|case|in|of|delete|void|await|yield|else|do)$/;

export function regexesIn(text: string): FoundRegex[] {
  const found: FoundRegex[] = [];
  /** Depths of braces at which a template goes on behind `}`. */
  const templates: number[] = [];
  let braces = 0;
  let before = '';
  for (let at = 0; at < text.length;) {
    const two = text.slice(at, at + 2);
    const letter = text[at]!;
    if (two === '//' || (two === '#!' && at === 0)) at = endOf(text, '\n', at);
    else if (two === '/*') at = endOf(text, '*/', at + 2);
    else if (letter === '"' || letter === "'") {
      at = stringEnd(text, at, letter);
      before = letter;
    } else if (letter === '`' || (letter === '}' && templates.at(-1) === braces)) {
      if (letter === '}') templates.pop();
      const end = templateEnd(text, at + 1);
      if (text[end - 1] === '{') templates.push(braces);
      at = end;
      before = text[end - 1] === '{' ? '{' : '`';
    } else if (letter === '/' && (!operandEnd.test(before) || keywordEnd.test(before))) {
      const end = regexEnd(text, at + 1);
      const flags = /^[a-z]*/.exec(text.slice(end + 1, end + 12))?.[0] ?? '';
      found.push({ line: text.slice(0, at).split('\n').length, source: text.slice(at + 1, end), flags });
      at = end + 1 + flags.length;
      before = ')';
    } else {
      if (letter === '{') braces += 1;
      if (letter === '}') braces -= 1;
      if (!/\s/.test(letter))
        before = (/[\w$]/.test(letter) && /\s/.test(text[at - 1] ?? ' ') ? '' : before.slice(-12)) + letter;
      at += 1;
    }
  }
  return found;
}

function endOf(text: string, mark: string, from: number): number {
  const at = text.indexOf(mark, from);
  return at < 0 ? text.length : at + mark.length;
}

function stringEnd(text: string, from: number, quote: string): number {
  let at = from + 1;
  while (at < text.length && text[at] !== quote) at += text[at] === '\\' ? 2 : 1;
  return at + 1;
}

/** Behind the closing backtick, or behind the `${` where an expression begins. */
function templateEnd(text: string, from: number): number {
  for (let at = from; at < text.length; at += text[at] === '\\' ? 2 : 1) {
    if (text[at] === '`') return at + 1;
    if (text.startsWith('${', at)) return at + 2;
  }
  return text.length;
}

/** The slash that ends the expression. */
function regexEnd(text: string, from: number): number {
  let inClass = false;
  for (let at = from; at < text.length; at += text[at] === '\\' ? 2 : 1) {
    if (text[at] === '[') inClass = true;
    else if (text[at] === ']') inClass = false;
    else if (text[at] === '/' && !inClass) return at;
  }
  return text.length;
}

/**
 * Why an expression could take exponential time, without running it: something unbounded that repeats something unbounded,
 * or alternatives that begin alike. Strict on purpose: one that is safe all the same can be written otherwise.
 */
export function catastrophe(source: string): string | undefined {
  /** For each open group: whether something unbounded is in it, and how its alternatives begin. */
  const groups: { unbounded: boolean; heads: string[] }[] = [{ unbounded: false, heads: [] }];
  let last = { unbounded: false, twins: false };
  let atHead = true;
  for (const { text, kind } of tokens(source)) {
    const group = groups.at(-1)!;
    if (kind === 'quantifier') {
      if (/^(?:[*+]|\{\d+,\})/.test(text)) {
        if (last.unbounded) return `${text} repeats something that is repeated without bound`;
        if (last.twins) return `${text} repeats alternatives that begin alike`;
        group.unbounded = true;
      }
      continue;
    }
    if (kind === 'open') groups.push({ unbounded: false, heads: [] });
    else if (kind === 'close') {
      const { unbounded, heads } = groups.pop()!;
      last = { unbounded, twins: new Set(heads).size < heads.length };
      if (groups.length === 0) return 'a parenthesis that was not opened';
      groups.at(-1)!.unbounded ||= unbounded;
    } else last = { unbounded: false, twins: false };
    if (kind === 'atom' && atHead) group.heads.push(text);
    atHead = kind === 'open' || kind === 'or';
  }
  return undefined;
}

type Token = { text: string; kind: 'open' | 'close' | 'or' | 'quantifier' | 'atom' };

function* tokens(source: string): Generator<Token> {
  const pattern =
    /(?<open>\((?:\?(?:[:=!]|<[=!]|<\w+>))?)|(?<close>\))|(?<or>\|)|(?<quantifier>(?:[*+?]|\{\d+(?:,\d*)?\})\??)|(?<atom>\\u\{[^}]*\}|\\[pPk][{<][^}>]*[}>]|\\.|\[(?:\\.|[^\]\\])*\]|[^])/g;
  for (const { groups = {} } of source.matchAll(pattern))
    for (const kind of ['open', 'close', 'or', 'quantifier', 'atom'] as const)
      if (groups[kind] !== undefined) yield { text: groups[kind], kind };
}
