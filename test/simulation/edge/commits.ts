/** Storage of an object whose commits may fail: at one of the writes, and then nothing of the transaction happened. */
import { PlannedCrash } from '../../../edge/platform/undo-map.ts';
import type { Chance } from '../chance.ts';
import type { Life } from '../life.ts';
import type { Sometimes } from '../sometimes.ts';
import type { Weather } from '../weather.ts';

export interface FailingStore {
  transaction<Result>(work: () => Result): Result;
  crashAfter(writes: number): void;
}

export interface CommitPorts {
  weather: Weather;
  chance: Chance;
  sometimes: Sometimes;
  /** The object dies. */
  kill: () => void;
  /** Of the same storage: begins with the transaction, and is undone with it. */
  beside?: { begin(): void; undo(): void } | undefined;
}

/** Within as many writes it fails; a shorter transaction is spared. */
const mostWrites = 8;

/** The store as one life of its object has it. The object dies of a failure, or goes on; who is dead commits nothing. */
export function storeThatFails<Store extends FailingStore>(store: Store, life: Life, ports: CommitPorts): Store {
  const { weather, chance, sometimes, kill, beside } = ports;
  return {
    ...store,
    transaction: (work) => {
      if (!life.isAlive) throw new Error(`${life.name} is dead`);
      if (chance.isTrue(weather.commitFails)) store.crashAfter(chance.integer(1, mostWrites));
      try {
        beside?.begin();
        return store.transaction(work);
      } catch (error) {
        beside?.undo();
        if (error instanceof PlannedCrash) {
          const isDeadly = chance.isTrue(0.5);
          sometimes.reached(isDeadly ? 'an object died within a commit' : 'a commit failed and its object went on');
          if (isDeadly) kill();
        }
        throw error;
      } finally {
        store.crashAfter(Number.POSITIVE_INFINITY);
      }
    },
  };
}
