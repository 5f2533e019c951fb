/**
 * What an `Access` object knows: which users and tokens of its shard were revoked or changed, and at which version. Pure:
 * takes a store and a clock's reading, so that a simulator can run it.
 */
import type { Principal, Verdict } from './access-rpc.ts';

/** How long an entry is kept. Rights read before a forgotten entry are read again (the floor). */
export const keepMs = 24 * 3_600_000;
/** Whoever announced a change has written it to D1 by then, or never will: a request lives no longer. */
export const intentMs = 60_000;

export interface AccessEntry {
  /** `usr_...` or `tok_...` */
  subject: string;
  /** Version of the last change; 0 = none. */
  changedAt: number;
  revoked: boolean;
  atMs: number;
}
/** Rights of `subject` are being written to D1 by somebody who may have died since. */
export interface AccessIntent {
  /** As it was announced; with {@link overlapping} behind it when another change of the subject stood at the same time. */
  id: string;
  subject: string;
  untilMs: number;
}
export interface AccessStore {
  load(): { version: number; floor: number; entries: AccessEntry[]; intents: AccessIntent[] };
  putIntent(intent: AccessIntent): void;
  dropIntent(id: string): void;
  /** Writes the entry and the version in one transaction. */
  put(entry: AccessEntry, version: number): void;
  /** Drops entries and raises the floor in one transaction. */
  forget(subjects: readonly string[], floor: number): void;
}

const overlapping = '~';

export class AccessCore {
  readonly #store: AccessStore;
  readonly #entries = new Map<string, AccessEntry>();
  readonly #intents = new Map<string, AccessIntent>();
  #version: number;
  /** The highest version that was forgotten: who read rights before it can not be judged any more. */
  #floor: number;

  constructor(store: AccessStore) {
    this.#store = store;
    const { version, floor, entries, intents } = store.load();
    this.#version = version;
    this.#floor = floor;
    for (const entry of entries) this.#entries.set(entry.subject, entry);
    for (const intent of intents) this.#intents.set(intent.id, intent);
  }

  get version(): number {
    return this.#version;
  }

  /** The verdict for one principal. A version from the future (the object was restored) or below the floor is `changed`. */
  judge({ userId, tokenId, accessVersion, expiresAtMs }: Principal, nowMs: number): Verdict {
    if (expiresAtMs !== undefined && expiresAtMs <= nowMs) return 'revoked';
    const subjects = [this.#entries.get(userId), this.#entries.get(tokenId)];
    if (subjects.some((entry) => entry?.revoked)) return 'revoked';
    if (accessVersion > this.#version || accessVersion < this.#floor) return 'changed';
    if (this.#isChanging(userId) || this.#isChanging(tokenId)) return 'changed';
    return subjects.some((entry) => entry !== undefined && entry.changedAt > accessVersion) ? 'changed' : 'ok';
  }

  #isChanging(subject: string): boolean {
    if (this.#intents.size === 0) return false;
    return [...this.#intents.values()].some((intent) => intent.subject === subject);
  }

  /**
   * From now on nobody trusts rights of the subject that were read before: they are read anew from D1 at each check, until
   * {@link finish} or for {@link intentMs}. A subject that is to be let in again is no longer refused here; D1 decides.
   * Of two changes at once nobody here knows which D1 takes last: neither is remembered as a revocation.
   */
  intend(id: string, subject: string, restores: boolean, nowMs: number): void {
    const others = [...this.#intents.values()].filter(
      (other) => other.subject === subject && other.id !== id && other.id !== id + overlapping,
    );
    for (const other of others) this.#overlap(other);
    this.#put({ id: others.length > 0 ? id + overlapping : id, subject, untilMs: nowMs + intentMs });
    if (restores && this.#entries.get(subject)?.revoked) this.#note(subject, false, nowMs);
  }

  /** D1 holds the change (or never will). */
  finish(id: string, subject: string, outcome: 'changed' | 'revoked', nowMs: number): void {
    const overlapped = this.#intents.has(id + overlapping);
    this.#drop(id);
    this.#drop(id + overlapping);
    if (!this.#entries.get(subject)?.revoked) this.#note(subject, outcome === 'revoked' && !overlapped, nowMs);
  }

  #overlap(intent: AccessIntent): void {
    if (intent.id.endsWith(overlapping)) return;
    this.#drop(intent.id);
    this.#put({ ...intent, id: intent.id + overlapping });
  }

  #put(intent: AccessIntent): void {
    this.#store.putIntent(intent);
    this.#intents.set(intent.id, intent);
  }

  #drop(id: string): void {
    if (this.#intents.delete(id)) this.#store.dropIntent(id);
  }

  /** When {@link sweep} has something to do, or undefined. */
  nextIntentMs(): number | undefined {
    const ends = [...this.#intents.values()].map(({ untilMs }) => untilMs);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** Ends what was announced and never finished; forgets what is older than 24 h. Returns whether anything is left. */
  sweep(nowMs: number): boolean {
    for (const { id, subject, untilMs } of this.#intents.values())
      if (untilMs <= nowMs) this.finish(id, subject, 'changed', nowMs);
    const old = [...this.#entries.values()].filter((entry) => entry.atMs <= nowMs - keepMs);
    if (old.length > 0) {
      this.#floor = Math.max(this.#floor, ...old.map(({ changedAt }) => changedAt));
      for (const { subject } of old) this.#entries.delete(subject);
      this.#store.forget(
        old.map(({ subject }) => subject),
        this.#floor,
      );
    }
    return this.#entries.size + this.#intents.size > 0;
  }

  #note(subject: string, revoked: boolean, nowMs: number): void {
    this.#version += 1;
    const entry = { subject, changedAt: this.#version, revoked, atMs: nowMs };
    this.#store.put(entry, this.#version);
    this.#entries.set(subject, entry);
  }
}
