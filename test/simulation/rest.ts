/** At rest: what was begun in the storm comes to its end. */
import type { VirtualTime } from './clock.ts';
import type { Invariants } from './invariants.ts';

export interface RestingWorld {
  time: VirtualTime;
  invariants: Invariants;
}

/**
 * Steps until nothing is `left`, or none of it came to its end for `withinMs`. What waits behind others in a queue is not
 * stuck while those come to theirs. Then what is left is a violation, in the words of `says`.
 */
export async function untilDone(
  { time, invariants }: RestingWorld,
  {
    left,
    step,
    withinMs,
    says,
  }: {
    left: () => readonly string[];
    step: () => Promise<void>;
    withinMs: number;
    says: (left: readonly string[]) => string;
  },
): Promise<void> {
  let before = left().length;
  let deadline = time.nowMs + withinMs;
  while (before > 0 && time.nowMs < deadline) {
    if (invariants.violations.length > 0) return;
    await step();
    const now = left().length;
    if (now < before) deadline = time.nowMs + withinMs;
    before = now;
  }
  if (before > 0) invariants.violated(says(left()));
}
