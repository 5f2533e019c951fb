import { expect, it } from 'vitest';
import { isUnfinished } from '../../../cli/kernel/unfinished.ts';

it.each([
  'print(1,',
  'x = [1,\n 2',
  'def f(x):',
  'def f(x):\n    return x',
  '@cache',
  'if a:\n    b()\nelse:',
  'text = """a',
  'a = 1 + \\',
  'const f = () => {',
  'const t = `a',
  'for i in 1 2; do',
  'for i in 1 2; do echo "done"',
  'if true; then\n  echo 1',
])('goes on: %j', (text) => expect(isUnfinished(text)).toBe(true));

it.each([
  '',
  'x = 1',
  'print(")(")',
  "x = {'a': 1}",
  'd["if x:"]',
  'x = 1 # (',
  'text = """a\n(b"""',
  'const f = () => {\n  return 1;\n}',
  'for i in 1 2; do echo $i; done',
  'if true; then\n  echo 1\nfi',
  "echo it's",
])('is whole: %j', (text) => expect(isUnfinished(text)).toBe(false));
