/** Who runs code in a world: some people in its storm, and one more when it has come to rest. */
import type { Accounts } from './accounts.ts';
import type { Chance } from './chance.ts';
import type { VirtualTime } from './clock.ts';
import { Coder } from './coder.ts';
import type { SimEdge } from './edge/edge.ts';
import { Way } from './edge/links.ts';
import type { Invariants } from './invariants.ts';
import type { People } from './people.ts';
import { comeOneByOne, untilOver, whoWaits } from './crowd.ts';
import type { Sometimes } from './sometimes.ts';

/** What they have of their world. */
export interface CodersWorld {
  readonly time: VirtualTime;
  readonly chance: Chance;
  readonly sometimes: Sometimes;
  readonly edge: SimEdge;
  readonly ways: Map<string, Way>;
  readonly accounts: Accounts;
  readonly people: People;
  readonly invariants: Invariants;
}

const maxCoders = 12;
/** How long code may take in calm weather, where it does not wait for other code. */
const runMs = 120_000;

export class Coders {
  readonly name = 'coders';
  readonly #world: CodersWorld;
  readonly #started: Coder[] = [];
  #count = 0;
  #isTired = false;

  constructor(world: CodersWorld) {
    this.#world = world;
  }

  /** In most worlds people run code in sessions. */
  begin(chance: Chance): void {
    const { time, people } = this.#world;
    const everyMs = chance.pick([1_000, 5_000, 20_000, Number.POSITIVE_INFINITY])!;
    comeOneByOne(time, chance, everyMs, () => {
      if (this.#isTired || this.#count >= maxCoders) return false;
      const chosen = chance.pick([...people.promised.keys()].slice(-8));
      if (chosen !== undefined) this.#start(chosen);
      return true;
    });
  }

  /** The runs under way are the last. */
  tire(): void {
    this.#isTired = true;
    for (const coder of this.#started) coder.tire();
  }

  /**
   * [K3]: code is run to its end where a session takes it (`takes`), what was asked for in the storm and what is asked for
   * now. A session that ends meanwhile takes its runs along.
   */
  async atRest(takes: (sessionId: string) => boolean, step: () => Promise<void>): Promise<void> {
    const { people } = this.#world;
    const chosen = [...people.promised.keys()].find(takes);
    const asked = { isOver: chosen === undefined };
    if (chosen !== undefined)
      void this.#make(chosen)
        .execute('print 3 100')
        .then((isOver) => Object.assign(asked, { isOver }));
    const left = (): string[] => {
      const due = !asked.isOver && chosen !== undefined && takes(chosen) ? [`the last in ${chosen}`] : [];
      return [...due, ...whoWaits(this.#started, takes)];
    };
    await untilOver(this.#world, { left, step, withinMs: runMs });
  }

  #start(sessionId: string): void {
    const coder = this.#make(sessionId);
    this.#started.push(coder);
    void coder.run();
  }

  #make(sessionId: string): Coder {
    const { time, chance, sometimes, edge, ways, accounts, invariants } = this.#world;
    this.#count += 1;
    const name = `code-${this.#count}`;
    const way = new Way();
    ways.set(name, way);
    return new Coder(sessionId, name, {
      time,
      chance: chance.fork(name),
      sometimes,
      edge,
      way,
      token: accounts.owner.text,
      times: (placement, runId) => invariants.timesRan(placement, runId),
      violated: (what) => invariants.seen(what),
    });
  }
}
