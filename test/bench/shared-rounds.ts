/** Rounds that several rows read: each is measured once in a run, by the row that comes to it first. */
import type { BenchContext } from './context.ts';

/** `measure` as a function of the run and the number of the round. */
export function sharedRounds<T>(
  measure: (context: BenchContext) => Promise<T>,
): (context: BenchContext, round: number) => Promise<T> {
  const runs = new WeakMap<BenchContext, Promise<T>[]>();
  return (context, round) => {
    const known = runs.get(context) ?? [];
    runs.set(context, known);
    return (known[round] ??= measure(context));
  };
}
