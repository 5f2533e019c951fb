import { spawnSync } from 'node:child_process';
import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encode, FrameReader, MalformedFrame } from '../../../agent-daemon/init/codec.ts';
import type { FromInit, ProcessExit, SpawnSpec, ToInit } from '../../../agent-daemon/init/messages.ts';
import { runToEnd } from '../../support/process.ts';
import { byTier } from '../../support/tier.ts';
import { tmpDir, type TmpDir } from '../../support/tmp.ts';
import { fromInit, toInit } from './arbitrary.ts';
import { initFolder, newProcessId } from './harness.ts';

const numRuns = byTier({ daily: 500, full: 20_000 });

const number = (size: number, value: number | bigint): Buffer => {
  const bytes = Buffer.alloc(size);
  for (let i = 0, rest = BigInt(value); i < size; i++, rest >>= 8n) bytes[i] = Number(rest & 255n);
  return bytes;
};

const flags = (...bits: boolean[]): number => bits.reduce((sum, bit, place) => sum + (bit ? 2 ** place : 0), 0);

const exitBytes = (kind: number, exit: Omit<ProcessExit, 'kind' | 'final' | 'message'>): Buffer[] => [
  number(1, kind),
  number(1, exit.value),
  number(4, exit.errno),
  number(8, exit.timeMs),
  number(8, exit.ends[1]),
  number(8, exit.ends[2]),
];

const kinds = ['none', 'code', 'signal', 'failed'];
const refusals = ['limit', 'resources', 'lease_expired', 'terminating', 'unknown_process', 'wrong_state'];
const types = { hello: 1, proof: 4, state: 32, ready: 33, spawned: 34, stdinAck: 35, output: 36, gap: 37, exit: 38 };
const moreTypes = { leaseExpired: 39, pong: 40, done: 41, refused: 42 };

/** The init's frames as SPEC.md describes them. */
function payloadOf(frame: FromInit): (Buffer | Uint8Array)[] {
  switch (frame.type) {
    case 'hello':
      return [number(2, frame.version), number(1, Number(frame.hasKey)), number(1, 0), frame.nonce, frame.tag];
    case 'proof':
      return [frame.proof];
    case 'state': {
      const { state } = frame;
      const { exit } = state;
      const none = { value: 0, errno: 0, timeMs: 0, ends: state.ends };
      return [
        Buffer.from(state.processId),
        number(1, flags(state.tty, state.stdinOpen, exit !== undefined, exit?.final ?? false, state.started)),
        number(4, state.pid),
        number(8, state.startedMs),
        number(8, state.stdinOffset),
        number(8, state.acked[1]),
        number(8, state.acked[2]),
        ...exitBytes(exit ? kinds.indexOf(exit.kind) : 0, exit ?? none),
      ];
    }
    case 'ready':
      return [
        number(1, flags(frame.leaseExpired, frame.terminating)),
        number(4, frame.ringBytes),
        number(8, frame.bootMs),
      ];
    case 'spawned':
      return [Buffer.from(frame.processId), number(4, frame.pid)];
    case 'stdinAck':
      return [Buffer.from(frame.processId), number(8, frame.offset), number(1, flags(frame.room, frame.closed))];
    case 'output':
      return [
        Buffer.from(frame.processId),
        number(1, frame.stream),
        number(8, frame.offset),
        number(8, frame.timeMs),
        frame.bytes,
      ];
    case 'gap':
      return [Buffer.from(frame.processId), number(1, frame.stream), number(8, frame.from), number(8, frame.to)];
    case 'exit':
      return [
        Buffer.from(frame.processId),
        number(1, Number(frame.exit.final)),
        ...exitBytes(kinds.indexOf(frame.exit.kind), frame.exit),
        Buffer.from(frame.exit.message),
      ];
    case 'refused':
      return [number(1, refusals.indexOf(frame.refusal) + 1), Buffer.from(frame.message)];
    case 'leaseExpired':
    case 'pong':
    case 'done':
      return [];
  }
}

function bytesOf(frame: FromInit, change = (payload: Buffer): Buffer => payload): Buffer {
  const payload = change(Buffer.concat(payloadOf(frame)));
  const seq = 'seq' in frame ? frame.seq : 0;
  const type = { ...types, ...moreTypes }[frame.type];
  return Buffer.concat([number(4, payload.length), number(4, seq), number(1, type), number(3, 0), payload]);
}

/** Frames with Buffers as plain arrays, to be compared. */
const plain = (frames: Iterable<FromInit>): unknown[] =>
  [...frames].map((frame) =>
    Object.fromEntries(
      Object.entries(frame).map(([key, value]) => [key, value instanceof Uint8Array ? [...value] : value]),
    ),
  );

