/** What is wrong with a value, in words, where its schema does not say it better itself. Never repeats the value. Pure. */
import type { z } from 'zod';

const kinds: Readonly<Record<string, string>> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
};

/** For `safeParse(value, { error })`; undefined leaves the library's words. */
export function wordsOf(issue: z.core.$ZodRawIssue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? 'is missing' : `must be ${kinds[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `must be ${issue.values
        .map(String)
        .join(', ')
        .replace(/, ([^,]*)$/, ' or $1')}`;
    case 'too_big':
      return `must ${limit(issue.origin, 'at most', issue.maximum)}`;
    case 'too_small':
      return `must ${limit(issue.origin, 'at least', issue.minimum)}`;
    case 'unrecognized_keys':
      return 'is not a field that exists here';
    case 'invalid_format':
      return idWords(issue.pattern);
    default:
      return undefined;
  }
}

/** Words for a pattern of `idPattern`; every other pattern brings its own. */
function idWords(pattern: string | undefined): string | undefined {
  const prefix = /^\/\^([a-z]{3})_\[[^\]]*\]\{26\}/.exec(pattern ?? '')?.[1];
  return prefix === undefined ? undefined : `must be an id: ${prefix}_ and 26 characters, as lists show it`;
}

function limit(origin: string, bound: string, amount: number | bigint): string {
  if (origin === 'string') return `have ${bound} ${amount} characters`;
  if (origin === 'array' || origin === 'record') return `have ${bound} ${amount} entries`;
  return `be ${bound} ${amount}`;
}
