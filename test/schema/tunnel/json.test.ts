/** JSON in frames: joined over MORE, bounded, strict. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FrameError, frameTypes } from '../../../schema/protocol/frame.ts';
import { JsonJoiner, jsonBytes, jsonFrames, parseJson } from '../../../schema/protocol/json.ts';
import { limits } from '../../../schema/protocol/limits.ts';

const { message, open } = frameTypes;
const more = (payload: Uint8Array) => ({ type: message, flags: 1, stream: 0, offset: 0, payload });

describe('JSON in frames', () => {
  it('[F6] joins what was cut at 64 KiB, whole', () => {
    for (const length of [0, 1, 65_533, 65_534, 65_535, 300_000]) {
      const value = { text: 'x'.repeat(length) };
      const frames = jsonFrames(message, 0, value);
      expect(frames.every(({ payload }) => payload.byteLength <= limits.payloadBytes)).toBe(true);
      const joiner = new JsonJoiner();
      const joined = frames.map((frame) => joiner.join(frame));
      expect(joined.slice(0, -1).every((each) => each === undefined)).toBe(true);
      expect(joined.at(-1)).toEqual({ value });
    }
  });

  it('[F6] keeps values of several streams and types apart', () => {
    const joiner = new JsonJoiner();
    const a = jsonFrames(open, 1, { text: 'a'.repeat(100_000) });
    const b = jsonFrames(open, 2, { text: 'b'.repeat(100_000) });
    expect(joiner.join(a[0]!)).toBeUndefined();
    expect(joiner.join(b[0]!)).toBeUndefined();
    expect(joiner.join(a[1]!)).toEqual({ value: { text: 'a'.repeat(100_000) } });
    expect(joiner.join(b[1]!)).toEqual({ value: { text: 'b'.repeat(100_000) } });
  });

  it('[F6] refuses more than 1 MiB, in one value or in many that never end', () => {
    expect(() => jsonFrames(message, 0, 'x'.repeat(limits.jsonBytes))).toThrow(FrameError);
    const joiner = new JsonJoiner();
    const part = new Uint8Array(limits.payloadBytes).fill(32);
    expect(() => {
      for (let stream = 0; stream < 17; stream++) joiner.join({ ...more(part), stream });
    }).toThrow(FrameError);
  });

  it('[F6] forgets the parts of a stream that is over', () => {
    const joiner = new JsonJoiner();
    const part = new Uint8Array(limits.payloadBytes).fill(32);
    for (let stream = 1; stream < 200; stream++) {
      joiner.join({ ...more(part), stream });
      joiner.drop(stream);
    }
  });

  it('[F6] refuses broken UTF-8, broken JSON, an empty part, and nesting deeper than 32', () => {
    expect(() => parseJson(new Uint8Array([0x22, 0xff, 0x22]))).toThrow(FrameError);
    expect(() => parseJson(jsonBytes({ a: 1 }).subarray(1))).toThrow(FrameError);
    expect(() => new JsonJoiner().join(more(new Uint8Array(0)))).toThrow(FrameError);
    const nested = (depth: number) => new TextEncoder().encode('['.repeat(depth) + ']'.repeat(depth));
    expect(parseJson(nested(32))).toBeDefined();
    expect(() => parseJson(nested(33))).toThrow(FrameError);
    expect(() => parseJson(nested(100_000))).toThrow(FrameError);
    expect(parseJson(jsonBytes({ text: '[[[['.repeat(100) }))).toBeDefined();
  });

  it('[K6] never fails with anything but a FrameError, whatever comes', () => {
    const frame = fc.record({
      type: fc.constantFrom(message, open),
      flags: fc.integer({ min: 0, max: 1 }),
      stream: fc.integer({ min: 0, max: 3 }),
      offset: fc.constant(0),
      payload: fc.uint8Array({ maxLength: 20 }),
    });
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 30 }), (frames) => {
        const joiner = new JsonJoiner();
        for (const each of frames)
          try {
            joiner.join(each);
          } catch (error) {
            if (!(error instanceof FrameError)) throw error;
          }
      }),
    );
  });
});
