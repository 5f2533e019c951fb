/**
 * Does what was typed go on in the next line? By brackets, quotes and the words that open and close a block: one rule for
 * all languages, wrong at times, and an empty line always ends it. Pure.
 */
const closing: Record<string, string> = { '(': ')', '[': ']', '{': '}' };

/** True for an open bracket, an open quote of several lines, a last `\`, and a block that has begun. */
export function isUnfinished(text: string): boolean {
  const bare = withoutQuotes(text);
  if (bare === undefined) return true;
  const open: string[] = [];
  for (const character of bare) {
    if (character in closing) open.push(closing[character]!);
    else if (character === open.at(-1)) open.pop();
  }
  const [first = ''] = bare.split('\n');
  return open.length > 0 || /\\\s*$/.test(bare) || isPythonBlock(bare) || isShellBlock(first, bare);
}

/** It ends with an empty line, as at Python's own prompt. */
function isPythonBlock(text: string): boolean {
  return /^(?:(?:if|for|while|def|class|with|try|async)\b[^\n]*:[ \t]*|@[^\n]*)(?:\n|$)/.test(text);
}

function isShellBlock(first: string, text: string): boolean {
  if (!/^\s*(?:for|while|until|if|case)\b/.test(first)) return false;
  const count = (words: RegExp) => text.match(words)?.length ?? 0;
  const opened = count(/(?:^|[\s;])(?:do|then|case)(?=[\s;]|$)/g);
  return opened > count(/(?:^|[\s;])(?:done|fi|esac)(?=[\s;)]|$)/g);
}

/** The text without strings and comments; undefined when a string is open that may have several lines. */
function withoutQuotes(text: string): string | undefined {
  let bare = '';
  for (let at = 0; at < text.length; at++) {
    const character = text[at]!;
    const quote = quoteAt(text, at);
    if (quote !== undefined) {
      const end = endOfQuote(text, at + quote.length, quote);
      if (end === undefined) {
        if (quote.length === 3 || quote === '`') return undefined;
        continue;
      }
      at = end - 1;
    } else if (character === '#' && (at === 0 || /\s/.test(text[at - 1]!))) at = endOfLine(text, at) - 1;
    else bare += character;
  }
  return bare;
}

function quoteAt(text: string, at: number): string | undefined {
  const character = text[at]!;
  if (character === '`') return character;
  if (character !== '"' && character !== "'") return undefined;
  const three = character.repeat(3);
  return text.startsWith(three, at) ? three : character;
}

/** Behind the quote that ends it; undefined when none does. */
function endOfQuote(text: string, from: number, quote: string): number | undefined {
  for (let at = from; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text.startsWith(quote, at)) return at + quote.length;
    else if (text[at] === '\n' && quote.length === 1 && quote !== '`') return undefined;
  }
  return undefined;
}

function endOfLine(text: string, at: number): number {
  const end = text.indexOf('\n', at);
  return end < 0 ? text.length : end;
}
