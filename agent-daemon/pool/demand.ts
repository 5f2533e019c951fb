/** Which kinds of containers are worth starting in advance: those that were started again and again of late. Pure. */

/** A start is remembered for so long: a person who works comes back within it. */
const memoryMs = 15 * 60_000;
/** Starts of one kind that are remembered; more make it no more wanted. */
const maxStarts = 16;
/** Kinds that are remembered. */
const maxKinds = 64;

export class Demand<Kind> {
  readonly #kinds = new Map<string, { kind: Kind; startsMs: number[] }>();

  /** A container of this kind was started. `key`: what makes two kinds the same. */
  started(key: string, kind: Kind, nowMs: number): void {
    const startsMs = [...(this.#kinds.get(key)?.startsMs ?? []), nowMs].slice(-maxStarts);
    this.#kinds.delete(key);
    this.#kinds.set(key, { kind, startsMs });
    const [oldest] = this.#kinds.keys();
    if (this.#kinds.size > maxKinds && oldest !== undefined) this.#kinds.delete(oldest);
  }

  /**
   * How many of each kind to hold, at most `most` together: as many as were started of late, those that were started most
   * often first, and of equals the last started.
   */
  wanted(most: number, nowMs: number): Map<string, { kind: Kind; count: number }> {
    for (const [key, { startsMs }] of this.#kinds)
      if ((startsMs.at(-1) ?? 0) <= nowMs - memoryMs) this.#kinds.delete(key);
    const byDemand = [...this.#kinds]
      .map(([key, { kind, startsMs }]) => ({ key, kind, starts: startsMs.filter((atMs) => atMs > nowMs - memoryMs) }))
      .toSorted((a, b) => b.starts.length - a.starts.length || b.starts.at(-1)! - a.starts.at(-1)!);
    const wanted = new Map<string, { kind: Kind; count: number }>();
    let left = most;
    for (const { key, kind, starts } of byDemand) {
      const count = Math.min(left, starts.length);
      if (count > 0) wanted.set(key, { kind, count });
      left -= count;
    }
    return wanted;
  }
}
