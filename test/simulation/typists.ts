/** Who sits at terminals in a world: in some worlds a few people at one or two of them, and others who only look. */
import { newId } from '../../schema/ids.ts';
import type { Chance } from './chance.ts';
import { Way } from './edge/links.ts';
import type { NotebooksWorld } from './notebooks.ts';
import { maxTypists, type TerminalPlace, Typist } from './typist.ts';
import { comeOneByOne, untilOver, whoWaits } from './crowd.ts';

const maxPeople = maxTypists + 2;
/** How long what was typed may take in calm weather. */
const restMs = 120_000;

export class Typists {
  readonly name = 'typists';
  readonly #world: NotebooksWorld;
  readonly #started: Typist[] = [];
  #typists = 0;
  #isTired = false;
  #isOrdered = true;

  constructor(world: NotebooksWorld) {
    this.#world = world;
  }

  begin(chance: Chance): void {
    const { time, people, weather } = this.#world;
    this.#isOrdered = weather.reorder === 0 && weather.duplicate === 0;
    const everyMs = chance.pick([1_000, 4_000, ...Array.from({ length: 4 }, () => Number.POSITIVE_INFINITY)])!;
    comeOneByOne(time, chance, everyMs, () => {
      if (this.#isTired || this.#started.length >= maxPeople) return false;
      const chosen = chance.pick([...people.promised.keys()].slice(-3));
      if (chosen !== undefined) this.#start(chosen, chance.isTrue(0.7));
      return true;
    });
  }

  /** What was typed is the last. */
  tire(): void {
    this.#isTired = true;
    for (const each of this.#started) each.tire();
  }

  /** [K3]: what was typed in the storm has arrived where a session takes it (`takes`). */
  async atRest(takes: (sessionId: string) => boolean, step: () => Promise<void>): Promise<void> {
    await untilOver(this.#world, { left: () => whoWaits(this.#started, takes), step, withinMs: restMs });
  }

  #start(sessionId: string, wantsToType: boolean): void {
    const { time, chance, sometimes, edge, ways, accounts, invariants, logbook } = this.#world;
    const name = `typist-${this.#started.length + 1}`;
    const number = wantsToType && this.#typists < maxTypists ? this.#typists++ : undefined;
    const way = new Way();
    ways.set(name, way);
    const typist = new Typist(this.#placeOf(sessionId), name, number, {
      time,
      chance: chance.fork(name),
      sometimes,
      edge,
      way,
      token: accounts.owner.text,
      logbook,
      isOrdered: this.#isOrdered,
      violated: (what) => invariants.seen(what),
    });
    this.#started.push(typist);
    void typist.run();
  }

  /** The same for all in this session. */
  #placeOf(sessionId: string): TerminalPlace {
    const random = this.#world.chance.fork(`terminal of ${sessionId}`).port();
    return { sessionId, terminalId: newId('terminal', 0, random.bytes(10)) };
  }
}
