/** What the edge keeps outside of its objects: D1's read model and audit chains, and Redis. Both may fail, before or after. */
import type { SessionRow } from '../../../schema/db/sessions.ts';
import { copyOf } from '../../../edge/platform/undo-map.ts';
import { redisKeys } from '../../../schema/redis-scripts.ts';
import type { Entry, Head, SealedEntry, SealStore } from '../../../edge/manager/audit/sealer.ts';
import { hashOf } from '../../../edge/manager/audit/sealer.ts';
import { type EdgeRedis, RedisUnavailable } from '../../../edge/platform/redis-door.ts';
import type { Chance } from '../chance.ts';
import type { VirtualTime } from '../clock.ts';
import type { Sometimes } from '../sometimes.ts';
import type { Weather } from '../weather.ts';

export interface OutsidePorts {
  time: VirtualTime;
  chance: Chance;
  weather: Weather;
  sometimes: Sometimes;
}

export class D1Model {
  readonly sessions = new Map<string, SessionRow>();
  readonly sealed = new Map<string, SealedEntry[]>();
  readonly #ports: OutsidePorts;

  constructor(ports: OutsidePorts) {
    this.#ports = ports;
  }

  /** As `writeReadModel`: older versions change nothing. */
  list(rows: readonly SessionRow[], gone: readonly string[] = []): Promise<void> {
    return this.#batch(() => {
      for (const row of rows) {
        const known = this.sessions.get(row.id);
        if (!known || row.version > known.version) this.sessions.set(row.id, copyOf(row));
      }
      for (const id of gone) this.sessions.delete(id);
    });
  }

  head(chain: string): Promise<Head> {
    const { seq, hash } = this.sealed.get(chain)?.at(-1) ?? { seq: 0, hash: '' };
    return this.#batch(() => ({ seq, hash }));
  }

  idsAfter(chain: string, seq: number): Promise<string[]> {
    return this.#batch(() => (this.sealed.get(chain) ?? []).flatMap((row) => (row.seq > seq ? [row.id] : [])));
  }

  seal(chain: string, batch: readonly SealedEntry[]): Promise<void> {
    return this.#batch(() => {
      const rows = this.sealed.get(chain) ?? [];
      for (const entry of batch) if (!rows.some(({ seq }) => seq === entry.seq)) rows.push(entry);
      this.sealed.set(chain, rows);
    });
  }

  /** [I13] */
  chainFaults(): string[] {
    return Array.from(this.sealed).flatMap(([chain, rows]) => {
      let before: Head = { seq: 0, hash: '' };
      for (const row of rows) {
        if (row.seq !== before.seq + 1) return [`[I13] chain ${chain} goes from ${before.seq} to ${row.seq}`];
        if (row.hash !== hashOf(before.hash, row.text)) return [`[I13] chain ${chain} is broken at ${row.seq}`];
        before = row;
      }
      const ids = new Set(rows.map(({ id }) => id));
      return ids.size === rows.length ? [] : [`[I13] chain ${chain} has an entry twice`];
    });
  }

  #batch<Result>(work: () => Result): Promise<Result> {
    return asked(this.#ports, work);
  }
}

/** One call of D1: late, failed, or done with its answer lost. */
export function asked<Result>({ time, chance, weather, sometimes }: OutsidePorts, work: () => Result): Promise<Result> {
  return new Promise((resolve, reject) => {
    const fails = chance.isTrue(weather.d1Fails);
    const loses = chance.isTrue(weather.d1Unknown);
    time.after(chance.delayMs(3), () => {
      if (fails) {
        sometimes.reached('D1 failed before it wrote');
        reject(new Error('D1_ERROR: overloaded'));
        return;
      }
      let result: Result;
      try {
        result = work();
      } catch (error) {
        reject(new Error(`D1_ERROR: ${String(error)}`));
        return;
      }
      if (!loses) {
        resolve(result);
        return;
      }
      sometimes.reached('D1 wrote and its answer was lost');
      time.after(1_000, () => reject(new Error('D1_ERROR: Network connection lost')));
    });
  });
}

/** Redis as the publisher of events uses it. */
export class RedisModel {
  /** Ids of events that were published at least once. */
  readonly published = new Set<string>();
  generation: string | undefined;
  readonly #ports: OutsidePorts;

  constructor(ports: OutsidePorts) {
    this.#ports = ports;
  }

  flush(): void {
    this.generation = undefined;
    this.#ports.sometimes.reached('Redis was flushed');
  }

  door(): EdgeRedis {
    const refused = () => Promise.reject(new RedisUnavailable('not in this world'));
    return {
      run: ({ args }, { first } = {}) => this.#run(args, first),
      head: refused,
      after: refused,
      last: refused,
      fields: refused,
      subscribe: refused,
    };
  }

  #run(args: readonly string[], first?: { key: string; value: string }): Promise<unknown> {
    const { time, chance, weather, sometimes } = this.#ports;
    return new Promise((resolve, reject) => {
      const fails = chance.isTrue(weather.redisFails);
      const does = !fails || chance.isTrue(0.5);
      time.after(chance.delayMs(2), () => {
        if (fails) sometimes.reached('Redis failed');
        if (does) {
          if (first?.key === redisKeys.generation) this.generation = first.value;
          this.generation ??= args[0];
          for (let at = 3; at < args.length; at += 2) this.published.add(args[at]!);
        }
        if (fails) reject(new RedisUnavailable('no answer in time'));
        else resolve(0);
      });
    });
  }
}

/** A sealer's storage in memory; what was added since `begin` can be taken back. */
export interface MemorySealStore extends SealStore {
  begin(): void;
  undo(): void;
}

/** An empty one. */
export function memorySealStore(): MemorySealStore {
  let added: string[] = [];
  let head: Head = { seq: 0, hash: '' };
  let batch: SealedEntry[] = [];
  const entries = new Map<string, Entry>();
  return {
    head: () => head,
    batch: () => batch,
    entries: (limit) => [...entries.values()].sort((a, b) => (a.id < b.id ? -1 : 1)).slice(0, limit),
    add(entry) {
      if (entries.has(entry.id)) return;
      entries.set(entry.id, entry);
      added.push(entry.id);
    },
    begin: () => void (added = []),
    undo() {
      for (const id of added) entries.delete(id);
    },
    assign(assigned, end) {
      batch = [...assigned];
      head = end;
      for (const { id } of assigned) entries.delete(id);
    },
    forgetBatch() {
      batch = [];
    },
  };
}
