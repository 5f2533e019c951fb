/**
 * The audit chain of one admission object: entries that the object itself writes, refusals, and what D1 was given with a
 * mutation. A shell around `sealer.ts` over the object's storage; the object's alarm calls it at least every 60 s.
 */
import type { AuditEntry } from '../../../schema/api/audit.ts';
import { newId } from '../../../schema/ids.ts';
import { systemClock } from '../../platform/clock.ts';
import { database } from '../../platform/database.ts';
import { durably, failpointsOf } from '../../platform/failpoint.ts';
import { systemRandom } from '../../platform/random.ts';
import { closeWindows, countRefusals, type Refusals } from './refusal-windows.ts';
import { type AuditStorage, auditStorage } from './seal-store.ts';
import { type Head, Sealer } from './sealer.ts';
import { findHead, insertSealed, listIdsAfter, readPending } from './store.ts';

/** A mutation that was announced is in D1 by then, or never will be: a request lives no longer. */
const expectMs = 60_000;

export class AuditChain {
  readonly #storage: AuditStorage;
  readonly #sealer: Sealer;

  /** `name`: of the chain and of the admission object, the domain's number or `system`. */
  constructor(storage: DurableObjectStorage, env: Env, name: string) {
    this.#storage = auditStorage(storage);
    const db = database(env);
    this.#sealer = new Sealer({
      store: this.#storage.seal,
      readHead: () => findHead(db, name),
      readIdsAfter: (seq) => listIdsAfter(db, name, seq),
      readPending: (limit) => readPending(db, name, limit),
      commit: (batch) => insertSealed(db, name, batch),
      durably: (step, work) => durably(failpointsOf(env), step, work),
    });
  }

  /** Something to seal, or to wait for. */
  isDue(): boolean {
    return (
      this.#sealer.hasWork() ||
      this.#storage.windows.size() > 0 ||
      this.#storage.expectedUntilMs() > systemClock.nowMs()
    );
  }

  /** Part of the transaction of what it tells of. */
  add(entry: AuditEntry): void {
    this.#storage.seal.add({ id: entry.id, text: JSON.stringify(entry) });
  }

  /** D1 is about to get an entry. */
  expect(): void {
    this.#storage.expectUntil(systemClock.nowMs() + expectMs);
  }

  refused(refusals: readonly Refusals[]): void {
    for (const entry of countRefusals(this.#storage.windows, refusals, systemClock.nowMs())) this.add(entry);
  }

  /** After a restore; see the sealer. */
  catchUp(): Promise<void> {
    return this.#sealer.catchUp();
  }

  /** Gives everything its place. Rejects when D1 can not be asked. */
  seal(): Promise<Head> {
    const nowMs = systemClock.nowMs();
    const counted = closeWindows(this.#storage.windows, nowMs, () => newId('audit', nowMs, systemRandom.bytes(10)));
    for (const entry of counted) this.add(entry);
    return this.#sealer.seal();
  }
}
