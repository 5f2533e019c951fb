/** JSON spread over frames: the joiner against joining by hand, its bound, and the parser's refusals. */
import {
  decodeFrames,
  encodeFrames,
  type Frame,
  frameFlags,
  FrameError,
  frameTypes,
} from '../../../schema/protocol/frame.ts';
import { isJsonType, JsonJoiner, jsonFrames, parseJson } from '../../../schema/protocol/json.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { ToAgent, ToEdge } from '../../../schema/protocol/messages.ts';
import { StreamOpen } from '../../../schema/protocol/streams.ts';
import { hold, type Target } from '../fuzzer.ts';
import { frames as frameTarget } from './frames.ts';

const { message, open, reset } = frameTypes;
const { more } = frameFlags;

export const json: Target = {
  name: 'json',
  maxBytes: 3 * 1024,
  seeds: () => [
    parts([message, 0, more, '{"type":"rep'], [message, 0, 0, 'ort","report":{}}']),
    parts([open, 5, more, '{"op":"lo'], [open, 6, more, '{"op":'], [open, 5, 0, 'gs"}'], [open, 6, 0, '"echo"}']),
    parts([reset, 1, 0, '{"code":"x","detail":"\\u0000\\ud800"}'], [message, 0, 0, '['.repeat(33) + ']'.repeat(33)]),
    parts([
      open,
      1,
      0,
      '{"op":"process","processId":"main","spawn":{"argv":["a"],"env":{"A":"b"},"tty":{"rows":1,"columns":2}}}',
    ]),
    Buffer.from(encodeFrames(jsonFrames(message, 0, { type: 'goAway', spreadMs: 1, reason: 'é\u{1f600}' }))),
  ],
  mend: (rng, input) => frameTarget.mend?.(rng, input) ?? input,
  run(input) {
    const list = ruled(() => decodeFrames(input));
    if (list === undefined) return;
    const joiner = new JsonJoiner();
    const held = new Map<string, Buffer[]>();
    for (const frame of list) {
      if (!isJsonType(frame.type)) continue;
      const joined = ruled(() => ({ value: joiner.join(frame) }));
      const byHand = takeByHand(held, frame);
      if (joined === undefined) {
        hold(
          byHand === undefined ||
            byHand.length === 0 ||
            ruled(() => ({ value: parseJson(byHand) })) === undefined ||
            tooMuch(held),
          'a refusal has a reason',
        );
        return;
      }
      hold((joined.value === undefined) === (byHand === undefined), 'a value is complete when its last frame came');
      if (joined.value === undefined || byHand === undefined) continue;
      const text = JSON.stringify(joined.value.value);
      hold(text === JSON.stringify(parseJson(byHand)), 'the same value as joined by hand');
      const again = jsonFrames(frame.type, frame.stream, joined.value.value);
      hold(
        again.length > 0 && again.every((each) => each.payload.length <= limits.payloadBytes),
        'it can be sent again',
      );
      for (const schema of [ToEdge, ToAgent, StreamOpen]) schema.safeParse(joined.value.value);
    }
  },
};

function parts(...list: [Frame['type'], number, number, string][]): Buffer {
  const made = list.map(([type, stream, flags, text]) => ({
    type,
    stream,
    flags,
    offset: 0,
    payload: Buffer.from(text),
  }));
  return Buffer.from(encodeFrames(made));
}

/** The result, or undefined when a rule was broken. */
function ruled<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof FrameError)) throw error;
    return undefined;
  }
}

function takeByHand(held: Map<string, Buffer[]>, frame: Frame): Buffer | undefined {
  const key = `${frame.type} ${frame.stream}`;
  const all = [...(held.get(key) ?? []), Buffer.from(frame.payload)];
  if ((frame.flags & more) !== 0) {
    held.set(key, all);
    return frame.payload.length === 0 ? Buffer.alloc(0) : undefined;
  }
  held.delete(key);
  return Buffer.concat(all);
}

function tooMuch(held: Map<string, Buffer[]>): boolean {
  return [...held.values()].flat().reduce((sum, part) => sum + part.length, 0) > limits.jsonBytes;
}
