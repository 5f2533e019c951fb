/** Who feeds programs in a world: in some worlds a few people. */
import { newId } from '../../schema/ids.ts';
import type { Chance } from './chance.ts';
import type { CodersWorld } from './coders.ts';
import { Way } from './edge/links.ts';
import { Feeder } from './feeder.ts';
import { comeOneByOne, untilOver, whoWaits } from './crowd.ts';

const maxFeeders = 8;
/** How long a program may take in calm weather to read what it is fed, and to end. */
const restMs = 120_000;

export class Feeders {
  readonly name = 'feeders';
  readonly #world: CodersWorld;
  readonly #started: Feeder[] = [];
  #isTired = false;

  constructor(world: CodersWorld) {
    this.#world = world;
  }

  begin(chance: Chance): void {
    const { time, people } = this.#world;
    const everyMs = chance.pick([1_000, 5_000, ...Array.from({ length: 4 }, () => Number.POSITIVE_INFINITY)])!;
    comeOneByOne(time, chance, everyMs, () => {
      if (this.#isTired || this.#started.length >= maxFeeders) return false;
      const chosen = chance.pick([...people.promised.keys()].slice(-8));
      if (chosen !== undefined) this.#start(chosen);
      return true;
    });
  }

  /** What is fed now is the last. */
  tire(): void {
    this.#isTired = true;
    for (const each of this.#started) each.tire();
  }

  /** [K3]: a program that was fed in the storm has ended where its session takes that (`takes`). */
  async atRest(takes: (sessionId: string) => boolean, step: () => Promise<void>): Promise<void> {
    await untilOver(this.#world, { left: () => whoWaits(this.#started, takes), step, withinMs: restMs });
  }

  #start(sessionId: string): void {
    const { time, chance, sometimes, edge, ways, accounts, invariants } = this.#world;
    const name = `feeder-${this.#started.length + 1}`;
    const way = new Way();
    ways.set(name, way);
    const own = chance.fork(name);
    const feeder = new Feeder(sessionId, name, {
      time,
      chance: own,
      sometimes,
      edge,
      way,
      token: accounts.owner.text,
      processId: newId('process', 0, own.fork('process').port().bytes(10)),
      violated: (what) => invariants.seen(what),
    });
    this.#started.push(feeder);
    void feeder.run();
  }
}
