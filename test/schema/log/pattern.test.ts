import { createContext, Script } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Pattern } from '../../../schema/log/pattern.ts';
import { PatternError } from '../../../schema/log/pattern-parse.ts';

const found = (pattern: string, text: string, ignoreCase = false) => new Pattern(pattern, { ignoreCase }).test(text);

/** Counts in counts in counts are refused for their size, and for nothing else. */
function isTaken(pattern: string): boolean {
  try {
    void new Pattern(pattern, { ignoreCase: false });
    return true;
  } catch (error) {
    if (error instanceof PatternError && error.message.includes('too large')) return false;
    throw error;
  }
}

const asked = createContext({ pattern: '', flags: '', text: '' });
const asking = new Script('new RegExp(pattern, flags).test(text)');

/** What the engine of the language finds; undefined where it goes back and forth for ever, as it does for some patterns. */
function expectedOf(pattern: string, text: string, ignoreCase: boolean): boolean | undefined {
  Object.assign(asked, { pattern, text, flags: ignoreCase ? 'iu' : 'u' });
  try {
    return asking.runInContext(asked, { timeout: 1_000 }) as boolean;
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined;
    throw error;
  }
}

/** Patterns over a small alphabet, so that they often match, and in part. */
const { pattern: patterns } = fc.letrec<{ pattern: string; atom: string }>((tie) => ({
  atom: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    fc.constantFrom(
      'a',
      'b',
      'B',
      '.',
      '[ab]',
      '[^a]',
      String.raw`\w`,
      String.raw`\d`,
      ' ',
      'é',
      '1',
      '[a-z]',
      '😀',
      '()',
    ),
    fc.tuple(tie('pattern'), fc.constantFrom('(', '(?:')).map(([inner, open]) => `${open}${inner})`),
  ),
  pattern: fc
    .array(
      fc.oneof(
        fc
          .tuple(
            tie('atom'),
            fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,2}', '{0,1}', '{2,}', '{99}', '*?', '|'),
          )
          .map((parts) => parts.join('')),
        fc.constantFrom('^', '$', String.raw`\b`),
      ),
      { minLength: 1, maxLength: 5 },
    )
    .map((parts) => parts.join('')),
}));
const texts = fc.array(fc.constantFrom('a', 'b', 'B', 'A', ' ', '1', 'é', 'É', '😀', '_'), { maxLength: 8 });

describe('[S20] patterns', () => {
  it('find what the engine of the language finds, for any pattern of the subset', () => {
    fc.assert(
      fc.property(patterns, texts, fc.boolean(), (pattern, parts, ignoreCase) => {
        const text = parts.join('');
        fc.pre(isTaken(pattern));
        const expected = expectedOf(pattern, text, ignoreCase);
        fc.pre(expected !== undefined);
        expect(found(pattern, text, ignoreCase)).toBe(expected);
      }),
      { numRuns: 3000 },
    );
  });

  it('find at once what that engine looks for without end', () => {
    const [pattern, text] = ['(((a{0,1}a{0,1}(?:.|[ab]?)|){2,}){2,}^)+^', 'a_b_😀1'];
    expect(expectedOf(pattern, text, false)).toBeUndefined();
    expect(found(pattern, text)).toBe(true);
  });

  it.each([
    ['loss=[0-9.]+', 'epoch 3 loss=0.25', true],
    [String.raw`^\[ERROR\]`, '[ERROR] no', true],
    [String.raw`^\[ERROR\]`, ' [ERROR] no', false],
    [String.raw`\berr\b`, 'stderr', false],
    [String.raw`\x41\u0042\t`, 'AB\t', true],
    ['[]]', ']', 'refused'],
    ['a{2', 'a{2', true],
    ['{}', '{}', true],
    [String.raw`[\d-]+x`, '1-2-x', true],
    ['x$', 'x', true],
    [String.raw`\Bb`, 'ab', true],
    [String.raw`\Ba`, 'a b', false],
    ['(|a)b', 'b', true],
  ])('%s in %s: %s', (pattern, text, expected) => {
    if (expected === 'refused') expect(() => found(pattern, text)).toThrow(PatternError);
    else expect(found(pattern, text)).toBe(expected);
  });

  it.each([
    '(',
    ')',
    '[',
    '[z-a]',
    '*a',
    'a**',
    'a{2,1}',
    '^*',
    '(?=a)',
    '(?<!a)',
    '(?<n>a)',
    String.raw`(a)\1`,
    '\\',
    '',
  ])('refuses %s in words', (pattern) => {
    expect(() => found(pattern, '')).toThrow(PatternError);
  });

  it('writes out what takes nothing once, however often it is counted', () => {
    expect(found('((((){9999}){9999}){9999}){9999}', 'x')).toBe(true);
    expect(found('(((a{0}){9999}){9999}b){2}', 'xbb')).toBe(true);
  });

  it('refuses what is too large when it is written out, and says so', () => {
    expect(() => found('(((a{9}){9}){9}){9}', '')).toThrow(/too large/);
    expect(() => found('('.repeat(60) + ')'.repeat(60), '')).toThrow(/nested/);
    expect(() => found('a'.repeat(513), '')).toThrow(/512/);
    expect(found('a'.repeat(512), 'a'.repeat(600))).toBe(true);
    expect(() => found('[[:alpha:]]', '')).toThrow(/alpha/);
  });

  // An engine that backtracks does not come to the end of these.
  it.each(['(a+)+$', '(a|a)*Z', '(a|aa)+$', '(.*a){20}$', '(a|b|ab)*c', '(x+x+)+y', '([ab]*a[ab]{30})*Z'])(
    '%s takes linear time on a long line that almost fits',
    (pattern) => {
      const line = `${'ab'.repeat(8192)}${'a'.repeat(16_384)}${'x'.repeat(16_000)}!`;
      expect(found(pattern, line)).toBe(false);
    },
  );
});
