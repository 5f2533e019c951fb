/** The agent's parser of what an init says: the same however it is cut, one kind of refusal, never more held than one frame. */
import { FrameReader, headerBytes, MalformedFrame, maxPayloadBytes } from '../../../agent-daemon/init/codec.ts';
import type { FromInit } from '../../../agent-daemon/init/messages.ts';
import type { Rng } from '../../support/random.ts';
import { hold, type Target } from '../fuzzer.ts';

const id = 'prc_0123456789abcdefghjkmnpqrs';
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const exit = [Buffer.from([1, 3, 0, 0, 0, 0]), u64(1), u64(9), u64(7)];

export const initFrames: Target = {
  name: 'init-frames',
  maxBytes: 3 * 1024,
  seeds: () => [
    Buffer.concat([frame(1, Buffer.from([1, 0, 1, 0]), Buffer.alloc(64, 5)), frame(4, Buffer.alloc(32, 6))]),
    frame(32, id, Buffer.from([23, 1, 0, 0, 0]), u64(1), u64(2), u64(3), u64(4), ...exit),
    Buffer.concat([frame(33, Buffer.from([3, 0, 0, 4, 0]), u64(12_345)), frame(34, id, Buffer.alloc(4, 1))]),
    Buffer.concat([frame(35, id, u64(77), Buffer.from([3])), frame(37, id, Buffer.from([2]), u64(5), u64(6))]),
    frame(36, id, Buffer.from([1]), u64(0), u64(99), Buffer.from('output')),
    Buffer.concat([frame(38, id, Buffer.from([1]), ...exit, Buffer.from('é')), frame(39), frame(40), frame(41)]),
    frame(42, Buffer.from([5]), Buffer.from('no such process')),
  ],
  mend: mendLengths,
  run(input, rng) {
    const whole = outcome([input]);
    const cuts: Buffer[] = [];
    for (let at = 0; at < input.length;) {
      const size = Math.min(input.length - at, rng.integer(1, 400));
      cuts.push(input.subarray(at, (at += size)));
    }
    const cut = outcome(cuts);
    hold(JSON.stringify(whole.frames) === JSON.stringify(cut.frames), 'the same frames however it is cut');
    hold(whole.refused === cut.refused, 'refused the same however it is cut');
    const prefix = outcome([input.subarray(0, rng.integer(0, input.length))]);
    hold(
      JSON.stringify(whole.frames.slice(0, prefix.frames.length)) === JSON.stringify(prefix.frames),
      'a prefix says the beginning of the same',
    );
    hold(whole.heldBytes <= headerBytes + maxPayloadBytes, 'no more is held than one frame');
  },
};

function frame(type: number, ...parts: (Buffer | string)[]): Buffer {
  const payload = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const header = Buffer.alloc(headerBytes);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt32LE(7, 4);
  header[8] = type;
  return Buffer.concat([header, payload]);
}

function outcome(chunks: readonly Buffer[]): { frames: FromInit[]; refused: string | undefined; heldBytes: number } {
  const reader = new FrameReader();
  const frames: FromInit[] = [];
  let pushed = 0;
  try {
    for (const chunk of chunks) {
      pushed += chunk.length;
      for (const each of reader.push(chunk)) frames.push(each);
    }
  } catch (error) {
    if (!(error instanceof MalformedFrame)) throw error;
    return { frames, refused: error.message, heldBytes: 0 };
  }
  return { frames, refused: undefined, heldBytes: reader.pending ? pushed : 0 };
}

/** Gives frames the length that they have, mostly. */
function mendLengths(rng: Rng, input: Buffer): Buffer {
  if (rng.next() < 0.2 || input.length < headerBytes) return input;
  for (let at = 0; at + headerBytes <= input.length;) {
    const room = input.length - at - headerBytes;
    const length = Math.min(room, input.readUInt32LE(at));
    const last = room - length < headerBytes;
    input.writeUInt32LE(last ? room : length, at);
    if (rng.next() < 0.9) input.fill(0, at + 9, at + 12);
    at += headerBytes + (last ? room : length);
  }
  return input;
}
