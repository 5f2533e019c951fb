import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { levelOf } from '../../../schema/log/level.ts';
import { LineSplitter, maxLineBytes, type RawLine } from '../../../schema/log/lines.ts';
import { tailStarts, type TailSource, toBlocks } from '../../../schema/log/tail.ts';
import { chunkName, decodeChunk, encodeChunk, parseChunkName } from '../../../schema/log/chunk.ts';

/** Lines of a text that comes in pieces of these sizes, copied. */
function split(bytes: Uint8Array, sizes: readonly number[]): RawLine[] {
  const splitter = new LineSplitter(0);
  const lines: RawLine[] = [];
  const keep = (line: RawLine | undefined) => line && lines.push({ ...line, bytes: line.bytes.slice() });
  let at = 0;
  for (let turn = 0; at < bytes.byteLength; turn++) {
    const size = sizes[turn % sizes.length]!;
    for (const line of splitter.push(at, turn, bytes.subarray(at, at + size))) keep(line);
    at += size;
  }
  keep(splitter.flush());
  return lines;
}

const text = (bytes: Uint8Array) => Buffer.from(bytes).toString();

describe('[S20] lines', () => {
  it('are the same however the bytes came, without a byte lost or doubled', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', '\n', 'é', '\r\n', 'word '), { maxLength: 60 }),
        fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 5 }),
        (parts, sizes) => {
          const whole = Buffer.from(parts.join(''));
          const lines = split(whole, sizes);
          const ended = whole.at(-1) === 10 || whole.byteLength === 0;
          expect(lines.map((line) => text(line.bytes))).toEqual(
            whole
              .toString()
              .split('\n')
              .slice(0, ended ? -1 : undefined),
          );
          expect(lines.map(({ offset }) => offset)).toEqual(
            [0, ...lines.map(({ next }) => next)].slice(0, lines.length),
          );
          expect(lines.at(-1)?.next ?? 0).toBe(whole.byteLength);
        },
      ),
    );
  });

  it('come in pieces when they are long, marked, and no character is torn', () => {
    const whole = Buffer.from(`x${'é'.repeat(100_000)}\nnext\n`);
    for (const sizes of [[1024 * 1024], [1000], [65_537]]) {
      const lines = split(whole, sizes);
      expect(lines.map(({ isCut }) => isCut)).toEqual([true, true, true, false, false]);
      expect(lines.map(({ continues }) => continues)).toEqual([false, true, true, true, false]);
      expect(lines.every(({ bytes }) => bytes.byteLength <= maxLineBytes && !text(bytes).includes('\ufffd'))).toBe(
        true,
      );
      expect(
        lines
          .slice(0, 4)
          .map(({ bytes }) => text(bytes))
          .join(''),
      ).toBe(`x${'é'.repeat(100_000)}`);
    }
  });

  it('carry the time of their first byte', () => {
    const splitter = new LineSplitter(10);
    expect([...splitter.push(10, 1, Buffer.from('begun '))]).toEqual([]);
    expect(splitter.begins).toBe(10);
    const [line] = splitter.push(16, 2, Buffer.from('ended\n'));
    expect(line).toMatchObject({ offset: 10, next: 22, timeMs: 1 });
  });
});

describe('the last lines', () => {
  it('are found from the end, wherever the parts are cut, of both streams together by their times', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom('a\n', 'bb\n', '\n', 'ccc'), { maxLength: 20 }),
        fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 0, max: 8 }),
        async (parts, sizes, count) => {
          const whole = Buffer.from(parts.join(''));
          const starts = await tailStarts([source('stdout', whole, sizes)], count);
          const lines = split(whole, [whole.byteLength || 1]);
          expect(starts.stdout).toBe(count === 0 ? whole.byteLength : (lines.at(-count)?.offset ?? 0));
        },
      ),
    );
  });

  it('are those that are wanted, when a test says which', async () => {
    const whole = Buffer.from('no\nyes 1\nno\nyes 2\nno\nyes 3\nno\n');
    const starts = await tailStarts([source('stdout', whole, [4])], 2, {
      accepts: ({ bytes }) => text(bytes).startsWith('yes'),
      turn: () => undefined,
    });
    expect(whole.subarray(starts.stdout).toString()).toBe('yes 2\nno\nyes 3\nno\n');
  });
});

/** A stream in parts; each byte was written at its offset. */
function source(stream: 'stdout', whole: Buffer, sizes: readonly number[]): TailSource {
  const parts: { start: number; end: number }[] = [];
  for (let at = 0, turn = 0; at < whole.byteLength; turn++) {
    const end = Math.min(whole.byteLength, at + sizes[turn % sizes.length]!);
    parts.push({ start: at, end });
    at = end;
  }
  return {
    stream,
    end: whole.byteLength,
    blocks: toBlocks(parts),
    async *read(from) {
      for (const { start, end } of parts)
        if (end > from)
          yield { offset: Math.max(start, from), timeMs: start, bytes: whole.subarray(Math.max(start, from), end) };
    },
  };
}

describe('levels', () => {
  it.each([
    ['{"time":"x","level":"warn","msg":"a"}', 'warn'],
    ['{"level":50,"msg":"pino"}', 'error'],
    ['{"severity":"NOTICE"}', 'info'],
    ['time=x level=error msg="no"', 'error'],
    ['[ERROR] it broke', 'error'],
    ['2026-11-28 10:00:00 [main] [warning] slow', 'warn'],
    ['WARNING: deprecated', 'warn'],
    ['DEBUG:root:value', 'debug'],
    ['E0102 10:00:00.000000   123 file.go:1] no', 'error'],
    ['I0102 10:00:00.000000   123 file.go:1] yes', 'info'],
    ['2026-11-28T10:00:00.123Z INFO started', 'info'],
    ['2026-11-28 10:00:00,123 - root - ERROR - no', undefined],
    ['Traceback (most recent call last):', 'error'],
    ['epoch 3 loss 0.2', undefined],
    ['an error is what I study', undefined],
    ['', undefined],
  ])('%s is %s', (line, level) => {
    expect(levelOf(line)).toBe(level);
  });
});

describe('chunks', () => {
  it('give back what was put in, with its times, and are named by their range', () => {
    const records = [
      { timeMs: 1_795_000_000_000, bytes: Buffer.from('one') },
      { timeMs: 1_795_000_000_001, bytes: Buffer.from('two\n') },
    ];
    const decoded = decodeChunk(encodeChunk(records));
    expect(decoded.map(({ timeMs, bytes }) => [timeMs, text(bytes)])).toEqual([
      [1_795_000_000_000, 'one'],
      [1_795_000_000_001, 'two\n'],
    ]);
    expect(parseChunkName(chunkName(5, 12))).toEqual({ from: 5, to: 12 });
    for (const name of ['5-12', chunkName(5, 5), chunkName(9, 5), '../end', `${chunkName(1, 2)}x`])
      expect(parseChunkName(name)).toBeUndefined();
  });

  it('are refused when they are damaged', () => {
    const whole = encodeChunk([{ timeMs: 1, bytes: Buffer.from('bytes') }]);
    expect(() => decodeChunk(whole.subarray(0, whole.byteLength - 1))).toThrow(/damaged/);
    expect(() => decodeChunk(whole.subarray(0, 5))).toThrow(/damaged/);
    expect(() => decodeChunk(new Uint8Array(64))).toThrow(/damaged/);
  });
});
