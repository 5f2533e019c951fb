/**
 * scrypt (RFC 7914, p = 1) in slices. The runtime's own holds the only thread for some 44 ms, in which nothing else is
 * answered; this takes as long in all, and lets others pass every millisecond or two. Slices count steps, since a
 * Worker's clock stands still while it computes.
 */
import { pbkdf2Sync } from 'node:crypto';

/** Blocks mixed between two pauses: at r = 8 a slice takes about a millisecond. */
const stepsPerSlice = 512;

export interface ScryptCost {
  /** Binary logarithm of the cost, 1 to 20. */
  logN: number;
  /** Block size in units of 128 bytes. */
  r: number;
}

/**
 * The key that `node:crypto` derives from the same: `length` bytes. Needs 128 * r * 2^logN bytes of memory.
 * @param pause resolves when others had their turn
 */
export async function scryptInSlices(
  password: Uint8Array | string,
  salt: Uint8Array,
  { logN, r }: ScryptCost,
  length: number,
  pause: () => Promise<void>,
): Promise<Uint8Array> {
  const size = 32 * r;
  const block = toWords(pbkdf2Sync(password, salt, 1, 4 * size, 'sha256'));
  for (const _ of mixing(block, 2 ** logN, size)) await pause();
  const mixed = new Uint8Array(block.buffer, block.byteOffset, block.byteLength);
  return new Uint8Array(pbkdf2Sync(password, mixed, 1, length, 'sha256'));
}

/** Little-endian words, as every machine that a Worker runs on has them. */
function toWords(bytes: Uint8Array): Uint32Array {
  const words = new Uint32Array(bytes.byteLength / 4);
  new Uint8Array(words.buffer).set(bytes);
  return words;
}

/** scryptROMix on `block` in place; yields after each slice. */
function* mixing(block: Uint32Array, n: number, size: number): Generator<void> {
  const table = new Uint32Array(n * size);
  table.set(block);
  for (let at = 1; at < n; at += 1) {
    mixBlock(table, (at - 1) * size, table, at * size, size);
    if (at % stepsPerSlice === 0) yield;
  }
  mixBlock(table, (n - 1) * size, block, 0, size);
  const sum = new Uint32Array(size);
  for (let step = 0; step < n; step += 1) {
    const at = (block[size - 16]! & (n - 1)) * size;
    for (let word = 0; word < size; word += 1) sum[word] = block[word]! ^ table[at + word]!;
    mixBlock(sum, 0, block, 0, size);
    if (step % stepsPerSlice === 0) yield;
  }
}

/** scryptBlockMix: `size` words of `from` at `fromAt` into `to` at `toAt`; even blocks first, then odd ones. */
function mixBlock(from: Uint32Array, fromAt: number, to: Uint32Array, toAt: number, size: number): void {
  const half = size / 2;
  let last = from;
  let lastAt = fromAt + size - 16;
  for (let at = 0; at < size; at += 32) {
    const even = toAt + at / 2;
    salsa(last, lastAt, from, fromAt + at, to, even);
    salsa(to, even, from, fromAt + at + 16, to, even + half);
    last = to;
    lastAt = even + half;
  }
}

