/** A screen that is drawn anew is the same screen, now and after whatever comes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DrawnScreen } from '../../../agent-daemon/terminals/screens.ts';
import { XtermScreen } from '../../../agent-daemon/terminals/xterm-screen.ts';
import { OutputFilter } from '../../../schema/terminal/filter.ts';
import { byTier } from '../../support/tier.ts';
import { programBytes, terminalBytes } from '../../schema/terminal/arbitrary.ts';

const window = { rows: 6, columns: 20 };
const longMs = byTier({ daily: 120_000, full: 1_200_000 });
const size = fc.record({ rows: fc.integer({ min: 2, max: 9 }), columns: fc.integer({ min: 3, max: 30 }) });

/** Everything of a screen that can be seen or that decides about what comes. */
async function look(screen: XtermScreen): Promise<string> {
  // What is held waits for what comes next: here that nothing does.
  await screen.write(Buffer.from('\x1b[m\x1b[0"q'));
  const { text, held } = await screen.draw();
  expect(held).toBe(0);
  return text;
}

async function screenOf(bytes: Uint8Array, drawn?: DrawnScreen, at = window): Promise<XtermScreen> {
  const screen = new XtermScreen(at, drawn);
  await screen.write(bytes);
  return screen;
}

/**
 * Only what is written at its end makes a cursor wait behind a line: where that cell was erased under it, the drawing
 * writes a blank, which is seen by nobody and is not the same.
 */
function writesBlank({ window: { columns }, text }: DrawnScreen): boolean {
  return new RegExp(`;${columns}H\\x1b\\[0[\\d;:]*m `).test(text);
}

/** Cuts `bytes` at `at`, draws what is there anew, and goes on there and here. */
async function sameAfterCut(bytes: Uint8Array, at: number): Promise<void> {
  const whole = await screenOf(bytes);
  const first = await screenOf(bytes.subarray(0, at));
  const { held, ...drawn } = await first.draw();
  const again = await screenOf(bytes.subarray(at - held), drawn);
  if (!writesBlank(drawn)) expect(await look(again)).toBe(await look(whole));
  for (const each of [whole, first, again]) each.close();
}

