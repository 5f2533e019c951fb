/**
 * Blind mutations of bytes that know how binary formats break: lengths that lie, numbers at the edge of their width, parts
 * doubled, lost or taken from another input. A target mends what would only be refused at the door (a checksum). Pure.
 */
import type { Rng } from '../support/random.ts';

/** Where fields of 8 to 64 bits overflow, change sign, or meet a limit of ours. */
const edges = [
  0n,
  1n,
  7n,
  8n,
  9n,
  16n,
  0x7fn,
  0x80n,
  0xffn,
  0x0fffn,
  0x1000n,
  0x7fffn,
  0xffffn,
  0x1_0000n,
  0x1_0001n,
  0x4_0000n,
  0x10_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0x8000_0009n,
  0xffff_ffffn,
  0xffff_ffff_ffffn,
  0x1f_ffff_ffff_ffffn,
  0x20_0000_0000_0000n,
  0x7fff_ffff_ffff_ffffn,
  0xffff_ffff_ffff_ffffn,
];
const widths = [1, 2, 3, 4, 6, 8];

/** `input` after one to six changes; at most `maxBytes` long. `others` lend parts. */
export function mutate(rng: Rng, input: Buffer, others: readonly Buffer[], maxBytes: number): Buffer {
  let bytes: Buffer = Buffer.from(input);
  for (let left = rng.integer(1, 6); left > 0; left--)
    bytes = changes[rng.integer(0, changes.length - 1)]!(rng, bytes, others);
  return bytes.subarray(0, maxBytes);
}

type Change = (rng: Rng, bytes: Buffer, others: readonly Buffer[]) => Buffer;

/** A place in `bytes`, or 0 when there is none. */
const place = (rng: Rng, bytes: Buffer): number => rng.integer(0, Math.max(0, bytes.length - 1));
const span = (rng: Rng, bytes: Buffer): [number, number] => {
  const from = place(rng, bytes);
  return [from, Math.min(bytes.length, from + 2 ** rng.integer(0, 8))];
};

const changes: readonly Change[] = [
  function flipBit(rng, bytes) {
    if (bytes.length > 0) bytes[place(rng, bytes)]! ^= 1 << rng.integer(0, 7);
    return bytes;
  },
  function setByte(rng, bytes) {
    if (bytes.length > 0) bytes[place(rng, bytes)] = rng.integer(0, 255);
    return bytes;
  },
  function setEdge(rng, bytes) {
    const width = widths[rng.integer(0, widths.length - 1)]!;
    const at = place(rng, bytes);
    const big = rng.next() < 0.5;
    let value = edges[rng.integer(0, edges.length - 1)]!;
    for (let i = 0; i < width; i++, value >>= 8n) {
      const to = at + (big ? width - 1 - i : i);
      if (to < bytes.length) bytes[to] = Number(value & 255n);
    }
    return bytes;
  },
  function addLittle(rng, bytes) {
    const at = place(rng, bytes);
    if (bytes.length > 0) bytes[at] = (bytes[at]! + rng.integer(-4, 4)) & 255;
    return bytes;
  },
  function cutEnd(rng, bytes) {
    return bytes.subarray(0, place(rng, bytes));
  },
  function loseSpan(rng, bytes) {
    const [from, to] = span(rng, bytes);
    return Buffer.concat([bytes.subarray(0, from), bytes.subarray(to)]);
  },
  function doubleSpan(rng, bytes) {
    const [from, to] = span(rng, bytes);
    return Buffer.concat([bytes.subarray(0, to), bytes.subarray(from)]);
  },
  function insertNoise(rng, bytes) {
    const at = place(rng, bytes);
    return Buffer.concat([bytes.subarray(0, at), rng.bytes(rng.integer(1, 32)), bytes.subarray(at)]);
  },
  function borrow(rng, bytes, others) {
    const other = others[rng.integer(0, others.length - 1)]!;
    const [from, to] = span(rng, other);
    const at = place(rng, bytes);
    return Buffer.concat([
      bytes.subarray(0, at),
      other.subarray(from, to),
      bytes.subarray(rng.next() < 0.5 ? at : at + to - from),
    ]);
  },
  function append(rng, bytes, others) {
    return Buffer.concat([bytes, others[rng.integer(0, others.length - 1)]!]);
  },
];
