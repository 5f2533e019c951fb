/** Who uses kernels of Jupyter in a world: in some worlds people with notebooks, and others who run code beside them. */
import { newId } from '../../schema/ids.ts';
import type { Chance } from './chance.ts';
import { Coder } from './coder.ts';
import type { CodersWorld } from './coders.ts';
import { Way } from './edge/links.ts';
import { specName } from './host/specs-tool.ts';
import { askKernel, type KernelPlace } from './calls.ts';
import type { Logbook } from './logbook.ts';
import { Notebook } from './notebook.ts';
import type { Weather } from './weather.ts';
import { comeOneByOne, untilOver, whoWaits } from './crowd.ts';

/** What they have of their world. */
export interface NotebooksWorld extends CodersWorld {
  readonly weather: Weather;
  readonly logbook: Logbook;
}

const maxPeople = 8;
/** How long what was said may take in calm weather. */
const restMs = 120_000;

export class Notebooks {
  readonly name = 'notebooks';
  readonly #world: NotebooksWorld;
  readonly #started: (Notebook | Coder)[] = [];
  #count = 0;
  #isTired = false;
  #isOrdered = true;

  constructor(world: NotebooksWorld) {
    this.#world = world;
  }

  begin(chance: Chance): void {
    const { time, people, weather } = this.#world;
    this.#isOrdered = weather.reorder === 0 && weather.duplicate === 0;
    const never = people.areForKernels ? [] : Array.from({ length: 4 }, () => Number.POSITIVE_INFINITY);
    const everyMs = chance.pick([1_000, 6_000, ...never])!;
    comeOneByOne(time, chance, everyMs, () => {
      if (this.#isTired || this.#count >= maxPeople) return false;
      const recent = [...people.promised].slice(-6);
      // Rather one that was made for kernels alone.
      const made = recent.filter(([, { spec }]) => spec.command === undefined && chance.isTrue(0.7));
      const [chosen] = chance.pick(made.length > 0 ? made : recent) ?? [];
      if (chosen !== undefined) this.#start(chosen, chance.next());
      return true;
    });
  }

  /** What was said is the last. */
  tire(): void {
    this.#isTired = true;
    for (const each of this.#started) each.tire();
  }

  /** [K3]: what was said in the storm is answered where a session takes it (`takes`). */
  async atRest(takes: (sessionId: string) => boolean, step: () => Promise<void>): Promise<void> {
    await untilOver(this.#world, { left: () => whoWaits(this.#started, takes), step, withinMs: restMs });
  }

  #start(sessionId: string, u: number): void {
    this.#count += 1;
    const name = `notebook-${this.#count}`;
    const person = u < 0.4 ? this.#coder(sessionId, name) : this.#notebook(sessionId, name, u > 0.9);
    this.#started.push(person);
    if (person instanceof Notebook) void person.run();
    // Mostly on the kernel that notebooks speak to as well.
    else void this.#startKernel(sessionId, name).then(() => person.run());
  }

  async #startKernel(sessionId: string, name: string): Promise<void> {
    const { time, chance, edge } = this.#world;
    const ports = { time, chance: chance.fork(`kernel of ${name}`), edge };
    await askKernel(this.#placeOf(sessionId), { kind: 'startSpec', spec: specName }, ports).catch(() => undefined);
  }

  /** The same for all in this session. */
  #placeOf(sessionId: string): KernelPlace {
    const random = this.#world.chance.fork(`kernel of ${sessionId}`).port();
    return { sessionId, kernelId: newId('kernel', 0, random.bytes(10)) };
  }

  /** Who only runs code. */
  #coder(sessionId: string, name: string): Coder {
    const { invariants, logbook } = this.#world;
    return new Coder(sessionId, name, {
      ...this.#ports(name),
      times: (placement, runId) => invariants.timesRan(placement, runId),
      statusOf: (placement, runId) => logbook.statusOf(placement, runId),
    });
  }

  #notebook(sessionId: string, name: string, isWatcher: boolean): Notebook {
    const { invariants, logbook } = this.#world;
    return new Notebook(this.#placeOf(sessionId), name, {
      ...this.#ports(name),
      logbook,
      isOrdered: this.#isOrdered,
      isWatcher,
      times: (placement, id) => invariants.timesRan(placement, id),
    });
  }

  #ports(name: string) {
    const { time, chance, sometimes, edge, ways, accounts, invariants } = this.#world;
    const way = new Way();
    ways.set(name, way);
    return {
      time,
      chance: chance.fork(name),
      sometimes,
      edge,
      way,
      token: accounts.owner.text,
      violated: (what: string) => invariants.seen(what),
    };
  }
}