describe('goes on behind a cut at any place', () => {
  it('of what programs write', { timeout: longMs }, async () => {
    await fc.assert(
      fc.asyncProperty(programBytes, fc.nat(), (program, at) => {
        // Of a charset xterm brings back with the cursor what is in use, and not what was designated: no drawing says that.
        const text = Buffer.from(program)
          .toString('latin1')
          .replaceAll(/\x1b\[\?104[89]l|\x1b8|\x1b\[u/g, '');
        const bytes = Buffer.from(/\x1b[()]0/.test(text) ? Buffer.from(text, 'latin1') : program);
        return sameAfterCut(bytes, at % (bytes.length + 1));
      }),
      { numRuns: byTier({ daily: 400, full: 20_000 }) },
    );
  });

  it('of a string that is longer than what may wait', async () => {
    for (const introduced of ['\x1b]52;c;', '\x1bPq', '\x1b_G']) {
      const bytes = Buffer.from(`a\r\n${introduced}${'x'.repeat(40_000)}\x1b\\b\x1b[31mc`);
      for (const at of [5, 17_000, 30_000, bytes.length - 10, bytes.length]) await sameAfterCut(bytes, at);
    }
  });

  it('of a line without an end', async () => {
    const bytes = Buffer.from(`${'é漢x'.repeat(10_000)}\n\x1b[1mend`);
    for (const at of [3, 17_001, 40_002, bytes.length]) await sameAfterCut(bytes, at);
  });
});

const ofLines = fc.oneof(
  fc.string({ unit: 'grapheme-ascii', maxLength: 12 }),
  fc.constantFrom('漢字', 'e\u0301', '\u0301', '°', 'x'.repeat(30), '\t', '\r', '\r\n', '\n'),
  fc.constantFrom('\x1b[31m', '\x1b[0;44m', '\x1b[m', '\x1b[48;2;1;2;3m', '\x1b[7m', '\x1b[K', '\x1b[1K', '\x1b[2K'),
);
/** Changes more than its line, or is cut off, or is no character. */
const amongLines = fc.oneof(
  fc.constant(Buffer.from('\u009b1;2r\u009b9H')),
  fc
    .constantFrom('\u009b2;3r', '\u008d', '\x1b[3', '\x1b[0"q', '\x1b[2;3r', '\x1b[A', '\x1b[?6h', '\b', '\x1b[c')
    .map((text) => Buffer.from(text)),
  fc.uint8Array({ maxLength: 4 }),
);
/** Lines as programs write them in floods: more of them than a screen keeps, or not. */
const flood = fc
  .record({
    lines: fc.array(fc.array(ofLines, { maxLength: 4 }), { minLength: 1, maxLength: 12 }),
    end: fc.constantFrom('\r\n', '\r\n', '\r\n', '\n', '\r'),
    count: fc.integer({ min: 200, max: 4_000 }),
    among: fc.option(amongLines, { freq: 2, nil: Buffer.alloc(0) }),
    place: fc.nat(),
  })
  .map(({ lines, end, count, among, place }) => {
    const once = lines.map((parts) => parts.join('') + end).join('');
    // The first line may be the longest.
    const text = Buffer.from(`${'first '.repeat(5)}\r\n${once.repeat(Math.ceil(count / lines.length))}`);
    const at = place % text.length;
    return Buffer.concat([text.subarray(0, at), among, text.subarray(at)]);
  });
/** Where a flood is drawn. */
const beforeFlood = fc
  .tuple(
    programBytes,
    fc.constantFrom(
      '',
      '',
      '\x1b[1;2r',
      '\x1b[2;3r',
      '\x1b[1;2r\x1b[9H',
      '\x1b[?1049h',
      '\x1b7',
      '\x1b[4h',
      '\x1b[20h',
      '\x1b[?7l',
    ),
  )
  .map(([bytes, state]) => Buffer.concat([bytes, Buffer.from(state)]));

it('looks the same after a flood of which most was not drawn', { timeout: longMs }, async () => {
  let leftOutBytes = 0;
  await fc.assert(
    fc.asyncProperty(beforeFlood, flood, programBytes, size, fc.integer({ min: 1, max: 9 }), async (...args) => {
      const [before, lines, after, at, pieces] = args;
      const whole = new XtermScreen(at, undefined, Number.POSITIVE_INFINITY);
      await whole.write(Buffer.concat([before, lines, after]));
      const screen = new XtermScreen(at, undefined, 4096);
      await screen.write(before);
      const length = Math.ceil(lines.length / pieces);
      for (let from = 0; from < lines.length; from += length) await screen.write(lines.subarray(from, from + length));
      await screen.write(after);
      leftOutBytes += screen.leftOutBytes;
      expect(await look(screen)).toBe(await look(whole));
      whole.close();
      screen.close();
    }),
    { numRuns: byTier({ daily: 200, full: 10_000 }) },
  );
  expect(leftOutBytes).toBeGreaterThan(100 * 1024);
});

it('is drawn by what draws the same again', { timeout: longMs }, async () => {
  await fc.assert(
    fc.asyncProperty(terminalBytes, size, async (bytes, later) => {
      const screen = await screenOf(bytes);
      await screen.resize(later);
      await screen.write(Buffer.from('\x1b[m\x1b[0"q'));
      const drawn = await screen.draw();
      const again = await screenOf(Buffer.alloc(0), drawn, later);
      if (!writesBlank(drawn)) expect((await again.draw()).text).toBe(drawn.text);
      screen.close();
      again.close();
    }),
    { numRuns: byTier({ daily: 200, full: 10_000 }) },
  );
});

it('is drawn by what passes to a viewer unchanged', async () => {
  await fc.assert(
    fc.asyncProperty(programBytes, async (bytes) => {
      const screen = await screenOf(bytes);
      const text = Buffer.from((await screen.draw()).text);
      expect(Buffer.from(new OutputFilter({ queries: false }).push(text))).toEqual(text);
      screen.close();
    }),
    { numRuns: 100 },
  );
});

it('looks the same for a viewer, whose output is filtered, as without the filter', { timeout: longMs }, async () => {
  await fc.assert(
    fc.asyncProperty(programBytes, async (program) => {
      // Which character set the bytes are in is not for a program to say; before a mark, and before a character is
      // repeated, xterm minds what was left out; and of several modes at once all pass, or none does.
      const text = Buffer.from(program).toString();
      const bytes = Buffer.from(
        text
          .replaceAll('\x1b%@', '')
          .replaceAll(/[\p{M}\p{Cf}]/gu, '')
          .replaceAll(/\x1b\[[0-9;]*(b|;[0-9;]*[hl])/g, ''),
      );
      const filtered = new OutputFilter({ queries: false }).push(bytes);
      const [here, there] = [await screenOf(bytes), await screenOf(filtered)];
      expect(await look(there)).toBe(await look(here));
      here.close();
      there.close();
    }),
    { numRuns: byTier({ daily: 200, full: 10_000 }) },
  );
});

it('waits behind a line whose end was erased, with a blank there', async () => {
  const erased = Buffer.from(`${'x'.repeat(40)}\x1b[2K`);
  const { text, window: at } = await (await screenOf(erased)).draw();
  const again = await screenOf(Buffer.from('y\x1b[m'), { window: at, text });
  expect((await again.draw()).text).toBe(
    `\x1b[0m${'x'.repeat(20)}\x1b[m\r\n\x1b[19C\x1b[0m \x1b[0my\x1b[m\r\n\x1b[m\r\n\x1b[m\r\n\x1b[3;2H\x1b[0m`,
  );
});

it('answers what programs ask a terminal, once', async () => {
  const screen = await screenOf(Buffer.from('ab\r\n'));
  expect(await screen.write(Buffer.from('x\x1b[6n'))).toBe('\x1b[2;2R');
  expect(await screen.write(Buffer.from('\x1b[c\x1b[5n'))).toMatch(/^\x1b\[\?[\d;]+c\x1b\[0n$/);
  expect(await screen.write(Buffer.from('\x1b[21t'))).toBe('');
  const drawn = await screen.draw();
  const again = await screenOf(Buffer.alloc(0), drawn);
  expect(await again.write(Buffer.from('y'))).toBe('');
});

it('counts cells as programs do', async () => {
  const screen = await screenOf(Buffer.from('漢😀e\u0301한❤a'));
  expect(await screen.write(Buffer.from('\x1b[6n'))).toBe('\x1b[1;10R');
});

it('keeps what has scrolled away', async () => {
  const lines = Array.from({ length: 500 }, (_, n) => `line ${n}`);
  const screen = await screenOf(Buffer.from(`${lines.join('\r\n')}\r\n`));
  expect((await screen.draw()).text).toContain('line 0\x1b');
});

it('is bounded, whatever is heaped on one cell', async () => {
  const screen = await screenOf(Buffer.from(`a${'\u0301'.repeat(100_000)}\r\n`));
  expect((await screen.draw()).text.length).toBeLessThan(1000 * window.columns * 8);
});
