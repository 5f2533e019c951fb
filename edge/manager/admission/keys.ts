/** Idempotency keys: what a repeated creating POST is answered. Kept for 48 h, by day. Takes a store and a clock. */
import type { KeyRow } from '../../../schema/admission/claims.ts';
import { newId } from '../../../schema/ids.ts';
import type { Clock, Random } from '../../../schema/ports.ts';
import type { AdmissionStore } from './admission-store.ts';
import type { BeginAnswer, IdempotencyKey, StoredAnswer } from './rpc.ts';

const dayMs = 86_400_000;
const keepMs = 2 * dayMs;
/** A request that began and did not finish holds its key this long; a repetition then goes on in its place. */
const runningMs = 10_000;
/** A refused request is refused again for so long, though there is room by then: longer than a copy of it can be on its way. */
const refusedMs = 120_000;

export class Keys {
  readonly #store: AdmissionStore;
  readonly #clock: Clock;
  readonly #random: Random;
  /** Keys that are at work in this life. */
  readonly #running = new Map<string, number>();
  #purgedDay = 0;

  constructor(store: AdmissionStore, clock: Clock, random: Random) {
    this.#store = store;
    this.#clock = clock;
    this.#random = random;
  }

  /** The row of a key that is still kept. */
  find(key: IdempotencyKey): KeyRow | undefined {
    const nowMs = this.#clock.nowMs();
    const today = Math.floor(nowMs / dayMs);
    for (const day of [today, today - 1, today - 2]) {
      const row = this.#store.key(day, key.actorId, key.key);
      if (row && nowMs - row.atMs < (row.outcome?.kind === 'refused' ? refusedMs : keepMs)) return row;
    }
    return undefined;
  }

  /** Writes a key within the caller's transaction; once a day old ones go. */
  put(key: IdempotencyKey, made: string, outcome: KeyRow['outcome']): void {
    const atMs = this.#clock.nowMs();
    const day = Math.floor(atMs / dayMs);
    if (this.#purgedDay !== day) this.#store.purgeKeys(day - 2);
    this.#purgedDay = day;
    const { actorId, bodyHash } = key;
    this.#store.putKey({ day, actorId, key: key.key, bodyHash, atMs, made, outcome });
  }

  begin(key: IdempotencyKey): BeginAnswer {
    return this.#store.transaction(() => {
      const row = this.find(key);
      if (!row) return this.#begun(key, newId('request', this.#clock.nowMs(), this.#random.bytes(10)).slice(4));
      if (row.bodyHash !== key.bodyHash) return { kind: 'conflict' };
      const { outcome } = row;
      if (outcome?.kind === 'answer') return { kind: 'replay', answer: outcome.answer };
      if (outcome?.kind === 'secret') return { kind: 'secretShown', id: outcome.id };
      if (outcome?.kind === 'session' || outcome?.kind === 'refused') return { kind: 'conflict' };
      const since = this.#running.get(nameOf(key));
      if (since !== undefined && this.#clock.bootMs() - since < runningMs) return { kind: 'inProgress' };
      this.#running.set(nameOf(key), this.#clock.bootMs());
      return { kind: 'begun', idBody: row.made };
    });
  }

  #begun(key: IdempotencyKey, idBody: string): BeginAnswer {
    this.put(key, idBody, { kind: 'running' });
    this.#running.set(nameOf(key), this.#clock.bootMs());
    return { kind: 'begun', idBody };
  }

  finish(key: IdempotencyKey, outcome: { answer: StoredAnswer } | { secret: { id: string } }): void {
    this.#running.delete(nameOf(key));
    this.#store.transaction(() => {
      const row = this.find(key);
      if (!row || row.bodyHash !== key.bodyHash) return;
      const kept: KeyRow['outcome'] =
        'answer' in outcome ? { kind: 'answer', answer: outcome.answer } : { kind: 'secret', id: outcome.secret.id };
      this.#store.putKey({ ...row, outcome: kept });
    });
  }

  abandon(key: IdempotencyKey): void {
    this.#running.delete(nameOf(key));
    this.#store.transaction(() => {
      const row = this.find(key);
      if (row?.outcome?.kind === 'running' && row.bodyHash === key.bodyHash)
        this.#store.deleteKey(row.day, row.actorId, row.key);
    });
  }

  rest(key: IdempotencyKey): void {
    this.#running.delete(nameOf(key));
  }
}

function nameOf({ actorId, key }: IdempotencyKey): string {
  return `${actorId} ${key}`;
}
