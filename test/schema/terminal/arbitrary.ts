/** What programs, hostile ones too, write to a terminal: for properties that hold for any of it. */
import fc from 'fast-check';

const text = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 4 }),
  fc.constantFrom('漢字', '👩‍💻', 'e\u0301', '\u0301', '한', '❤\ufe0f', 'x'.repeat(30), ' '),
);
const control = fc.constantFrom(
  '\r\n',
  '\n',
  '\r',
  '\t',
  '\b',
  '\x07',
  '\x0e',
  '\x0f',
  '\x0b',
  '\x05',
  '\x00',
  '\x7f',
  '\x18',
);
const parameters = fc
  .array(fc.oneof(fc.nat({ max: 12 }), fc.constantFrom('', 38, 48, 5, 2, 196, 255, 1000)), { maxLength: 5 })
  .map((all) => all.join(';'));
const csi = fc
  .tuple(
    fc.constantFrom('', '', '', '?', '>', '<', '='),
    parameters,
    fc.constantFrom('', '', '', '', ' ', '!', '"', '$', '*', '#'),
    fc.constantFrom(...'@ABCDEFGHIJKLMPSTXZ`abcdefghilmnpqrstuxyz{|}~'.split('')),
  )
  .map(([prefix, between, intermediate, final]) => `\x1b[${prefix}${between}${intermediate}${final}`);
const style = fc
  .array(
    fc.constantFrom(0, 1, 2, 3, 4, 7, 9, 22, 24, 27, 31, 42, 95, 103, 53, '4:3', '38;5;200', '48;2;1;2;3', 39, 49),
    { minLength: 1, maxLength: 4 },
  )
  .map((all) => `\x1b[${all.join(';')}m`);
const mode = fc
  .tuple(
    fc.constantFrom(1, 5, 6, 7, 9, 12, 25, 45, 47, 66, 1000, 1002, 1003, 1004, 1006, 1047, 1048, 1049, 2004, 2026),
    fc.constantFrom('h', 'l'),
  )
  .map(([number, final]) => `\x1b[?${number}${final}`);
const escape = fc.constantFrom(
  '\x1b7',
  '\x1b8',
  '\x1bD',
  '\x1bE',
  '\x1bH',
  '\x1bM',
  '\x1bc',
  '\x1b=',
  '\x1b>',
  '\x1b(0',
  '\x1b(B',
  '\x1b)0',
  '\x1bn',
  '\x1b#8',
  '\x1bZ',
  '\x1b%@',
);
const string = fc
  .tuple(
    fc.constantFrom(
      '\x1b]52;c;',
      '\x1b]0;',
      '\x1b]8;;',
      '\x1b]8;;https://',
      '\x1b]4;1;',
      '\x1bP$q',
      '\x1bP+q',
      '\x1b_G',
      '\x1b^',
      '\x1bX',
      '\u009d52;',
      '\u0090',
    ),
    fc.string({ maxLength: 8 }),
    fc.constantFrom('\x07', '\x1b\\', '\u009c', '', '\x18'),
  )
  .map((parts) => parts.join(''));
const broken = fc.constantFrom('\x1b', '\x1b[', '\x1b[3', '\x1b]', '\x1b]8;', '\x1b[3\n1m', '\x1b[?');

const encode = (texts: fc.Arbitrary<string>) => texts.map((each): Uint8Array => Buffer.from(each));

/** Any of it, hostile and broken pieces too. */
export const terminalBytes: fc.Arbitrary<Uint8Array> = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: encode(text) },
      { weight: 2, arbitrary: encode(control) },
      { weight: 3, arbitrary: encode(csi) },
      { weight: 2, arbitrary: encode(style) },
      { weight: 2, arbitrary: encode(mode) },
      { weight: 1, arbitrary: encode(escape) },
      { weight: 2, arbitrary: encode(string) },
      { weight: 1, arbitrary: encode(broken) },
      { weight: 1, arbitrary: fc.uint8Array({ maxLength: 4 }) },
    ),
    { maxLength: 25 },
  )
  .map((parts) => Buffer.concat(parts));

/** BEL ends an OSC alone. */
function isEnded(sequence: string): boolean {
  return /\u009c$|\x1b\\$/.test(sequence) || /^(\x1b\]|\u009d)[^]*\x07$/.test(sequence);
}

/** What programs write on purpose. */
export const programBytes: fc.Arbitrary<Uint8Array> = fc
  .array(
    fc.oneof(
      { weight: 5, arbitrary: encode(text) },
      { weight: 3, arbitrary: encode(control.filter((each) => each !== '\x18')) },
      { weight: 3, arbitrary: encode(csi) },
      { weight: 3, arbitrary: encode(style) },
      { weight: 2, arbitrary: encode(mode) },
      { weight: 1, arbitrary: encode(escape) },
      { weight: 1, arbitrary: encode(string.filter(isEnded)) },
    ),
    { maxLength: 30 },
  )
  .map((parts) => Buffer.concat(parts));