describe("the agent's parser", () => {
  it('[I2] reads every frame of the init, however the bytes are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fromInit, { maxLength: 8 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 700 })),
        (frames, cuts) => {
          const reader = new FrameReader();
          const seen: FromInit[] = [];
          let rest = Buffer.concat(frames.map((frame) => bytesOf(frame)));
          while (rest.length > 0) {
            const { value: size } = cuts.next();
            seen.push(...reader.push(rest.subarray(0, size)));
            rest = rest.subarray(size);
          }
          expect(plain(seen)).toEqual(plain(frames));
          expect(reader.pending).toBe(false);
        },
      ),
      { numRuns },
    );
  });

  it('[I1] [I2] refuses every other byte sequence by MalformedFrame alone', () => {
    const noise = fc.uint8Array({ maxLength: 400 });
    const typed = fc
      .tuple(fc.constantFrom(...Object.values(types), ...Object.values(moreTypes)), noise)
      .map(([type, payload]) =>
        Buffer.concat([number(4, payload.length), number(4, 1), number(1, type), number(3, 0), payload]),
      );
    const mutated = fc.tuple(fromInit, fc.nat(), fc.nat(255)).map(([frame, place, byte]) => {
      const bytes = bytesOf(frame);
      bytes[place % bytes.length] = byte;
      return bytes;
    });
    fc.assert(
      fc.property(fc.oneof(noise, typed, mutated), (bytes) => {
        try {
          for (const frame of new FrameReader().push(Buffer.from(bytes))) expect(frame.type).toBeTypeOf('string');
        } catch (error) {
          expect(error).toBeInstanceOf(MalformedFrame);
        }
      }),
      { numRuns: numRuns * 4 },
    );
  });

  it('[I1] refuses a frame that is one byte too short or too long', () => {
    const open = new Set(['output', 'exit', 'refused']); // their last field takes what there is
    fc.assert(
      fc.property(
        fromInit.filter(({ type }) => !open.has(type)),
        (frame) => {
          const longer = bytesOf(frame, (payload) => Buffer.concat([payload, Buffer.alloc(1)]));
          expect(() => [...new FrameReader().push(longer)]).toThrow(MalformedFrame);
          if (payloadOf(frame).length === 0) return;
          const shorter = bytesOf(frame, (payload) => payload.subarray(0, -1));
          expect(() => [...new FrameReader().push(shorter)]).toThrow(MalformedFrame);
        },
      ),
      { numRuns },
    );
  });

  it('[I1] refuses a payload over its limit before it has arrived, and reserved bytes', () => {
    const header = (length: number, type: number, reserved: number): Buffer =>
      Buffer.concat([number(4, length), number(4, 0), number(1, type), number(3, reserved)]);
    expect(() => [...new FrameReader().push(header(256 * 1024 + 1, 36, 0))]).toThrow(/too large/);
    expect(() => [...new FrameReader(128).push(header(129, 1, 0))]).toThrow(/too large/);
    expect(() => [...new FrameReader().push(header(0, 39, 1))]).toThrow(/reserved/);
  });
});

describe("the agent's encoder", () => {
  const spec: SpawnSpec = { processId: newProcessId(), argv: ['a'], env: {} };
  const spawn = (more: Partial<SpawnSpec>): ToInit => ({ type: 'spawn', spec: { ...spec, ...more } });
  const id = { processId: spec.processId };

  it.each<[string, ToInit]>([
    ['an id that is none', { type: 'release', processId: 'prc_x' }],
    ['no argv', spawn({ argv: [] })],
    ['a NUL', spawn({ argv: ['a\0b'] })],
    ['a variable without a name', spawn({ env: { '': 'x' } })],
    ['a variable with "=" in its name', spawn({ env: { 'a=b': 'x' } })],
    ['more strings than the init takes', spawn({ argv: Array<string>(4097).fill('a') })],
    ['a frame that is too large', spawn({ argv: ['a'.repeat(300_000)] })],
    ['a directory that is too long', spawn({ cwd: '/'.repeat(4096) })],
    ['the user that means nobody', spawn({ user: { uid: 0xffff_ffff, gid: 0 } })],
    ['too many groups', spawn({ user: { uid: 0, gid: 0, groups: Array<number>(33).fill(1) } })],
    ['an unknown limit', spawn({ rlimits: [{ resource: 16, soft: 0, hard: 0 }] })],
    ['a soft limit above the hard one', spawn({ rlimits: [{ resource: 7, soft: null, hard: 5 }] })],
    ['a wait that is too long', spawn({ output: { onFull: 'block', blockMs: 86_400_001 } })],
    ['a negative wait', spawn({ drainMs: -1 })],
    ['half a row', spawn({ tty: { rows: 0.5, cols: 1 } })],
    ['a negative offset', { type: 'stdinClose', ...id, offset: -1 }],
    ['no bytes', { type: 'stdin', ...id, offset: 0, bytes: Buffer.alloc(0) }],
    ['too many bytes', { type: 'stdin', ...id, offset: 0, bytes: Buffer.alloc(65_537) }],
    ['signal 0', { type: 'signal', ...id, signal: 0, scope: 'group' }],
    ['signal 65', { type: 'signal', ...id, signal: 65, scope: 'group' }],
    ['a grace that is too long', { type: 'terminate', graceMs: 3_600_001 }],
    ['no deadline', { type: 'lease', deadlineBootMs: 0 }],
  ])('refuses %s', (_, frame) => {
    expect(() => encode(frame)).toThrow(RangeError);
  });
});

