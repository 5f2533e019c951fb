/** The random numbers of a simulated world: one stream for each component, so that one more draw of one moves no other. */
import type { Random } from '../../schema/ports.ts';

export class Chance {
  readonly #seed: number;
  #state: number;

  constructor(seed: number) {
    this.#seed = seed >>> 0;
    this.#state = this.#seed;
  }

  /** The stream of a component; the same name gives the same stream. */
  fork(name: string): Chance {
    let hash = (this.#seed ^ 0x811c9dc5) >>> 0;
    for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193) >>> 0;
    return new Chance(hash);
  }

  /** Uniform in [0, 1): a mulberry32 generator. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer within [min, max]. */
  integer(min: number, max: number): number {
    return min + Math.floor(this.next() * (max - min + 1));
  }

  isTrue(probability: number): boolean {
    return probability > 0 && this.next() < probability;
  }

  /** Undefined of nothing. */
  pick<Item>(items: readonly Item[]): Item | undefined {
    return items.length === 0 ? undefined : items[Math.floor(this.next() * items.length)];
  }

  /** Mostly small, sometimes very large: milliseconds around `usual`, at most a hundred times as long. */
  delayMs(usual: number): number {
    const u = this.next();
    return usual * (u < 0.9 ? 0.5 + u : u < 0.99 ? 4 * (1 + u) : 40 * (1 + u));
  }

  /** The production port. */
  port(): Random {
    return {
      bytes: (count) => Uint8Array.from({ length: count }, () => Math.floor(this.next() * 256)),
      fraction: () => this.next(),
    };
  }
}
