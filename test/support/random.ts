/** Seeded random numbers for tests and faults: the same seed gives the same run. */

export interface Rng {
  /** In [0, 1). */
  next(): number;
  /** An integer in [min, max]. */
  integer(min: number, max: number): number;
  /** `length` pseudo-random bytes, incompressible. */
  bytes(length: number): Buffer;
}

/** A mulberry32 generator; the seed may be any integer. */
export function seededRandom(seed: number): Rng {
  let state = seed >>> 0;
  const word = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  const next = (): number => word() / 2 ** 32;
  return {
    next,
    integer: (min, max) => min + Math.floor(next() * (max - min + 1)),
    bytes: (length) => {
      const words = Uint32Array.from({ length: Math.ceil(length / 4) }, word);
      return Buffer.from(words.buffer, 0, length);
    },
  };
}
