/** One end of a socket, of agents and clients: whatever the other end sends, it is taken, answered, or refused by a rule, and little is held. */
import {
  channelFlags,
  channels,
  encodeFrames,
  FrameError,
  frameTypes,
  type Frame,
} from '../../../schema/protocol/frame.ts';
import { Endpoint } from '../../../schema/protocol/endpoint.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Rng } from '../../support/random.ts';
import { hold, type Target } from '../fuzzer.ts';
import { frames as frameTarget } from './frames.ts';

const { data, end, mark, open, opened, reset, window } = frameTypes;
const { input, stdout, control } = channels;

export const endpoint: Target = {
  name: 'endpoint',
  maxBytes: 8 * 1024,
  seeds: () => [
    of(
      [open, 2, '{"op":"echo"}'],
      [data, 2, 'abc'],
      [data, 2, 'def', input, 3],
      [end, 2, '', input, 6],
      [end, 2, '', control],
    ),
    of(
      [opened, 1, '{"inputOffset":5}'],
      [data, 1, 'out', stdout],
      [window, 1, '\0\0\u0001\0'],
      [end, 1, '', stdout, 3],
    ),
    of(
      [opened, 1, '{}'],
      [data, 1, '{"kind":"exit"}', control],
      [reset, 1, '{"code":"gone"}'],
      [data, 1, 'late', stdout],
    ),
    of([mark, 0, '12345678'], [open, 3, '{}'], [reset, 3, '{}'], [open, 3, '{}']),
  ],
  mend: fewStreams,
  run(input, rng) {
    const sides = { sent: 0, taken: 0 };
    const tasks: (() => void)[] = [];
    const end = new Endpoint(
      {
        send: (message, sent) => {
          sides.sent += message.byteLength;
          tasks.push(sent);
        },
        soon: (task) => void tasks.push(task),
        nowMs: () => sides.taken,
      },
      {
        maxWindowBytes: limits.maxWindowBytes,
        accept: (stream, asked) => (asked === null ? stream.reset('no') : stream.opened()),
        message: () => {},
        maxStreams: 4,
      },
    );
    end.open({ op: 'echo' });
    try {
      for (let at = 0; at < input.length;) {
        const size = Math.min(input.length - at, rng.integer(1, 600));
        end.receivePiece(input.subarray(at, at + size), at + size === input.length);
        at += size;
        sides.taken += size;
        if (rng.next() < 0.5) for (const task of tasks.splice(0)) task();
      }
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      end.close('tunnel_closed');
    }
    for (let turns = 0; tasks.length > 0 && turns < 100; turns++) for (const task of tasks.splice(0)) task();
    hold(end.streams <= 4, 'no more streams than allowed');
    hold(end.heldBytes <= input.length + 64 * 1024, `${end.heldBytes} bytes held for ${input.length}`);
    hold(sides.sent <= 4096 + input.length * 8, `${sides.sent} bytes said for ${input.length}`);
  },
};

function of(...list: [Frame['type'], number, string, (0 | 1 | 2 | 3)?, number?][]): Buffer {
  const made = list.map(([type, stream, text, channel = 0, offset = 0]) => ({
    type,
    stream,
    flags: channelFlags(channel),
    offset,
    payload: Buffer.from(text, 'latin1'),
  }));
  return Buffer.from(encodeFrames(made));
}

/** Ids and offsets that meet each other. */
function fewStreams(rng: Rng, bytes: Buffer): Buffer {
  const mended = frameTarget.mend?.(rng, bytes) ?? bytes;
  for (let at = 0; at + limits.headerBytes <= mended.length; at += limits.headerBytes + mended.readUIntBE(at + 3, 3)) {
    if (rng.next() < 0.8) mended.writeUInt32BE(mended[at + 9]! % 6, at + 6);
    if (rng.next() < 0.8) mended.writeUIntBE(mended[at + 15]! % 8, at + 10, 6);
  }
  return mended;
}
