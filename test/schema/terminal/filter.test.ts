/** What passes to a person's terminal, and what does not, however the bytes are cut. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { OutputFilter } from '../../../schema/terminal/filter.ts';
import { terminalBytes } from './arbitrary.ts';

const through = (text: string | Uint8Array, { queries = false, pieces = [] as number[] } = {}): string => {
  const filter = new OutputFilter({ queries });
  const bytes = typeof text === 'string' ? Buffer.from(text) : Buffer.from(text);
  const cuts = [...pieces.map((at) => at % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length];
  let at = 0;
  const passed = cuts.map((to) => {
    const part = Buffer.from(filter.push(bytes.subarray(at, to)));
    at = to;
    return part;
  });
  return Buffer.concat(passed).toString('latin1');
};
const latin1 = (text: string) => Buffer.from(text).toString('latin1');

describe('passes unchanged', () => {
  it.each([
    ['text, wide, joined and not UTF-8', Buffer.from('abc é 漢字 👩‍💻 e\u0301 \xff\xe9', 'utf8')],
    ['Latin-1', Buffer.from('caf\xe9 \xfc', 'latin1')],
    ['controls', 'a\tb\rc\n\b\x07\x0e\x0f\x0b\x0c\x00'],
    ['colours', '\x1b[1;38;5;196;48:2::1:2:3m\x1b[4:3m\x1b[0m\x1b[m'],
    [
      'moves and erasing',
      '\x1b[H\x1b[2J\x1b[10;20H\x1b[5A\x1b[K\x1b[1K\x1b[3X\x1b[2P\x1b[4@\x1b[2L\x1b[2M\x1b[S\x1b[T\x1b[5b',
    ],
    [
      'the screen of vim',
      '\x1b[?1049h\x1b[22;0;0t\x1b[?1h\x1b=\x1b[?2004h\x1b[?1004h\x1b[>4;2m\x1b[1;24r\x1b[?12h\x1b[?25l\x1b[2 q',
    ],
    ['its end', '\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?1049l\x1b[23;0;0t\x1b[?25h\x1b[>4;m'],
    ['htop and its mouse', '\x1b[?1000h\x1b[?1006h\x1b[?1002h\x1b(B\x1b[m\x1b[4l\x1b[?7h\x1b)0\x0e'],
    ['lines of boxes', '\x1b(0lqqk\x1b(B'],
    ['synchronised drawing, kitty keys', '\x1b[?2026h\x1b[?2026l\x1b[>1u\x1b[<u\x1b[=1;1u'],
    ['saved cursors, resets, tabs', '\x1b7\x1b8\x1b[s\x1b[u\x1bc\x1b[!p\x1bH\x1b[3g\x1bM\x1bD\x1bE'],
    ['controls of eight bits in UTF-8', '\u0085\u008d\u009b31m'],
    [
      'a link to the web, and marks of prompts',
      '\x1b]8;id=1;https://example.org/a?b=c\x1b\\text\x1b]8;;\x07\x1b]133;A\x07',
    ],
    ['a control within a sequence', 'a\x1b[3\n1mb'],
    ['modes of which one has no number', 'a\x1b[4;hb\x1b[;20l'],
  ])('%s', (_, bytes) => {
    expect(through(bytes)).toBe(Buffer.from(bytes as string).toString('latin1'));
  });

  it('as the very bytes that came', () => {
    const bytes = Buffer.from('progress \x1b[32m50 %\x1b[0m\r');
    expect(new OutputFilter({ queries: false }).push(bytes).buffer).toBe(bytes.buffer);
  });
});

describe('leaves out', () => {
  it.each([
    ['the clipboard', '\x1b]52;c;ZXZpbA==\x07'],
    ['the clipboard, ended otherwise', '\x1b]52;c;?\x1b\\'],
    ['the clipboard in controls of eight bits', '\u009d52;c;ZXZpbA==\u009c'],
    ['titles', '\x1b]0;sudo password:\x07\x1b]2;x\x1b\\\x1bkscreen\x1b\\'],
    ['the report of a title', '\x1b[21t\x1b[20t'],
    ['links to elsewhere', '\x1b]8;;file:///etc/passwd\x1b\\'],
    ['links with what is no address', '\x1b]8;;https://a b\x1b\\'],
    [
      'files and notices of terminals',
      '\x1b]1337;File=name=eA==:AAAA\x07\x1b]9;hi\x07\x1b]777;notify;a;b\x07\x1b]7;file://h/\x07',
    ],
    ['colours of the palette', '\x1b]4;1;rgb:00/00/00\x07\x1b]10;black\x07\x1b]11;?\x07'],
    ['device control strings', '\x1bP$q"p\x1b\\\x1bP+q544e\x1b\\\x1bPq#0;2;0;0;0\x1b\\\x1bPtmux;\x1b\x1b\\'],
    ['pictures that read files', '\x1b_Gt=f;L2V0Yy9wYXNzd2Q=\x1b\\'],
    ['printing', '\x1b[5i\x1b[?4i\x1b[i'],
    ['checksums of the screen', '\x1b[1;1;1;1;24;80*y'],
    ['windows that move', '\x1b[3;0;0t\x1b[8;1;1t\x1b[2t'],
    ['a locked keyboard, and eight-bit answers', '\x1b[2h\x1b G\x1b F\x1b[62"p'],
    ['another character set', '\x1b%@\x1b%G'],
    ['the answerback', '\x05'],
    ['the answerback before the bracket of a sequence', '\x1b\x05[31m'],
    ['the answerback within a link', '\x1b\x05]8;;https://example.org\x07'],
    ['controls of eight bits that are no character', Buffer.from([0x9b, 0x9d, 0x90])],
    ['an overlong control', Buffer.from([0x9b])],
    ['questions', '\x1b[c\x1b[>c\x1b[=c\x1b[6n\x1b[5n\x1b[?6n\x1b[?25$p\x1b[4$p\x1b[>q\x1b[?u\x1b[18t\x1bZ\u009a'],
  ])('%s', (_, bytes) => {
    const attack = Buffer.concat([Buffer.from('<'), Buffer.from(bytes as string), Buffer.from('>')]);
    // The end of a string alone is nothing.
    expect(through(attack).replaceAll('\x1b\\', '')).toMatch(/^<(screen)?>$/);
  });

  it('questions of a fixed answer only where others look too, and counts those that pass', () => {
    const asked = '\x1b[c\x1b[>c\x1b[6n\x1b[?2026$p\x1b[18t\x1b[>q\x1b[?u';
    expect(through(asked, { queries: true })).toBe(asked);
    const filter = new OutputFilter({ queries: true });
    filter.push(Buffer.from(asked));
    expect(filter.asked).toBe(7);
    expect(through('\x1b[21t\x1b[x\x1b[1;1;1;1;1;1*y\x05\x1bZ', { queries: true })).toBe('');
  });

  it('a sequence that another one comes into, so that nothing new is made of the two', () => {
    expect(through('a\x1b]5\x1b]52;c;eA==\x072;c;eQ==\x07b')).toBe('a2;c;eQ==\x07b');
    expect(through('a\x1b[3\x1b]0;x\x071mb')).toBe('a1mb');
    expect(through('a\x1b]8;;https://x\x18b')).toBe('a\x18b');
  });

  it('a string without an end, however long, and goes on behind its end', () => {
    const filter = new OutputFilter({ queries: false });
    expect(filter.push(Buffer.from('a\x1bP')).length).toBe(1);
    for (let n = 0; n < 1000; n++) expect(filter.push(Buffer.alloc(10_000, 'x')).length).toBe(0);
    expect(Buffer.from(filter.push(Buffer.from('y\x1b'))).toString()).toBe('');
    expect(Buffer.from(filter.push(Buffer.from('\\b'))).toString()).toBe('b');
    expect(through(`\x1b]8;;https://${'x'.repeat(9000)}\x07b`)).toBe('b');
  });
});

it('says the same however the bytes are cut', () => {
  fc.assert(
    fc.property(terminalBytes, fc.array(fc.nat(), { maxLength: 20 }), fc.boolean(), (bytes, pieces, queries) => {
      expect(through(bytes, { queries, pieces })).toBe(through(bytes, { queries }));
    }),
    { numRuns: 2000 },
  );
});

it('finds nothing to leave out in what it has let through', () => {
  fc.assert(
    fc.property(terminalBytes, fc.boolean(), (bytes, queries) => {
      const once = through(bytes, { queries });
      const twice = through(Buffer.from(once, 'latin1'), { queries });
      // The begin of a character at the end waits for the rest.
      expect([twice, once.slice(twice.length).replace(/^[\xc2-\xf4][\x80-\xbf]{0,2}$/, '')]).toEqual([
        once.slice(0, twice.length),
        '',
      ]);
    }),
    { numRuns: 2000 },
  );
});

it('lets text through whole', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), (text) => {
      const plain = text.replaceAll(/[\x05\x1b\u0080-\u009f]/g, '');
      expect(through(plain)).toBe(latin1(plain));
    }),
  );
});