describe("the init's parser", () => {
  let scratch: TmpDir;
  beforeAll(async () => {
    scratch = tmpDir('wire');
    const source = new URL('wire-dump.c', import.meta.url).pathname;
    await runToEnd('gcc', [
      '-std=gnu17',
      '-O1',
      `-I${initFolder}`,
      source,
      `${initFolder}wire.c`,
      '-o',
      `${scratch.path}/dump`,
    ]);
  });
  afterAll(() => scratch.remove());

  const dump = (frames: Buffer): string[] => {
    const { status, stdout } = spawnSync(`${scratch.path}/dump`, { input: frames, maxBuffer: 2 ** 28 });
    expect(status).toBe(0);
    return stdout.toString().trimEnd().split('\n');
  };

  it('[I2] understands every frame of the agent as it was meant', () => {
    const frames = fc.sample(toInit, numRuns);
    expect(dump(Buffer.concat(frames.map((frame) => encode(frame, 7))))).toEqual(frames.map(lineOf));
  });

  it('[I1] refuses a frame that is one byte too short or too long', () => {
    const frames = fc.sample(toInit, numRuns).filter(({ type }) => type !== 'stdin');
    const resized = (frame: ToInit, by: number): Buffer => {
      const bytes = encode(frame);
      const longer = Buffer.concat([bytes, Buffer.alloc(Math.max(by, 0))]).subarray(0, bytes.length + by);
      longer.writeUInt32LE(longer.length - 12, 0);
      return longer;
    };
    expect(new Set(dump(Buffer.concat(frames.map((frame) => resized(frame, 1)))))).toEqual(new Set(['malformed']));
    const shortened = frames.filter((frame) => encode(frame).length > 12);
    expect(new Set(dump(Buffer.concat(shortened.map((frame) => resized(frame, -1)))))).toEqual(new Set(['malformed']));
  });
});

const hex = (bytes: Uint8Array | string): string => `x${Buffer.from(bytes).toString('hex')}`;
const toInitTypes = {
  key: 2,
  challenge: 3,
  welcome: 5,
  spawn: 16,
  stdin: 17,
  stdinClose: 18,
  resize: 19,
  signal: 20,
  ack: 21,
  resume: 22,
  release: 23,
  lease: 24,
  terminate: 25,
  shutdown: 26,
  ping: 27,
};

/** What wire-dump.c prints for a frame. */
function lineOf(frame: ToInit): string {
  const type = toInitTypes[frame.type];
  switch (frame.type) {
    case 'key':
    case 'challenge':
      return [type, hex(frame.nonce), hex(frame.secret)].join(' ');
    case 'spawn':
      return [type, frame.spec.processId, ...spawnLine(frame.spec)].join(' ');
    case 'stdin':
      return [type, frame.processId, frame.offset, hex(frame.bytes)].join(' ');
    case 'stdinClose':
      return [type, frame.processId, frame.offset].join(' ');
    case 'resize':
      return [type, frame.processId, frame.rows, frame.cols].join(' ');
    case 'signal':
      return [type, frame.processId, frame.signal, ['process', 'group', 'session'].indexOf(frame.scope)].join(' ');
    case 'ack':
    case 'resume':
      return [type, frame.processId, frame.stream, frame.offset].join(' ');
    case 'release':
      return [type, frame.processId].join(' ');
    case 'lease':
      return [type, frame.deadlineBootMs].join(' ');
    case 'terminate':
      return [type, frame.graceMs].join(' ');
    case 'shutdown':
      return [type, Number(frame.now)].join(' ');
    case 'welcome':
    case 'ping':
      return String(type);
  }
}

function spawnLine(spec: SpawnSpec): (string | number)[] {
  const { tty, user, rlimits = [], output, env } = spec;
  const groups = user?.groups ?? [];
  const unlimited = (2n ** 64n - 1n).toString();
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  return [
    flags(tty !== undefined, spec.stdin === 'open' || tty !== undefined, user !== undefined, output?.onFull === 'drop'),
    output?.blockMs ?? 600_000,
    spec.drainMs ?? 2000,
    tty?.rows ?? 0,
    tty?.cols ?? 0,
    user?.uid ?? 0,
    user?.gid ?? 0,
    groups.length,
    ...groups,
    rlimits.length,
    ...rlimits.flatMap(({ resource, soft, hard }) => [resource, soft ?? unlimited, hard ?? unlimited]),
    hex(spec.cwd ?? '/'),
    spec.argv.length,
    ...spec.argv.map(hex),
    variables.length,
    ...variables.map(hex),
  ];
}
