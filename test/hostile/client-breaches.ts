/**
 * Every rule of the tunnel that a client's socket can break, broken once, with what SPEC.md says must become of it; and the
 * rules that it can not break, with the reason. Rows and reasons together name every rule of SPEC.md.
 */
import { encodeFrame, encodeFrames, type Frame, frameFlags, frameTypes } from '../../schema/protocol/frame.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { ClientSocket } from '../support/client-socket.ts';

/** What becomes of the socket, or of the stream `id` alone. */
export type Outcome = { close: number; reason: string } | { reset: string; id?: number };

export interface Breach {
  rule: string;
  what: string;
  /** The operation of stream 1, which is open before; default echo. */
  outcome: Outcome;
  /** `id`: the open stream. */
  act(socket: ClientSocket, id: number): void;
}

const { data, end, mark, marked, message, open, opened, reset, window } = frameTypes;
const protocolError = 1002;

const frame = (type: Frame['type'], more: Partial<Frame> = {}): Uint8Array =>
  encodeFrame({ type, flags: 0, stream: 0, offset: 0, payload: new Uint8Array(0), ...more });
const json = (value: unknown): Uint8Array => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const channel = (number: number): number => number << frameFlags.channelShift;
const changed = (at: number, value: number): Uint8Array => {
  const bytes = frame(data, { stream: 1, payload: json('abc') });
  bytes[at] = value;
  return bytes;
};

/** A rule whose breach closes the socket. */
function closes(rule: string, what: string, make: (id: number) => Uint8Array | string, code = protocolError): Breach {
  return { rule, what, outcome: { close: code, reason: rule }, act: ({ ws }, id) => ws.send(make(id)) };
}

/** A rule whose breach ends one stream. */
function resets(rule: string, what: string, code: string, make: (id: number) => Uint8Array, id?: number): Breach {
  const outcome = id === undefined ? { reset: code } : { reset: code, id };
  return { rule, what, outcome, act: ({ ws }, id) => ws.send(make(id)) };
}

const fresh = 77;

