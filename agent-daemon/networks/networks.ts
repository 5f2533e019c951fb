/**
 * One user-defined bridge for each session, with a few kept ready because making one takes 60 to 100 ms. Subnets come
 * from the agent's own pool, checked against the host's routes: the engine's default pools end at 31 networks. It knows
 * only networks that carry this agent's label and never touches another.
 */
import type { Log, Random, Timers } from '../../schema/ports.ts';
import { labels } from '../runtime/docker-spec.ts';
import { type ContainerRuntime, type NetworkFacts, RuntimeError } from '../runtime/runtime.ts';
import { type Range, findSubnet, parseCidr, parseRoutes } from './subnets.ts';

export interface NetworksOptions {
  runtime: ContainerRuntime;
  agentId: string;
  instanceId: string;
  /** CIDR, such as 10.213.0.0/16. */
  pool: string;
  /** How many to keep ready. */
  ready: number;
  /** Runs when a network was made, before anything uses it. */
  guard(subnet: string): Promise<void>;
  /** The host's routing table. */
  readRoutes(): Promise<string>;
  random: Random;
  timers: Timers;
  log: Log;
}

const attempts = 8;
const retryMs = 5_000;

export class Networks {
  readonly #options: NetworksOptions;
  readonly #pool: Range;
  /** Every network of ours that exists: name -> range. */
  readonly #known = new Map<string, Range>();
  /** Those that are being made. */
  readonly #making = new Map<string, Range>();
  readonly #ready = new Set<string>();
  #refilling: Promise<void> | undefined;
  #busy = 0;
  #stopped = false;

  /** @throws Error when the pool is no CIDR */
  constructor(options: NetworksOptions) {
    this.#options = options;
    const pool = parseCidr(options.pool);
    if (pool === undefined) throw new Error(`the network pool ${options.pool} is not like 10.213.0.0/16`);
    this.#pool = pool;
  }

  /** Takes over what an earlier run left: networks of no session in `bound` become ready ones, or go. Forgets what is gone. */
  async adopt(bound: ReadonlySet<string>): Promise<void> {
    // What is made from here on may be missing in the answer.
    const before = this.names;
    const listed = await this.#options.runtime.listNetworks(this.#label());
    const there = new Set(listed.map(({ name }) => name));
    for (const name of before) if (!there.has(name)) this.forget(name);
    for (const network of listed) {
      const { name } = network;
      if (this.#known.has(name) || this.#making.has(name)) continue;
      // First: two who look at the same time may not both make it ready.
      this.#known.set(name, rangeOf(network));
      try {
        await this.#takeOver(network, bound.has(name));
      } catch (error) {
        this.#known.delete(name);
        throw error;
      }
    }
    this.#refill();
  }

  /** The name of a network for one session alone: a ready one, or a new one. */
  async take(): Promise<string> {
    this.#busy++;
    try {
      const [ready] = this.#ready;
      if (ready === undefined) return await this.#create();
      this.#ready.delete(ready);
      return ready;
    } finally {
      this.#busy--;
      this.#refill();
    }
  }

  /** Removes a session's network; one that is gone already is fine. */
  async release(name: string): Promise<void> {
    await this.#options.runtime.removeNetwork(name);
    this.#known.delete(name);
  }

  /** Nobody gets it any more: others removed it (`docker network prune`), or the next `adopt` sees to it. Any name may be given. */
  forget(name: string): void {
    if (!this.#known.delete(name)) return;
    this.#ready.delete(name);
    this.#refill();
  }

  /** Names of networks of ours that exist now. */
  get names(): string[] {
    return [...this.#known.keys()];
  }

  /** Ends refilling; what is ready stays for the next run. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#refilling;
  }

  async #takeOver({ name, subnets: [subnet] }: NetworkFacts, isBound: boolean): Promise<void> {
    if (subnet !== undefined) await this.#options.guard(subnet);
    if (isBound) return;
    if (this.#ready.size < this.#options.ready) this.#ready.add(name);
    else await this.release(name);
  }

  #label(): Record<string, string> {
    return { [labels.agent]: this.#options.agentId };
  }

  /** Makes ready networks one at a time, while nobody waits for one. */
  #refill(): void {
    if (this.#stopped || this.#refilling !== undefined || this.#ready.size >= this.#options.ready) return;
    this.#refilling = this.#refillNow();
  }

  async #refillNow(): Promise<void> {
    await Promise.resolve();
    try {
      while (!this.#stopped && this.#busy === 0 && this.#ready.size < this.#options.ready) {
        this.#ready.add(await this.#create());
      }
    } catch (error) {
      this.#options.log.warn('a network could not be made ready', { error: String(error) });
      this.#options.timers.after(retryMs, () => this.#refill());
    } finally {
      this.#refilling = undefined;
    }
  }

  async #create(): Promise<string> {
    const { runtime, random, instanceId } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const suffix = Buffer.from(random.bytes(6)).toString('hex');
      const name = `causeway-${suffix}`;
      const { subnet, range } = await this.#reserve(name);
      try {
        await runtime.createNetwork(name, subnet, { ...this.#label(), [labels.instance]: instanceId });
        await this.#options.guard(subnet);
        this.#known.set(name, range);
        return name;
      } catch (error) {
        // Another agent's network may have come between the look at the routes and the creation.
        if (attempt >= attempts || !isTaken(error)) throw error;
      } finally {
        this.#making.delete(name);
      }
    }
  }

  /** Chooses a free subnet and counts it as taken from now on. */
  async #reserve(name: string): Promise<{ subnet: string; range: Range }> {
    const routes = parseRoutes(await this.#options.readRoutes());
    const taken = [...routes, ...this.#known.values(), ...this.#making.values()];
    const start = Math.floor(this.#options.random.fraction() * 0xff_ff);
    const subnet = findSubnet(this.#pool, taken, start);
    if (subnet === undefined) {
      throw new RuntimeError('failed', `no /28 of the network pool ${this.#options.pool} is free`);
    }
    const range = parseCidr(subnet) as Range;
    this.#making.set(name, range);
    return { subnet, range };
  }
}

function rangeOf(network: NetworkFacts): Range {
  return parseCidr(network.subnets[0] ?? '') ?? { first: -1, last: -1 };
}

function isTaken(error: unknown): boolean {
  return error instanceof RuntimeError && /overlap|already exists|conflict/i.test(error.message);
}
