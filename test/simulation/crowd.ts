/** People of one kind in a world: they come one after the other in its storm, and have what they wanted when it is at rest. */
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import type { Invariants } from './invariants.ts';
import type { Reader } from './reader.ts';

/** Somebody who uses a session until it is over. */
export interface Person {
  readonly name: string;
  readonly sessionId: string;
  readonly isOver: boolean;
}

/** Lets somebody come about every `everyMs` (never, when that is infinite), until `comes` answers false. */
export function comeOneByOne(time: VirtualTime, chance: Chance, everyMs: number, comes: () => boolean): void {
  if (everyMs === Number.POSITIVE_INFINITY) return;
  const next = (): void => void time.after(chance.delayMs(everyMs), () => comes() && next());
  next();
}

/** Names of those who still wait in a session that takes it (`takes`). */
export function whoWaits(people: readonly Person[], takes: (sessionId: string) => boolean): string[] {
  return people.filter(({ isOver, sessionId }) => !isOver && takes(sessionId)).map(({ name }) => name);
}

/**
 * [K3]: steps until nobody is `left`, or none of them came to their end for `withinMs`. Who waits behind others in a queue is
 * not stuck while those come to theirs.
 */
export async function untilOver(
  { time, invariants }: { time: VirtualTime; invariants: Invariants },
  { left, step, withinMs }: { left: () => readonly string[]; step: () => Promise<void>; withinMs: number },
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
  if (before > 0) invariants.violated(`[K3] ${left().join()} wait for ever`);
}

/** How long a reader may take in calm weather. */
const readMs = 120_000;

/**
 * Steps until all readers are over. One that was waited for in vain; who rests for minutes has as long behind that as
 * anybody.
 */
export async function whoIsLate(
  { time, invariants }: { time: VirtualTime; invariants: Invariants },
  readers: readonly Reader[],
  step: () => Promise<void>,
): Promise<Reader | undefined> {
  const waiting = (): Reader | undefined => readers.find(({ isOver }) => !isOver);
  let deadline = time.nowMs + readMs;
  while (waiting() !== undefined && time.nowMs < deadline && invariants.violations.length === 0) {
    await step();
    if (waiting()?.isResting) deadline = time.nowMs + readMs;
  }
  return waiting();
}
