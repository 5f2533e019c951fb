/** The codec: what goes in comes out, and whatever else comes in is refused with the rule that it breaks. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  channelFlags,
  channelOf,
  decodeFrames,
  encodeFrame,
  encodeFrames,
  type Frame,
  FrameError,
  frameTypes,
} from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';

const anyFrame: fc.Arbitrary<Frame> = fc.record({
  type: fc.constantFrom(...Object.values(frameTypes)),
  flags: fc.integer({ min: 0, max: 7 }),
  stream: fc.integer({ min: 0, max: 0xff_ff_ff_ff }),
  offset: fc.integer({ min: 0, max: 2 ** 48 - 1 }),
  payload: fc.uint8Array({ maxLength: 300 }),
});

function ruleOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof FrameError) return error.rule;
    throw error;
  }
  return 'none';
}

const plain = encodeFrame({ type: frameTypes.data, flags: 0, stream: 7, offset: 5, payload: new Uint8Array(9) });

describe('the codec', () => {
  it('[F2] gives back every frame of a message as it was put in', () => {
    fc.assert(
      fc.property(fc.array(anyFrame, { minLength: 1, maxLength: 20 }), (frames) => {
        expect(decodeFrames(encodeFrames(frames))).toEqual(frames);
      }),
    );
  });

  it('[F3] carries a payload of 64 KiB and refuses one byte more', () => {
    const frame = { type: frameTypes.data, flags: 0, stream: 1, offset: 0 };
    const full = encodeFrame({ ...frame, payload: new Uint8Array(limits.payloadBytes).fill(1) });
    expect(decodeFrames(full)[0]?.payload.byteLength).toBe(limits.payloadBytes);
    expect(ruleOf(() => encodeFrame({ ...frame, payload: new Uint8Array(limits.payloadBytes + 1) }))).toBe('F3');
    const forged = new Uint8Array(limits.payloadBytes + 100);
    forged.set(plain.subarray(0, 16));
    new DataView(forged.buffer).setUint32(2, limits.payloadBytes + 1);
    expect(ruleOf(() => decodeFrames(forged))).toBe('F3');
  });

  it('[F1] [F5] refuses another version, an unknown type and unknown flags', () => {
    const broken = (at: number, value: number) => {
      const bytes = plain.slice();
      bytes[at] = value;
      return ruleOf(() => decodeFrames(bytes));
    };
    expect(broken(0, 2)).toBe('F1');
    expect(broken(1, 0)).toBe('F5');
    expect(broken(1, 10)).toBe('F5');
    expect(broken(2, 0b1000)).toBe('F5');
  });

  it('[F4] refuses an empty message and one over 1 MiB', () => {
    expect(ruleOf(() => decodeFrames(new Uint8Array(0)))).toBe('F4');
    expect(ruleOf(() => decodeFrames(new Uint8Array(limits.messageBytes + 1)))).toBe('F4');
  });

  it('[F2] refuses a message cut at any byte', () => {
    for (let length = 1; length < plain.byteLength; length++)
      expect(ruleOf(() => decodeFrames(plain.subarray(0, length)))).toBe('F2');
  });

  it('[F5] keeps channel and MORE apart', () => {
    for (const channel of [0, 1, 2, 3] as const) {
      expect(channelOf({ flags: channelFlags(channel) })).toBe(channel);
      expect(channelOf({ flags: channelFlags(channel) | 1 })).toBe(channel);
    }
  });

  it('[K6] never fails with anything but a FrameError, whatever comes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        ruleOf(() => decodeFrames(bytes));
      }),
      { numRuns: 2000 },
    );
  });
});
