/**
 * Maps whose changes are taken back when a transaction fails: the ground of stores that live in memory. `crashAfter(n)`
 * makes the n-th write from now throw, so that a test can stop at every step.
 */

/** Thrown at the write that `crashAfter` chose. */
export class PlannedCrash extends Error {}

export class UndoMaps {
  #log: (() => void)[] | undefined;
  #writes = 0;
  #crashAt = Number.POSITIVE_INFINITY;

  /** Runs `work`; when it throws, every change since is taken back. */
  transaction<Result>(work: () => Result): Result {
    this.#log = [];
    try {
      return work();
    } catch (error) {
      for (const undo of this.#log.toReversed()) undo();
      throw error;
    } finally {
      this.#log = undefined;
    }
  }

  /** The `writes`-th write from now throws instead of writing. */
  crashAfter(writes: number): void {
    this.#crashAt = this.#writes + writes;
  }

  /** Writes since birth. */
  writes(): number {
    return this.#writes;
  }

  /** Sets a value, or with undefined takes it out. */
  set<Value>(map: Map<string, Value>, key: string, value: Value | undefined): void {
    this.#writes += 1;
    if (this.#writes >= this.#crashAt) {
      this.#crashAt = Number.POSITIVE_INFINITY;
      throw new PlannedCrash('planned crash');
    }
    const before = map.get(key);
    this.#log?.push(() => {
      if (before === undefined) map.delete(key);
      else map.set(key, before);
    });
    if (value === undefined) map.delete(key);
    else map.set(key, value);
  }
}

/** Compares like SQLite compares text: by code units, never by locale. */
export function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** A deep copy of plain data (objects, arrays, bytes, texts, numbers): several times faster than `structuredClone`. */
export function copyOf<Value>(value: Value): Value {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(copyOf) as Value;
  if (value instanceof Uint8Array) return value.slice() as Value;
  const copy: Record<string, unknown> = {};
  for (const key in value) copy[key] = copyOf(value[key]);
  return copy as Value;
}