export const breaches: readonly Breach[] = [
  closes('F1', 'another version', () => changed(0, 2)),
  closes('F2', 'a message that ends within a header', () => frame(data, { stream: 1 }).subarray(0, 9)),
  closes('F2', 'a message that ends within a payload', () => frame(data, { payload: json('abc') }).subarray(0, 17)),
  closes('F3', 'a payload over 64 KiB', () => changed(3, 2)),
  closes('F4', 'a message over 1 MiB', () => new Uint8Array(limits.messageBytes + 1), 1009),
  closes('F4', 'a message without a byte', () => new Uint8Array(0), 1009),
  closes('F5', 'an unknown type', () => changed(1, 10)),
  closes('F5', 'unknown flags', () => changed(2, 8)),
  closes('F5', 'a message of the socket', () => frame(message, { payload: json({ type: 'hello' }) })),
  closes('F5', 'an answer to an OPEN', (stream) => frame(opened, { stream, payload: json({}) })),
  closes('F5', 'a mark', () => frame(mark, { payload: new Uint8Array(8) })),
  closes('F6', 'JSON that is none', () => frame(open, { stream: fresh, payload: json('{"op":') })),
  closes('F6', 'broken UTF-8', () => frame(open, { stream: fresh, payload: Buffer.from([0x22, 0xff, 0x22]) })),
  closes('F6', 'JSON nested too deep', () => frame(open, { stream: fresh, payload: json('['.repeat(33)) })),
  closes('F6', 'MORE on DATA', (stream) => frame(data, { stream, flags: frameFlags.more, payload: json('a') })),
  closes('F6', 'a RESET of more than 4 KiB', (stream) =>
    frame(reset, { stream, payload: json({ code: 'x', detail: 'y'.repeat(4096) }) }),
  ),
  closes('F6', 'a RESET in parts', (stream) => frame(reset, { stream, flags: frameFlags.more, payload: json('{') })),
  {
    rule: 'F6',
    what: 'an OPEN without an end',
    outcome: { close: protocolError, reason: 'F6' },
    act({ ws }) {
      const part = { stream: fresh, flags: frameFlags.more, payload: new Uint8Array(limits.payloadBytes).fill(32) };
      for (let sent = 0; sent <= limits.jsonBytes; sent += limits.payloadBytes) ws.send(frame(open, part));
    },
  },
  resets('F6', 'an OPEN with an unknown key', 'tunnel_op_unknown', () => opening({ op: 'echo', also: 1 }), fresh),
  resets(
    'K3',
    'an operation that the address does not open',
    'tunnel_op_unknown',
    () => opening({ op: 'logs' }),
    fresh,
  ),
  {
    rule: 'K3',
    what: 'more than 64 streams',
    outcome: { reset: 'tunnel_stream_limit', id: 1000 + limits.streamsPerSocket },
    act({ ws }) {
      for (let id = 1000; id <= 1000 + limits.streamsPerSocket; id++)
        ws.send(frame(open, { stream: id, payload: json({ op: 'echo' }) }));
    },
  },
  closes('K5', 'a text that is no ping', () => 'hello'),
  {
    rule: 'K6',
    what: 'a thousand good frames and one that breaks a rule',
    outcome: { close: protocolError, reason: 'S3' },
    act({ ws }, stream) {
      const good = Array.from({ length: 1000 }, () => frame(window, { stream, payload: Buffer.alloc(4) }));
      ws.send(Buffer.concat([...good, frame(window, { stream })]));
    },
  },
  closes('S1', 'an OPEN of stream 0', () => frame(open, { payload: json({ op: 'echo' }) })),
  closes('S1', 'an OPEN of a stream that is open', (stream) => frame(open, { stream, payload: json({ op: 'echo' }) })),
  closes('S2', 'DATA without a byte', (stream) => frame(data, { stream })),
  resets('S2', 'an offset that goes back', 'tunnel_frame_invalid', (stream) =>
    encodeFrames([10, 5].map((offset) => ({ type: data, flags: 0, stream, offset, payload: json('abc') }))),
  ),
  resets('S3', 'more than the credit', 'tunnel_window_exceeded', (stream) => {
    const payload = new Uint8Array(limits.payloadBytes);
    const sent = [0, 1, 2, 3, 4].map((at) => ({ type: data, flags: 0, stream, offset: at * payload.length, payload }));
    return encodeFrames(sent);
  }),
  closes('S3', 'a grant that is no number', (stream) => frame(window, { stream, payload: json('abc') })),
  closes('S5', 'an answer to a mark of another size', () => frame(marked, { payload: new Uint8Array(7) })),
  closes('S5', 'an answer to a mark on a stream', (stream) => frame(marked, { stream, payload: new Uint8Array(8) })),
  closes('S7', "DATA on the agent's channel", (stream) =>
    frame(data, { stream, flags: channel(1), payload: json('a') }),
  ),
  closes('S7', "an END of the agent's channel", (stream) => frame(end, { stream, flags: channel(2) })),
  closes('S7', 'two ENDs', (stream) => Buffer.concat([frame(end, { stream }), frame(end, { stream })])),
  closes('S7', 'DATA behind END', (stream) =>
    Buffer.concat([frame(end, { stream }), frame(data, { stream, payload: json('a') })]),
  ),
  closes('S7', 'an END with bytes', (stream) => frame(end, { stream, payload: json('a') })),
  resets(
    'S8',
    'DATA for a stream that never was',
    'tunnel_stream_unknown',
    () => frame(data, { stream: fresh, payload: json('a') }),
    fresh,
  ),
];

function opening(value: unknown): Uint8Array {
  return frame(open, { stream: fresh, payload: json(value) });
}

/** Rules that are not a client's to break over its socket, or whose breach has a test of its own. */
export const notAClients: Readonly<Record<string, string>> = {
  K1: "an agent's control socket",
  K2: "an agent's data sockets",
  K4: 'before there is a socket: the test below',
  K7: 'names codes of the hub',
  K8: 'is about versions of agents: a client says none',
  ...Object.fromEntries(
    Array.from({ length: 12 }, (_, at) => [`M${at + 1}`, 'the control socket, which no client has']),
  ),
  S4: 'who grants late only waits longer: test/edge/tunnel/data-hub.test.ts',
  S6: "the hub's own",
  S9: 'of the operation `process`, judged by the agent: test/agent-daemon/processes/streams.test.ts',
  S10: "the agent's",
  S11: 'by losing its right: the test below',
  S12: "an agent's socket",
  S13: "an agent's socket",
  S14: "the senders' at the other end",
  S15: 'of the operation `execute`, judged by the agent: test/agent-daemon/kernels',
  S17: 'of the operation `channels`, judged by the agent: test/agent-daemon/kernels',
  S16: 'of SSH, judged by its server in the agent: test/agent-daemon/ssh/connections.test.ts',
  S18: 'of the operation `terminal`, judged by the agent: test/agent-daemon/terminals',
  S19: 'of the operation `terminal`, judged by the agent: test/agent-daemon/terminals',
  S20: 'of the operation `lines`, judged by the agent: test/agent-daemon/processes/lines.test.ts',
  S21: 'of the operation `connect`, judged by the agent: test/agent-daemon/forward/streams.test.ts',
  S22: 'of SSH, judged by its server in the agent: test/agent-daemon/ssh/forwarding.test.ts',
};