/** Salsa20/8 of the exclusive or of two blocks of 16 words. */
function salsa(a: Uint32Array, aAt: number, b: Uint32Array, bAt: number, to: Uint32Array, toAt: number): void {
  const j0 = a[aAt]! ^ b[bAt]!;
  const j1 = a[aAt + 1]! ^ b[bAt + 1]!;
  const j2 = a[aAt + 2]! ^ b[bAt + 2]!;
  const j3 = a[aAt + 3]! ^ b[bAt + 3]!;
  const j4 = a[aAt + 4]! ^ b[bAt + 4]!;
  const j5 = a[aAt + 5]! ^ b[bAt + 5]!;
  const j6 = a[aAt + 6]! ^ b[bAt + 6]!;
  const j7 = a[aAt + 7]! ^ b[bAt + 7]!;
  const j8 = a[aAt + 8]! ^ b[bAt + 8]!;
  const j9 = a[aAt + 9]! ^ b[bAt + 9]!;
  const j10 = a[aAt + 10]! ^ b[bAt + 10]!;
  const j11 = a[aAt + 11]! ^ b[bAt + 11]!;
  const j12 = a[aAt + 12]! ^ b[bAt + 12]!;
  const j13 = a[aAt + 13]! ^ b[bAt + 13]!;
  const j14 = a[aAt + 14]! ^ b[bAt + 14]!;
  const j15 = a[aAt + 15]! ^ b[bAt + 15]!;
  let x0 = j0;
  let x1 = j1;
  let x2 = j2;
  let x3 = j3;
  let x4 = j4;
  let x5 = j5;
  let x6 = j6;
  let x7 = j7;
  let x8 = j8;
  let x9 = j9;
  let x10 = j10;
  let x11 = j11;
  let x12 = j12;
  let x13 = j13;
  let x14 = j14;
  let x15 = j15;
  let t = 0;
  for (let round = 0; round < 4; round += 1) {
    t = (x0 + x12) | 0;
    x4 ^= (t << 7) | (t >>> 25);
    t = (x4 + x0) | 0;
    x8 ^= (t << 9) | (t >>> 23);
    t = (x8 + x4) | 0;
    x12 ^= (t << 13) | (t >>> 19);
    t = (x12 + x8) | 0;
    x0 ^= (t << 18) | (t >>> 14);
    t = (x5 + x1) | 0;
    x9 ^= (t << 7) | (t >>> 25);
    t = (x9 + x5) | 0;
    x13 ^= (t << 9) | (t >>> 23);
    t = (x13 + x9) | 0;
    x1 ^= (t << 13) | (t >>> 19);
    t = (x1 + x13) | 0;
    x5 ^= (t << 18) | (t >>> 14);
    t = (x10 + x6) | 0;
    x14 ^= (t << 7) | (t >>> 25);
    t = (x14 + x10) | 0;
    x2 ^= (t << 9) | (t >>> 23);
    t = (x2 + x14) | 0;
    x6 ^= (t << 13) | (t >>> 19);
    t = (x6 + x2) | 0;
    x10 ^= (t << 18) | (t >>> 14);
    t = (x15 + x11) | 0;
    x3 ^= (t << 7) | (t >>> 25);
    t = (x3 + x15) | 0;
    x7 ^= (t << 9) | (t >>> 23);
    t = (x7 + x3) | 0;
    x11 ^= (t << 13) | (t >>> 19);
    t = (x11 + x7) | 0;
    x15 ^= (t << 18) | (t >>> 14);
    t = (x0 + x3) | 0;
    x1 ^= (t << 7) | (t >>> 25);
    t = (x1 + x0) | 0;
    x2 ^= (t << 9) | (t >>> 23);
    t = (x2 + x1) | 0;
    x3 ^= (t << 13) | (t >>> 19);
    t = (x3 + x2) | 0;
    x0 ^= (t << 18) | (t >>> 14);
    t = (x5 + x4) | 0;
    x6 ^= (t << 7) | (t >>> 25);
    t = (x6 + x5) | 0;
    x7 ^= (t << 9) | (t >>> 23);
    t = (x7 + x6) | 0;
    x4 ^= (t << 13) | (t >>> 19);
    t = (x4 + x7) | 0;
    x5 ^= (t << 18) | (t >>> 14);
    t = (x10 + x9) | 0;
    x11 ^= (t << 7) | (t >>> 25);
    t = (x11 + x10) | 0;
    x8 ^= (t << 9) | (t >>> 23);
    t = (x8 + x11) | 0;
    x9 ^= (t << 13) | (t >>> 19);
    t = (x9 + x8) | 0;
    x10 ^= (t << 18) | (t >>> 14);
    t = (x15 + x14) | 0;
    x12 ^= (t << 7) | (t >>> 25);
    t = (x12 + x15) | 0;
    x13 ^= (t << 9) | (t >>> 23);
    t = (x13 + x12) | 0;
    x14 ^= (t << 13) | (t >>> 19);
    t = (x14 + x13) | 0;
    x15 ^= (t << 18) | (t >>> 14);
  }
  to[toAt] = j0 + x0;
  to[toAt + 1] = j1 + x1;
  to[toAt + 2] = j2 + x2;
  to[toAt + 3] = j3 + x3;
  to[toAt + 4] = j4 + x4;
  to[toAt + 5] = j5 + x5;
  to[toAt + 6] = j6 + x6;
  to[toAt + 7] = j7 + x7;
  to[toAt + 8] = j8 + x8;
  to[toAt + 9] = j9 + x9;
  to[toAt + 10] = j10 + x10;
  to[toAt + 11] = j11 + x11;
  to[toAt + 12] = j12 + x12;
  to[toAt + 13] = j13 + x13;
  to[toAt + 14] = j14 + x14;
  to[toAt + 15] = j15 + x15;
}
