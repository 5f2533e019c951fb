import { expect, it } from 'vitest';
import { InputLog } from '../../../schema/protocol/input-log.ts';

const never = new AbortController().signal;
const bytes = (text: string) => new TextEncoder().encode(text);
const text = (part: Uint8Array | undefined) => (part === undefined ? undefined : new TextDecoder().decode(part));

it('hands out what was read, in order, and then its end', async () => {
  const log = new InputLog();
  log.push(bytes('one '), () => {});
  log.push(bytes('two'), () => {});
  log.end();
  expect([text(await log.next(never)), await log.next(never)]).toEqual(['one two', undefined]);
  expect(log.exhausted).toBe(true);
});

it('goes on from any offset that the far end names, in the middle of a piece too', async () => {
  const log = new InputLog();
  log.push(bytes('abcdef'), () => {});
  await log.next(never);
  log.push(bytes('ghi'), () => {});
  expect(log.rewind(4)).toBe(true);
  expect(text(await log.next(never))).toBe('efghi');
  expect(log.rewind(10)).toBe(false);
});

it('keeps what was typed key by key as blocks, and gives it back as it was', async () => {
  const log = new InputLog();
  const typed = Uint8Array.from({ length: 200_000 }, (_, at) => (at * 31) % 251);
  for (let at = 0; at < typed.byteLength; at++) log.push(typed.subarray(at, at + 1), () => {});
  expect(log.unsentBytes).toBe(typed.byteLength);
  expect(log.rewind(100_000)).toBe(true);
  const pieces: Uint8Array[] = [];
  while (log.unsentBytes > 0) pieces.push((await log.next(never))!);
  expect(pieces.map(({ byteLength }) => byteLength)).toEqual([31_072, 65_536, 3_392]);
  expect(Buffer.concat(pieces).equals(typed.subarray(100_000))).toBe(true);
});

it('pauses the reader at 1 MiB unsent and calls it back when there is room', async () => {
  const log = new InputLog();
  let resumed = 0;
  const piece = new Uint8Array(256 * 1024);
  expect([1, 2, 3].map(() => log.push(piece, () => resumed++))).toEqual([true, true, true]);
  expect(log.push(piece, () => resumed++)).toBe(false);
  for (let piece = 0; piece < 16; piece++) await log.next(never); // 1 MiB in pieces of 64 KiB
  expect(resumed).toBe(1);
});

it('lets go of what no cut can lose any more, so that memory is bounded', async () => {
  const log = new InputLog();
  const piece = new Uint8Array(1024 * 1024);
  for (let sent = 0; sent < 20; sent++) {
    log.push(piece, () => {});
    for (let at = 0; at < 16; at++) await log.next(never);
  }
  expect(log.rewind(0)).toBe(false);
  expect(log.rewind(4 * 1024 * 1024)).toBe(true);
});

it('stops waiting when told to', async () => {
  const stop = new AbortController();
  const waiting = new InputLog().next(stop.signal);
  stop.abort();
  expect(await waiting).toBeUndefined();
});
