/** Real randomness, behind the port of `schema/ports.ts`. */
import type { Random } from '../../schema/ports.ts';

/** Random bytes made in one call for many: each call into the runtime costs about as much as a small request's parsing. */
const poolBytes = 4096;
let pool = new Uint8Array(0);
let used = 0;

function take(count: number): Uint8Array {
  if (count > poolBytes) return crypto.getRandomValues(new Uint8Array(count));
  if (used + count > pool.length) {
    pool = crypto.getRandomValues(new Uint8Array(poolBytes));
    used = 0;
  }
  const bytes = pool.slice(used, used + count);
  pool.fill(0, used, used + count);
  used += count;
  return bytes;
}

export const systemRandom: Random = {
  bytes: take,
  fraction: () => Math.random(),
};
