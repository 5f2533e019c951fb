/**
 * A chaos run: batches of faults by the seed while people work; after each batch everything is healed, must come to rest,
 * and every invariant must hold. The run ends at the first batch after which one does not, with the story of its faults.
 */
import { cpSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Witness } from '../support/invariants.ts';
import { type Rng, seededRandom } from '../support/random.ts';
import { until } from '../support/wait.ts';
import { type Fault, Violation } from './fault.ts';
import { agentsAgree } from './agreement.ts';
import { measureDetection } from './detection.ts';
import { kinds } from './kinds.ts';
import { Population } from './population.ts';
import { type Act, Users } from './users.ts';
import { World } from './world.ts';

export interface ChaosOptions {
  faults: number;
  seed: number;
  agents: number;
  sessions: number;
  /** Names of the kinds to choose from; default all. */
  only?: readonly string[];
  /** How long each batch lasts after its last fault; default not at all, but for some batches that outlast a silence. */
  holdMs?: number;
  /** Measures at the end how fast deaths and revocations are seen. */
  detection?: boolean;
  say?: (line: string) => void;
}

export interface Outcome {
  faults: number;
  /** Kinds that were really injected. */
  kinds: number;
  violations: string[];
  /** Everything that happened, with times. */
  story: string[];
  /** Where the logs are kept, after a violation. */
  logs: string | undefined;
}

const mostPerBatch = 5;
/** Between two faults of a batch, and how long the last one lasts at least. */
const pauseMs = [100, 1200] as const;
/** One batch in so many outlasts the silence after which an agent counts as out of reach. */
const longOneIn = 8;
const longMs = 40_000;
const restMs = 240_000;

interface Injected {
  name: string;
  first: boolean;
  heal: () => Promise<void>;
}

/** Runs to the end or the first violations. */
export async function runChaos(options: ChaosOptions): Promise<Outcome> {
  const run = new ChaosRun(options);
  try {
    return await run.run();
  } finally {
    await run.stop();
  }
}

class ChaosRun {
  readonly #options: ChaosOptions;
  readonly #random: Rng;
  readonly #world: World;
  readonly #story: string[] = [];
  readonly #seen = new Set<string>();
  readonly #startedMs = performance.now();
  #bag: Fault[] = [];
  #count = 0;
  #witness: Witness | undefined;
  #population: Population | undefined;

  constructor(options: ChaosOptions) {
    this.#options = options;
    this.#random = seededRandom(options.seed);
    this.#world = new World(options.seed);
  }

