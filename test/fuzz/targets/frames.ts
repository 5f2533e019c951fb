/** The tunnel's frame codec: whole messages against pieces of them, and back into bytes. */
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
import { FramePieces } from '../../../schema/protocol/frame-pieces.ts';
import { jsonFrames } from '../../../schema/protocol/json.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Rng } from '../../support/random.ts';
import { hold, type Target } from '../fuzzer.ts';

export const frames: Target = {
  name: 'frames',
  maxBytes: 3 * 1024,
  seeds: () => [
    Buffer.from(encodeFrames(Object.values(frameTypes).map((type, at) => frame(type, at, Buffer.alloc(at * 3, at))))),
    Buffer.from(
      encodeFrames(
        [1, 2].map((at) => frame(frameTypes.data, at, Buffer.alloc(500, 7), channelFlags(channels.stdout), 2 ** 40)),
      ),
    ),
    Buffer.from(encodeFrames(jsonFrames(frameTypes.open, 1, { op: 'echo' }))),
    Buffer.from(
      encodeFrames([frame(frameTypes.data, 9, Buffer.from('{"kind":"exit"}'), channelFlags(channels.control))]),
    ),
  ],
  mend: cutAtFrames,
  run(input, rng) {
    const whole = outcome(() => decodeFrames(input));
    const inPieces = outcome(() => piecewise(input, rng));
    hold(whole.rule === inPieces.rule, `pieces say ${inPieces.rule ?? 'good'}, the whole ${whole.rule ?? 'good'}`);
    if (whole.rule !== undefined) return;
    hold(Buffer.from(encodeFrames(whole.frames)).equals(input), 'what was decoded encodes to the same bytes');
    hold(joined(whole.frames).equals(joined(inPieces.frames)), 'pieces carry the same frames');
    hold(
      outcome(() => decodeFrames(input.subarray(0, -1))).rule !== undefined || input.length > limits.headerBytes,
      'a prefix is refused, or shorter frames',
    );
  },
};

function frame(type: Frame['type'], stream: number, payload: Uint8Array, flags = 0, offset = 0): Frame {
  return { type, stream, payload, flags, offset };
}

/** Sets lengths so that frames lie one behind the other, now and then. */
function cutAtFrames(rng: Rng, input: Buffer): Buffer {
  if (rng.next() < 0.3) return input;
  const bytes = Buffer.from(input);
  for (let at = 0; at + limits.headerBytes <= bytes.length;) {
    const rest = bytes.length - at - limits.headerBytes;
    const length = rng.next() < 0.5 ? Math.min(rest, bytes.readUIntBE(at + 3, 3)) : rng.integer(0, rest);
    bytes[at] = rng.next() < 0.97 ? limits.frameVersion : bytes[at]!;
    bytes[at + 1] = rng.next() < 0.97 ? 1 + (bytes[at + 1]! % 9) : bytes[at + 1]!;
    bytes[at + 2] = rng.next() < 0.97 ? bytes[at + 2]! & 7 : bytes[at + 2]!;
    bytes.writeUIntBE(rest - length < limits.headerBytes ? rest : length, at + 3, 3);
    at += limits.headerBytes + (rest - length < limits.headerBytes ? rest : length);
  }
  return bytes;
}

function outcome(work: () => Frame[]): { frames: Frame[]; rule?: string } {
  try {
    return { frames: work() };
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    return { frames: [], rule: error.rule };
  }
}

/** Each piece in the same buffer as the one before, which is written over. */
function piecewise(input: Buffer, rng: Rng): Frame[] {
  const pieces = new FramePieces();
  const got: Frame[] = [];
  const take = (frame: Frame): void => void got.push({ ...frame, payload: Buffer.from(frame.payload) });
  const scratch = Buffer.alloc(512);
  let at = 0;
  do {
    const size = Math.min(input.length - at, rng.integer(1, scratch.length));
    scratch.fill(0xee);
    input.copy(scratch, 0, at, at + size);
    at += size;
    pieces.push(scratch.subarray(0, size), at === input.length, take);
  } while (at < input.length);
  return got;
}

/** Frames as bytes, data of one channel that goes on joined: the only thing that pieces may change. */
function joined(list: readonly Frame[]): Buffer {
  const parts: Uint8Array[] = [];
  let key = '';
  let next = -1;
  for (const each of list) {
    const inParts = each.type === frameTypes.data && channelOf(each) !== channels.control && each.payload.length > 0;
    const mine = `${each.type} ${each.flags} ${each.stream}`;
    if (!(inParts && key === mine && next === each.offset)) parts.push(Buffer.from(`\n${mine} ${each.offset} `));
    parts.push(each.payload);
    key = mine;
    next = inParts ? each.offset + each.payload.length : -1;
  }
  return Buffer.concat(parts);
}
