/** Frames of every kind for fast-check, and what SPEC.md says of their bytes, written a second time and by itself. */
import * as fc from 'fast-check';
import type { FromInit, SpawnSpec, StreamNumber, ToInit } from '../../../agent-daemon/init/messages.ts';

const alphabet = Array.from('0123456789abcdefghjkmnpqrstvwxyz');
const processId = fc
  .array(fc.constantFrom(...alphabet), { minLength: 26, maxLength: 26 })
  .map((letters) => `prc_${letters.join('')}`);
const offset = fc.nat(Number.MAX_SAFE_INTEGER);
const stream = fc.constantFrom<StreamNumber>(1, 2);
const u16 = fc.nat(0xffff);
const u32 = fc.nat(0xffff_ffff);
const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 });
const data = fc.uint8Array({ minLength: 1, maxLength: 2000 });
/** Any text that a process may be given: no NUL, no half surrogates. */
const text = fc.string({ unit: 'grapheme', maxLength: 40 }).map((value) => value.replaceAll('\0', ''));

const spec: fc.Arbitrary<SpawnSpec> = fc
  .record(
    {
      processId,
      argv: fc.array(text, { minLength: 1, maxLength: 20 }),
      env: fc.dictionary(
        text.map((name) => name.replaceAll('=', '') || 'N'),
        text,
        { maxKeys: 20 },
      ),
      cwd: text,
      user: fc.record({
        uid: fc.nat(0xffff_fffe),
        gid: fc.nat(0xffff_fffe),
        groups: fc.array(u32, { maxLength: 32 }),
      }),
      tty: fc.record({ rows: u16, cols: u16 }),
      stdin: fc.constantFrom('open' as const, 'null' as const),
      rlimits: fc.array(
        fc
          .record({ resource: fc.nat(15), low: fc.nat(Number.MAX_SAFE_INTEGER), more: fc.option(fc.nat(1000)) })
          .map(({ resource, low, more }) => ({ resource, soft: low, hard: more === null ? null : low + more })),
        { maxLength: 16 },
      ),
      output: fc.record({ onFull: fc.constantFrom('block' as const, 'drop' as const), blockMs: fc.nat(86_400_000) }),
      drainMs: fc.nat(600_000),
    },
    { requiredKeys: ['processId', 'argv', 'env'] },
  )
  .filter(({ rlimits = [] }) => rlimits.every(({ hard }) => hard === null || hard <= Number.MAX_SAFE_INTEGER));

export const toInit: fc.Arbitrary<ToInit> = fc.oneof(
  fc.record({ type: fc.constantFrom('key' as const, 'challenge' as const), nonce: bytes32, secret: bytes32 }),
  fc.record({ type: fc.constantFrom('welcome' as const, 'ping' as const) }),
  fc.record({ type: fc.constant('spawn' as const), spec }),
  fc.record({ type: fc.constant('stdin' as const), processId, offset, bytes: data }),
  fc.record({ type: fc.constant('stdinClose' as const), processId, offset }),
  fc.record({ type: fc.constant('resize' as const), processId, rows: u16, cols: u16 }),
  fc.record({
    type: fc.constant('signal' as const),
    processId,
    signal: fc.integer({ min: 1, max: 64 }),
    scope: fc.constantFrom('process' as const, 'group' as const, 'session' as const),
  }),
  fc.record({ type: fc.constantFrom('ack' as const, 'resume' as const), processId, stream, offset }),
  fc.record({ type: fc.constant('release' as const), processId }),
  fc.record({
    type: fc.constant('lease' as const),
    deadlineBootMs: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
  }),
  fc.record({ type: fc.constant('terminate' as const), graceMs: fc.nat(3_600_000) }),
  fc.record({ type: fc.constant('shutdown' as const), now: fc.boolean() }),
);

const exit = fc.record({
  kind: fc.constantFrom('code' as const, 'signal' as const, 'failed' as const),
  value: fc.nat(255),
  errno: u32,
  timeMs: offset,
  ends: fc.record({ 1: offset, 2: offset }),
  final: fc.boolean(),
  message: text,
});

const state = fc.record({
  processId,
  pid: u32,
  tty: fc.boolean(),
  stdinOpen: fc.boolean(),
  started: fc.boolean(),
  startedMs: offset,
  stdinOffset: offset,
  acked: fc.record({ 1: offset, 2: offset }),
});

export const fromInit: fc.Arbitrary<FromInit> = fc.oneof(
  fc.record({ type: fc.constant('hello' as const), version: u16, hasKey: fc.boolean(), nonce: bytes32, tag: bytes32 }),
  fc.record({ type: fc.constant('proof' as const), proof: bytes32 }),
  fc
    .record({ state, exit: fc.option(exit), ends: fc.record({ 1: offset, 2: offset }) })
    .map(({ state, exit, ends }): FromInit => ({
      type: 'state',
      state: exit ? { ...state, ends: exit.ends, exit: { ...exit, message: '' } } : { ...state, ends },
    })),
  fc.record({
    type: fc.constant('ready' as const),
    leaseExpired: fc.boolean(),
    terminating: fc.boolean(),
    ringBytes: u32,
    bootMs: offset,
  }),
  fc.record({ type: fc.constant('spawned' as const), processId, pid: u32 }),
  fc.record({
    type: fc.constant('stdinAck' as const),
    processId,
    offset,
    room: fc.boolean(),
    closed: fc.boolean(),
  }),
  fc.record({ type: fc.constant('output' as const), processId, stream, offset, timeMs: offset, bytes: data }),
  fc
    .record({ processId, stream, from: fc.nat(2 ** 40), size: fc.integer({ min: 1, max: 2 ** 40 }) })
    .map(({ size, ...gap }): FromInit => ({ type: 'gap', ...gap, to: gap.from + size })),
  fc.record({ type: fc.constant('exit' as const), processId, exit }),
  fc.record({ type: fc.constant('leaseExpired' as const) }),
  fc.record({ type: fc.constant('pong' as const), seq: u32 }),
  fc.record({ type: fc.constant('done' as const), seq: u32 }),
  fc.record({
    type: fc.constant('refused' as const),
    seq: u32,
    refusal: fc.constantFrom(
      'limit' as const,
      'resources',
      'lease_expired',
      'terminating',
      'unknown_process',
      'wrong_state',
    ),
    message: text,
  }),
);
