/** Receiving in pieces: whatever way the bytes of a connection are cut, the same comes out as from whole messages. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BinaryTap } from '../../../schema/protocol/binary-tap.ts';
import { FramePieces } from '../../../schema/protocol/frame-pieces.ts';
import {
  channelFlags,
  channelOf,
  channels,
  decodeFrames,
  encodeFrames,
  type Frame,
  FrameError,
  frameTypes,
} from '../../../schema/protocol/frame.ts';

const { data, end, reset, window } = frameTypes;
const frame = fc
  .record({
    type: fc.constantFrom(data, end, reset, window),
    flags: fc.constantFrom(...Object.values(channels)).map(channelFlags),
    stream: fc.integer({ min: 0, max: 3 }),
    offset: fc.integer({ min: 0, max: 2 ** 40 }),
    payload: fc.uint8Array({ maxLength: 300 }),
  })
  .map((made): Frame => made);
const messages = fc.array(fc.array(frame, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 });
const cuts = fc.infiniteStream(fc.integer({ min: 1, max: 400 }));

/** One line for each frame; bytes of data that follow each other are one. */
function lines(frames: readonly Frame[]): string[] {
  const out: { key: string; next: number; text: string }[] = [];
  for (const each of frames) {
    const text = Buffer.from(each.payload).toString('hex');
    const key = `${each.type} ${each.flags} ${each.stream}`;
    const last = out.at(-1);
    const joins = each.type === data && channelOf(each) !== channels.control && each.payload.length > 0;
    if (joins && last?.key === key && last.next === each.offset) {
      last.text += text;
      last.next += each.payload.length;
    } else
      out.push({ key, next: joins ? each.offset + each.payload.length : -1, text: `${key} ${each.offset} ${text}` });
  }
  return out.map(({ text }) => text);
}

/** Cuts bytes at any places, each piece in the same buffer as the one before. */
function* cut(bytes: Uint8Array, sizes: Iterator<number>): Generator<Uint8Array> {
  const buffer = new Uint8Array(400);
  for (let at = 0; at < bytes.length;) {
    const size = Math.min(bytes.length - at, sizes.next().value as number);
    buffer.fill(0xee).set(bytes.subarray(at, at + size));
    yield buffer.subarray(0, size);
    at += size;
  }
}

/** As a server frames it: opcode, no mask. */
function websocketFrame(payload: Uint8Array, first = 0x82): Uint8Array {
  const { length } = payload;
  const head =
    length < 126
      ? [first, length]
      : length < 65_536
        ? [first, 126, length >> 8, length & 255]
        : [first, 127, 0, 0, 0, 0];
  if (length >= 65_536) head.push((length >>> 24) & 255, (length >>> 16) & 255, (length >>> 8) & 255, length & 255);
  return Buffer.concat([Uint8Array.from(head), payload]);
}

describe('frames from pieces', () => {
  it('[F1-F4] are the same as from whole messages', () => {
    fc.assert(
      fc.property(messages, cuts, (all, sizes) => {
        const pieces = new FramePieces();
        const got: Frame[] = [];
        for (const frames of all) {
          const message = encodeFrames(frames);
          let left = message.length;
          for (const piece of cut(message, sizes[Symbol.iterator]())) {
            left -= piece.length;
            pieces.push(piece, left === 0, (each) => void got.push({ ...each, payload: each.payload.slice() }));
          }
        }
        expect(lines(got)).toEqual(lines(all.flatMap((frames) => decodeFrames(encodeFrames(frames)))));
      }),
    );
  });

  it('[F1-F5] refuse what a whole message would be refused for, with the same rule', () => {
    const ruleOf = (task: () => void): string | undefined => {
      try {
        task();
        return undefined;
      } catch (error) {
        if (error instanceof FrameError) return error.rule;
        throw error;
      }
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.boolean(), cuts, (tail, valid, sizes) => {
        const start = valid ? encodeFrames([{ type: data, flags: 2, stream: 1, offset: 7, payload: tail }]) : tail;
        const message = Buffer.concat([start, tail]);
        const whole = ruleOf(() => decodeFrames(message));
        const inPieces = ruleOf(() => {
          const pieces = new FramePieces();
          let left = message.length;
          for (const piece of cut(message, sizes[Symbol.iterator]()))
            pieces.push(piece, (left -= piece.length) === 0, () => {});
          if (message.length === 0) pieces.push(message, true, () => {});
        });
        expect(inPieces).toBe(whole);
      }),
    );
    const large = new FramePieces();
    const full = encodeFrames([{ type: data, flags: 2, stream: 1, offset: 0, payload: new Uint8Array(65_536) }]);
    expect(ruleOf(() => Array.from({ length: 17 }, () => large.push(full, false, () => {})))).toBe('F4');
  });
});

describe('the tap of a connection', () => {
  it('takes whole binary messages and leaves every other byte in order', () => {
    const kinds = fc.constantFrom(0x82, 0x81, 0x88, 0x89, 0x8a, 0x02, 0x00, 0xc2);
    const part = fc.record({ first: kinds, payload: fc.uint8Array({ maxLength: 700 }) });
    fc.assert(
      fc.property(fc.array(part, { maxLength: 8 }), cuts, (parts, sizes) => {
        const got: { binary: string[]; rest: string } = { binary: [], rest: '' };
        let open = '';
        const tap = new BinaryTap(500, {
          binary: (piece, last) => {
            open += Buffer.from(piece).toString('hex');
            if (!last) return;
            got.binary.push(open);
            open = '';
          },
          rest: (bytes) => (got.rest += Buffer.from(bytes).toString('hex')),
        });
        const bytes = Buffer.concat(parts.map(({ first, payload }) => websocketFrame(payload, first)));
        for (const piece of cut(bytes, sizes[Symbol.iterator]())) tap.push(piece);
        const isTapped = ({ first, payload }: (typeof parts)[number]) => first === 0x82 && payload.length <= 500;
        expect(got.binary).toEqual(parts.filter(isTapped).map(({ payload }) => Buffer.from(payload).toString('hex')));
        const rest = parts
          .filter((each) => !isTapped(each))
          .map(({ first, payload }) => websocketFrame(payload, first));
        expect(got.rest).toBe(Buffer.concat(rest).toString('hex'));
      }),
    );
  });

  it('knows lengths of 64 bits', () => {
    const sizes: number[] = [];
    let size = 0;
    const tap = new BinaryTap(2 ** 20, {
      binary: (piece, last) => {
        size += piece.length;
        if (last) sizes.push(size);
      },
      rest: () => expect.unreachable(),
    });
    tap.push(websocketFrame(new Uint8Array(70_000)));
    expect(sizes).toEqual([70_000]);
  });
});
