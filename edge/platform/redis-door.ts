/**
 * The door to Redis, made for an address: @upstash/redis, with a budget of time for each request and a circuit breaker, so that a Redis
 * that is slow or gone costs a request nothing but its answer. Whoever comes through here must be able to go on without:
 * Redis holds what may be lost. Text in, text out; nothing is guessed to be JSON.
 */
import { Redis } from '@upstash/redis/cloudflare';
import type { Clock } from '../../schema/ports.ts';
import { openSubscription, type Subscription } from './redis-subscription.ts';

/** Redis can not be asked, or did not answer in time; what was asked for may have been done. */
export class RedisUnavailable extends Error {
  override readonly name = 'RedisUnavailable';
}

/** A script with its keys and arguments, as `schema/redis-scripts.ts` builds them. */
export interface ScriptCall {
  script: string;
  keys: string[];
  args: string[];
}

export interface StreamEntry {
  id: string;
  /** Value of the entry's only field. */
  value: string;
}

/** What a reader of an event stream has to know to begin. */
export interface StreamHead {
  generation: string | undefined;
  oldestId: string | undefined;
  newestId: string | undefined;
}

export interface EdgeRedis {
  /** Runs one script; with `first`, a key is set in the same transaction before. @throws RedisUnavailable */
  run(call: ScriptCall, options?: { first?: { key: string; value: string }; budgetMs?: number }): Promise<unknown>;
  /** The generation and both ends of a stream, in one request. @throws RedisUnavailable */
  head(generationKey: string, stream: string): Promise<StreamHead>;
  /** Entries after an id (all from the beginning without one), oldest first. @throws RedisUnavailable */
  after(stream: string, id: string | undefined, count: number): Promise<StreamEntry[]>;
  /** The last entries, oldest first. @throws RedisUnavailable */
  last(stream: string, count: number): Promise<StreamEntry[]>;
  /** Values of a hash's fields, undefined for what is not there, in order. @throws RedisUnavailable */
  fields(key: string, names: readonly string[]): Promise<(string | undefined)[]>;
  /** Resolves when Redis has registered it: what is published from then on arrives. @throws RedisUnavailable */
  subscribe(channel: string, onMessage: (message: string) => void): Promise<Subscription>;
}

/** For reads and writes on whose answer somebody waits. */
const waitedForMs = 250;
const subscribeBudgetMs = 2_000;

/** After this many failures in a row nothing is tried for a while: once every `pauseMs`, until one succeeds. */
const breakerFailures = 3;
const breakerPauseMs = 2_000;

/** A door with a breaker of its own. Cheap: asks nothing before it is used. */
export function edgeRedis(
  address: { url: string; token: string },
  clock: Clock,
  defaultBudgetMs = waitedForMs,
): EdgeRedis {
  const breaker = new Breaker(clock);
  /** A client costs nothing until it is used; each has the deadline of one request. Retries are up to the caller. */
  const ask = <Answer>(budgetMs: number, request: (client: Redis) => Promise<Answer>): Promise<Answer> =>
    breaker.guard(() =>
      request(
        new Redis({
          ...address,
          // Not `false`, which means once more.
          retry: { retries: 0 },
          automaticDeserialization: false,
          enableAutoPipelining: false,
          enableTelemetry: false,
          signal: () => AbortSignal.timeout(budgetMs),
        }),
      ),
    );
  return {
    run: ({ script, keys, args }, { first, budgetMs = defaultBudgetMs } = {}) =>
      ask(budgetMs, async (client) => {
        if (!first) return client.eval(script, keys, args);
        const [, answer] = await client.multi().set(first.key, first.value).eval(script, keys, args).exec();
        return answer;
      }),
    head: (generationKey, stream) =>
      ask(defaultBudgetMs, async (client) => {
        const [generation, oldest, newest] = await client
          .pipeline()
          .get<string>(generationKey)
          .xrange(stream, '-', '+', 1)
          .xrevrange(stream, '+', '-', 1)
          .exec();
        const idOf = (entries: unknown) => toEntries(entries)[0]?.id;
        return { generation: generation ?? undefined, oldestId: idOf(oldest), newestId: idOf(newest) };
      }),
    after: (stream, id, count) =>
      ask(defaultBudgetMs, async (client) =>
        toEntries(await client.xrange(stream, id === undefined ? '-' : `(${id}`, '+', count)),
      ),
    last: (stream, count) =>
      ask(defaultBudgetMs, async (client) => toEntries(await client.xrevrange(stream, '+', '-', count)).toReversed()),
    fields: (key, names) =>
      ask(defaultBudgetMs, async (client) => {
        if (names.length === 0) return [];
        // As it comes, without the SDK's deserialization: a list in the order of the names, which its type does not say.
        const found = (await client.hmget(key, ...names)) as unknown as (string | null)[];
        return names.map((_, at) => found[at] ?? undefined);
      }),
    subscribe: (channel, onMessage) =>
      breaker.guard(() => openSubscription(address, channel, onMessage, subscribeBudgetMs)),
  };
}

/** Entries as Redis answers them: [[id, [field, value]], ...]. */
function toEntries(answer: unknown): StreamEntry[] {
  return (answer as [id: string, fields: string[]][]).map(([id, fields]) => ({ id, value: fields[1] ?? '' }));
}

/** Spares a Redis that does not answer, and its callers the wait. */
class Breaker {
  readonly #clock: Clock;
  #failures = 0;
  #openedMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** @throws RedisUnavailable at once while open, else when the request fails; errors of Redis itself among them. */
  async guard<Answer>(request: () => Promise<Answer>): Promise<Answer> {
    if (this.#failures >= breakerFailures) {
      const nowMs = this.#clock.bootMs();
      if (nowMs - this.#openedMs < breakerPauseMs) throw new RedisUnavailable('Redis did not answer lately.');
      // One request finds out; others go on being refused meanwhile.
      this.#openedMs = nowMs;
    }
    try {
      const answer = await request();
      this.#failures = 0;
      return answer;
    } catch (error) {
      this.#failures += 1;
      this.#openedMs = this.#clock.bootMs();
      throw new RedisUnavailable(error instanceof Error ? `${error.name}: ${error.message.slice(0, 300)}` : 'failed');
    }
  }
}
