/** What a kind of fault is: a small object that knows what it may hit, does it, and undoes it. */
import type { Rng } from '../support/random.ts';
import type { World } from './world.ts';

export interface Fault<Target = unknown> {
  /** As it is counted and told in the story. */
  name: string;
  /** What it may hit in this world; empty where it can not happen. */
  appliesTo(world: World): readonly Target[];
  /** Healed before the others: a process that is started again may need it. */
  healsFirst?: true;
  /** What nothing else may touch while it lasts, e.g. `edge` or `agent-1 link`; also its target's name in the story. */
  on(target: Target): string;
  /** Does it. Returns what undoes it; by then the part is on its way back, not necessarily there. Throws on a violation. */
  inject(target: Target, random: Rng, world: World): Promise<() => Promise<void>>;
}

/** Keeps the types of a fault and its target together. */
export function fault<Target>(kind: Fault<Target>): Fault {
  return kind as Fault;
}

/** What was found not to hold while a fault was done; anything else that is thrown is a fault of the test itself. */
export class Violation extends Error {}
