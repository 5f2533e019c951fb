/** The words of a command line, where no shell is that would find them (POSIX, Shell Command Language, 2.2). Pure. */

/** What only a shell does something with, outside of quotes. */
const special = /[$`*?[\]{}~;&|<>()!#\n]/;

/** Undefined for a line that needs a shell. */
export function splitWords(line: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  for (let at = 0; at < line.length; at++) {
    const character = line[at]!;
    if (character === ' ' || character === '\t') {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (character === '\\') {
      at++;
      if (at >= line.length || line[at] === '\n') return undefined;
      word = (word ?? '') + line[at]!;
    } else if (character === "'" || character === '"') {
      const end = line.indexOf(character, at + 1);
      const quoted = line.slice(at + 1, end);
      if (end < 0 || (character === '"' && /[$`\\]/.test(quoted))) return undefined;
      word = (word ?? '') + quoted;
      at = end;
    } else if (special.test(character)) return undefined;
    else word = (word ?? '') + character;
  }
  if (word !== undefined) words.push(word);
  return words;
}
