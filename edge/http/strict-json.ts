/**
 * JSON whose meaning does not depend on who reads it: no key twice in an object (one reader takes the first, another the
 * last), and not nested without end. Runs over text that `JSON.parse` took already, so it need not check the grammar.
 */
const maxDepth = 64;
const quote = 0x22;
const backslash = 0x5c;

/** Why the document is refused, or undefined. */
export function faultOfJson(text: string): 'repeated' | 'deep' | undefined {
  /** Keys of each open object; undefined for an open list. */
  const open: (Set<string> | undefined)[] = [];
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '"': {
        const end = endOfString(text, at);
        if (isRepeatedKey(open.at(-1), text, at, end)) return 'repeated';
        at = end - 1;
        break;
      }
      case '{':
      case '[':
        open.push(text[at] === '{' ? new Set() : undefined);
        if (open.length > maxDepth) return 'deep';
        break;
      case '}':
      case ']':
        open.pop();
        break;
      default:
    }
  }
  return undefined;
}

/** Index behind the closing quote. */
function endOfString(text: string, start: number): number {
  for (let at = start + 1; ; at++) {
    const code = text.charCodeAt(at);
    if (code === quote) return at + 1;
    if (code === backslash) at += 1;
  }
}

/** Notes the string as a key if it is one; true when the object has it already. */
function isRepeatedKey(keys: Set<string> | undefined, text: string, start: number, end: number): boolean {
  if (!keys) return false;
  let next = end;
  while (' \t\n\r'.includes(text[next] ?? '-')) next += 1;
  if (text[next] !== ':') return false;
  const key = JSON.parse(text.slice(start, end)) as string;
  if (keys.has(key)) return true;
  keys.add(key);
  return false;
}
