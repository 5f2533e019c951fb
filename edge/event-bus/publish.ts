/**
 * The way of events from an outbox into Redis: in order, at least once, and without harm when repeated. What is too old or
 * too far behind to matter to a listener is skipped, and a new generation tells every listener so. The outbox is the truth:
 * nothing counts as settled here before Redis has it, so Redis may be away for as long as it likes.
 */
import type { CausewayEvent } from '../../schema/api/event.ts';
import type { Clock, Log, Random } from '../../schema/ports.ts';
import { eventStreamMaxLength, publishArguments, publishScript, redisKeys } from '../../schema/redis-scripts.ts';
import type { EdgeRedis } from '../platform/redis-door.ts';

/** Older events are not news. */
export const newsMs = 10 * 60_000;

/** Of one request. */
const batchEvents = 100;
const batchBytes = 256 * 1024;

/** Budget of a request, doubled with each failure: a slow Redis must not be asked for ever for what it can not do in time. */
const budgetMs = { first: 250, max: 4_000 };

export interface PublisherPorts {
  /** Undefined where Redis is not configured: then nobody can listen, and everything counts as settled. */
  redis: EdgeRedis | undefined;
  clock: Clock;
  random: Random;
  log: Log;
}

interface Batch {
  domainId: string;
  /** Places in the list that was given. */
  places: number[];
  events: { eventId: string; json: string }[];
  bytes: number;
}

export class EventPublisher {
  readonly #ports: PublisherPorts;
  #failures = 0;

  constructor(ports: PublisherPorts) {
    this.#ports = ports;
  }

  /**
   * Publishes events of one outbox, oldest first. `behind`: how many more wait after them. Returns how many from the
   * beginning are settled (published, published before, or skipped for good); the rest is to be given again. Never throws.
   */
  async publish(events: readonly CausewayEvent[], behind = 0): Promise<number> {
    const { redis } = this.#ports;
    if (!redis || events.length === 0) return events.length;
    const skipped = this.#countSkipped(events, behind);
    // The last skipped one stays in the outbox until the new generation is known to be written: it is what remembers that.
    const settledBefore = Math.max(0, skipped - 1);
    try {
      if (skipped > 0) await this.#renew(redis, events, skipped);
      return await this.#publishFresh(redis, events, skipped);
    } catch (error) {
      this.#fail(error);
      return settledBefore;
    }
  }

  #countSkipped(events: readonly CausewayEvent[], behind: number): number {
    const oldestMs = this.#ports.clock.nowMs() - newsMs;
    const tooMany = events.length + behind - eventStreamMaxLength;
    const fresh = events.findIndex(({ atMs }, place) => atMs >= oldestMs && place >= tooMany);
    return fresh === -1 ? events.length : fresh;
  }

  /** A new generation, before anything that follows the gap. */
  async #renew(redis: EdgeRedis, events: readonly CausewayEvent[], skipped: number): Promise<void> {
    const generation = this.#newGeneration();
    const { keys, args } = publishArguments(events[0]!.domainId, generation, []);
    const first = { key: redisKeys.generation, value: generation };
    await redis.run({ script: publishScript, keys, args }, { first, budgetMs: this.#budgetMs() });
    this.#ports.log.warn('events were too old to be news', { skipped, generation });
  }

  /** Domain by domain, side by side; a domain stops at its first failure. */
  async #publishFresh(redis: EdgeRedis, events: readonly CausewayEvent[], from: number): Promise<number> {
    const done = new Set<number>();
    const domains = Map.groupBy(toBatches(events, from), ({ domainId }) => domainId);
    await Promise.all(
      Array.from(domains.values(), async (batches) => {
        try {
          for (const batch of batches) {
            const call = publishArguments(batch.domainId, this.#newGeneration(), batch.events);
            await redis.run({ script: publishScript, ...call }, { budgetMs: this.#budgetMs() });
            for (const place of batch.places) done.add(place);
            this.#failures = 0;
          }
        } catch (error) {
          this.#fail(error);
        }
      }),
    );
    let settled = from;
    while (done.has(settled)) settled += 1;
    return settled;
  }

  #budgetMs(): number {
    return Math.min(budgetMs.max, budgetMs.first * 2 ** this.#failures);
  }

  /** Says so at the first failure; the outbox says how often it tries. */
  #fail(error: unknown): void {
    this.#failures += 1;
    if (this.#failures > 1) return;
    this.#ports.log.warn('events can not be published', { error: error instanceof Error ? error.message : 'unknown' });
  }

  #newGeneration(): string {
    return Array.from(this.#ports.random.bytes(12), (byte) => (byte % 36).toString(36)).join('');
  }
}

/** Batches within the bounds; the events of a domain keep their order. */
function toBatches(events: readonly CausewayEvent[], from: number): Batch[] {
  const batches: Batch[] = [];
  const open = new Map<string, Batch>();
  for (let place = from; place < events.length; place += 1) {
    const event = events[place]!;
    const json = JSON.stringify(event);
    let batch = open.get(event.domainId);
    if (!batch || batch.events.length >= batchEvents || batch.bytes + json.length > batchBytes) {
      batch = { domainId: event.domainId, places: [], events: [], bytes: 0 };
      open.set(event.domainId, batch);
      batches.push(batch);
    }
    batch.places.push(place);
    batch.events.push({ eventId: event.eventId, json });
    batch.bytes += json.length;
  }
  return batches;
}
