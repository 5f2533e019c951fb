/**
 * The sealer of one audit chain: gives entries their numbers and hashes, in order. It alone knows the end of the chain, so
 * that rows cut off in D1 are missed. Each step is durable before the next: entries get their place here, then D1 gets the
 * rows, then the place is forgotten; repeated after a death, each has the effect of one. Takes ports; knows no SQL.
 */
import { createHash } from 'node:crypto';

/** An entry's id and its JSON, the text that is hashed. */
export interface Entry {
  id: string;
  text: string;
}
export interface SealedEntry extends Entry {
  seq: number;
  hash: string;
}
/** The last number of a chain and its hash; 0 and empty before the first. */
export interface Head {
  seq: number;
  hash: string;
}

export interface SealStore {
  head(): Head;
  /** What has its place and may not be in D1 yet. */
  batch(): SealedEntry[];
  /** Entries of the object itself, oldest first. */
  entries(limit: number): Entry[];
  add(entry: Entry): void;
  /** Keeps the batch and the new head, and drops the object's own entries among it; in one transaction. */
  assign(batch: readonly SealedEntry[], head: Head): void;
  forgetBatch(): void;
}
export interface SealerPorts {
  store: SealStore;
  /** The chain's end as D1 has it: for an object that lost its storage. */
  readHead(): Promise<Head>;
  /** Ids of entries that D1 has in the chain behind `seq`. */
  readIdsAfter(seq: number): Promise<string[]>;
  /** Entries written to D1 with what they tell of, oldest first. */
  readPending(limit: number): Promise<Entry[]>;
  /** Writes the rows and takes their entries from what is pending, both or neither. Idempotent. */
  commit(batch: readonly SealedEntry[]): Promise<void>;
  /** Around a durable step: failpoints. */
  durably<Result>(step: 'audit.assign' | 'audit.seal', work: () => Promise<Result>): Promise<Result>;
}

const perRound = 200;

export class Sealer {
  readonly #ports: SealerPorts;
  #sealing: Promise<void> | undefined;

  constructor(ports: SealerPorts) {
    this.#ports = ports;
  }

  /** True when something of this object waits for its place, or for D1. */
  hasWork(): boolean {
    const { store } = this.#ports;
    return store.batch().length > 0 || store.entries(1).length > 0;
  }

  /** Seals all that there is now; rejects when D1 can not be asked. One at a time. */
  async seal(): Promise<Head> {
    // A round under way may have read before what its caller wrote: it is waited for, then another one runs.
    await this.#sealing?.catch(() => undefined);
    this.#sealing ??= this.#run().finally(() => {
      this.#sealing = undefined;
    });
    await this.#sealing;
    return this.#ports.store.head();
  }

  /**
   * For an object that was put back to before rows that D1 has: it goes on behind them, and forgets entries that are among
   * them. D1 never has more than the object otherwise: entries get their place here first.
   */
  async catchUp(): Promise<void> {
    await this.#sealing?.catch(() => undefined);
    const { store } = this.#ports;
    const there = await this.#ports.readHead();
    const head = store.head();
    if (there.seq <= head.seq) return;
    const batch = store.batch();
    const known = new Set(await this.#ports.readIdsAfter(head.seq - batch.length));
    for (const { id, text } of batch) if (!known.has(id)) store.add({ id, text });
    store.assign(
      [...known].map((id) => ({ id, text: '', seq: 0, hash: '' })),
      there,
    );
    store.forgetBatch();
  }

  async #run(): Promise<void> {
    const { store } = this.#ports;
    await this.#commit();
    for (;;) {
      const own = store.entries(perRound);
      const pending = await this.#ports.readPending(perRound);
      const entries = [...own, ...pending].sort((a, b) => (a.id < b.id ? -1 : 1));
      if (entries.length === 0) return;
      await this.#assign(entries);
      await this.#commit();
      if (own.length < perRound && pending.length < perRound) return;
    }
  }

  async #assign(entries: readonly Entry[]): Promise<void> {
    const { store } = this.#ports;
    let head = store.head();
    if (head.seq === 0) head = await this.#ports.readHead();
    const batch = entries.map((entry) => {
      head = { seq: head.seq + 1, hash: hashOf(head.hash, entry.text) };
      return { ...entry, ...head };
    });
    await this.#ports.durably('audit.assign', () => Promise.resolve(store.assign(batch, head)));
  }

  async #commit(): Promise<void> {
    const { store } = this.#ports;
    const batch = store.batch();
    if (batch.length === 0) return;
    await this.#ports.durably('audit.seal', () => this.#ports.commit(batch));
    store.forgetBatch();
  }
}

/** The hash of an entry behind another. */
export function hashOf(previousHash: string, text: string): string {
  return createHash('sha256').update(`${previousHash}\n${text}`).digest('base64url');
}