  async run(): Promise<Outcome> {
    const { faults, agents, sessions } = this.#options;
    const violations: string[] = [];
    await this.#world.start(agents);
    this.#witness = new Witness(this.#world.stack);
    this.#population = new Population(this.#world, this.#witness, sessions);
    await this.#population.complete();
    this.#tell(`${agents} agents, ${sessions} sessions run`);
    const users = new Users(this.#world, this.#witness, this.#population);
    for (let batch = 1; this.#count < faults && violations.length === 0; batch++) {
      violations.push(...(await this.#batch(batch, users)));
    }
    if (this.#options.detection === true && violations.length === 0)
      for (const line of await measureDetection(this.#world, this.#population)) this.#tell(line);
    const logs = violations.length === 0 ? undefined : this.#keepLogs();
    return { faults: this.#count, kinds: this.#seen.size, violations, story: this.#story, logs };
  }

  async stop(): Promise<void> {
    this.#population?.stop();
    await this.#witness?.stop();
    await this.#world.stop();
  }

  async #batch(batch: number, users: Users): Promise<string[]> {
    const random = this.#random;
    const size = Math.min(mostPerBatch, this.#options.faults - this.#count);
    const taken = new Set<string>();
    const injected: Injected[] = [];
    const acts: Act[] = [];
    const violations: string[] = [];
    const act = (): void => {
      const next = users.act(random);
      this.#tell(`   somebody: ${next.name}`);
      next.done.catch(() => {}); // asked for at the end of the batch
      acts.push(next);
    };
    act();
    for (let n = 0; n < size; n++) {
      const chosen = this.#choose(taken);
      if (chosen === undefined) break;
      this.#count++;
      const name = `${chosen.kind.name} (${chosen.kind.on(chosen.target)})`;
      this.#tell(`#${this.#count} ${name}`);
      try {
        injected.push({
          name,
          first: chosen.kind.healsFirst === true,
          heal: await chosen.kind.inject(chosen.target, random, this.#world),
        });
        this.#seen.add(chosen.kind.name);
      } catch (error) {
        if (!(error instanceof Violation)) throw this.#failure(name, error);
        violations.push(error.message);
      }
      if (n % 2 === 0) act();
      await sleep(random.integer(...pauseMs));
    }
    const isLong = this.#options.faults >= 50 && batch % longOneIn === 0;
    const holdMs = this.#options.holdMs ?? (isLong ? longMs : 0);
    if (holdMs > 0) {
      this.#tell(`   for ${holdMs / 1000} s`);
      await sleep(holdMs);
    }
    await this.#heal(injected);
    violations.push(...(await this.#judge(acts)));
    this.#tell(`   at rest, ${violations.length} violations (batch ${batch})`);
    return violations;
  }

  /** A kind that was not used for longest, at random, and a target of it that nothing else holds. */
  #choose(taken: Set<string>): { kind: Fault; target: unknown } | undefined {
    const { only } = this.#options;
    const usable = kinds.filter(({ name }) => only === undefined || only.includes(name));
    for (let look = 0; look < 2; look++) {
      for (const [at, kind] of this.#bag.entries()) {
        const free = kind
          .appliesTo(this.#world)
          .filter((target) => parts(kind, target).every((part) => !taken.has(part)));
        if (free.length === 0) continue;
        this.#bag.splice(at, 1);
        const target = free[this.#random.integer(0, free.length - 1)]!;
        for (const part of parts(kind, target)) taken.add(part);
        return { kind, target };
      }
      if (look === 0) this.#bag.push(...shuffled(usable, this.#random));
    }
    return undefined;
  }

  /** Disks first, then in the order of injection, as repairs on several hosts would come in any. */
  async #heal(injected: readonly Injected[]): Promise<void> {
    const inOrder = [...injected.filter(({ first }) => first), ...injected.filter(({ first }) => !first)];
    for (const { name, heal } of inOrder) {
      await heal().catch((error: unknown) => {
        throw this.#failure(`healing ${name}`, error);
      });
    }
    this.#tell('   healed');
  }

  async #judge(acts: readonly Act[]): Promise<string[]> {
    const { client, stack } = this.#world;
    const violations: string[] = [];
    const whole = async (what: string, find: () => Promise<string[]>): Promise<void> => {
      const found = await find().catch((error: Error) => [`${what}: ${error.message}`]);
      violations.push(...found);
    };
    this.#supervise();
    await whole('[I4]', async () => {
      await stack.edge.untilHealthy();
      await this.#world.redis.untilHealthy();
      await this.#untilAllConnected();
      return [];
    });
    for (const { name, done } of acts) await whole(`somebody's ${name}`, () => done.then(() => []));
    await whole('[I4]', () => this.#witness!.quiesce(restMs).then(() => []));
    if (violations.length > 0) return violations;
    await whole('residents', () => this.#population!.bury());
    await whole('completing', () => this.#population!.complete().then(() => []));
    await whole('[I4]', () => this.#witness!.quiesce(restMs).then(() => []));
    await whole('witness', () => this.#witness!.faults({ secrets: [client.password, client.token!] }));
    await whole('output', () => this.#population!.faults());
    await whole('[I4]', () => agentsAgree(this.#world));
    return violations;
  }

  /** Starts an agent again that ended by itself, as its supervisor does; its last words are told. */
  #supervise(): void {
    for (const { name, part } of this.#world.hosts) {
      if (part.process.exit === undefined) continue;
      const last = part.process.lines.at(-1)?.text ?? '';
      this.#tell(`   ${name} had ended by itself with ${JSON.stringify(part.process.exit)}: ${last}`);
      part.spawnAgain();
    }
  }

  async #untilAllConnected(): Promise<void> {
    await until(
      async () => {
        this.#supervise();
        const { items } = (await this.#world.client.api('GET', '/v1/agents')) as {
          items: { name: string; state: string }[];
        };
        const away = items.filter(({ state }) => state !== 'connected');
        if (away.length > 0) throw new Error(away.map(({ name, state }) => `${name} is ${state}`).join());
        return items.length === this.#world.hosts.length;
      },
      { what: 'every agent to be connected', timeoutMs: restMs, everyMs: 500 },
    );
  }

  #keepLogs(): string {
    const kept = mkdtempSync(join(tmpdir(), `causeway-chaos-${this.#options.seed}-`));
    cpSync(join(this.#world.stack.dir, 'logs'), kept, { recursive: true });
    return kept;
  }

  #failure(what: string, error: unknown): Error {
    const logs = this.#keepLogs();
    return new Error(`${what} failed: ${(error as Error).message}\n${this.#story.join('\n')}\nlogs: ${logs}`, {
      cause: error,
    });
  }

  #tell(text: string): void {
    const seconds = ((performance.now() - this.#startedMs) / 1000).toFixed(1).padStart(7);
    const line = `${seconds} ${new Date().toISOString().slice(11, 23)} ${text}`;
    this.#story.push(line);
    this.#options.say?.(line);
  }
}

function parts(kind: Fault, target: unknown): string[] {
  return kind.on(target).split('+');
}

function shuffled<T>(items: readonly T[], random: Rng): T[] {
  const left = [...items];
  return Array.from({ length: items.length }, () => left.splice(random.integer(0, left.length - 1), 1)[0]!);
}
