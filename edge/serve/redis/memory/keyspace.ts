/**
 * The keys of the memory store: their values, expiry and the sum of their bytes. Knows no command and no clock but the given one.
 * An expired key is gone for every reader at once; its bytes return at the latest with the next sweep.
 */
import { wrongType } from './arguments.ts';
import type { Value } from './values.ts';

interface Entry {
  value: Value;
  /** What the sum of bytes holds for this entry. */
  charged: number;
  /** Milliseconds since 1970, or undefined. */
  expiresAt: number | undefined;
}

/** Estimated overhead of a key. */
const keyBytes = 128;

/** Most keys that one sweep looks at. */
const sweepMax = 2_000;

export class Keyspace {
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  /** Keys that have an expiry. */
  readonly #volatile = new Set<string>();
  #cursor: Iterator<string> | undefined;
  #usedBytes = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get now(): number {
    return this.#now();
  }

  /** The value, or undefined when there is none. Throws RedisError when it is of another type. */
  read<T extends Value>(key: string, kind: new () => T): T | undefined {
    const value = this.#find(key)?.value;
    if (value !== undefined && !(value instanceof kind)) throw wrongType();
    return value;
  }

  /** Lets `change` work on the value, an empty one when there is none; then books its bytes, and drops it when left empty. */
  edit<T extends Value, R>(key: string, kind: new () => T, change: (value: T) => R): R {
    const old = this.read(key, kind);
    const value = old ?? new kind();
    let changed = old !== undefined;
    try {
      const answer = change(value);
      changed = true;
      return answer;
    } finally {
      if (changed) this.#settle(key, value);
    }
  }

  /** Replaces whatever the key holds, without expiry. An empty value removes it. */
  replace(key: string, value: Value): void {
    this.remove(key);
    this.#settle(key, value);
  }

  has(key: string): boolean {
    return this.#find(key) !== undefined;
  }

  type(key: string): Value['type'] | undefined {
    return this.#find(key)?.value.type;
  }

  remove(key: string): boolean {
    const entry = this.#find(key);
    if (entry === undefined) return false;
    this.#drop(key, entry);
    return true;
  }

  /** Moves value and expiry to another name, over what it held. False when there is nothing to move. */
  rename(from: string, to: string): boolean {
    const entry = this.#find(from);
    if (entry === undefined) return false;
    if (from === to) return true;
    const { value, expiresAt } = entry;
    this.#drop(from, entry);
    this.replace(to, value);
    this.expire(to, expiresAt);
    return true;
  }

  /** Milliseconds since 1970 at which the key ends; undefined when never, or when there is no such key. */
  expiry(key: string): number | undefined {
    return this.#find(key)?.expiresAt;
  }

  /** Sets or takes away the expiry; a time that has passed removes the key. False when there is no such key. */
  expire(key: string, at: number | undefined): boolean {
    const entry = this.#find(key);
    if (entry === undefined) return false;
    entry.expiresAt = at;
    if (at === undefined) this.#volatile.delete(key);
    else this.#volatile.add(key);
    this.#find(key);
    return true;
  }

  /** The names of all keys that have not expired. */
  *keys(): Generator<string> {
    for (const [key, entry] of this.#entries) if (!this.#isOver(entry)) yield key;
  }

  /** Keys, expired ones that were not swept yet included. */
  get size(): number {
    return this.#entries.size;
  }

  clear(): void {
    this.#entries.clear();
    this.#volatile.clear();
    this.#usedBytes = 0;
  }

  /** Returns the bytes of expired keys: of all of them, or of those among the next 2,000 that have an expiry. */
  sweep(all = false): void {
    let left = all ? this.#volatile.size : Math.min(this.#volatile.size, sweepMax);
    if (all) this.#cursor = undefined;
    for (; left > 0; left -= 1) {
      this.#cursor ??= this.#volatile.values();
      const next = this.#cursor.next();
      if (next.done === true) this.#cursor = undefined;
      else this.#find(next.value);
    }
  }

  #find(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || !this.#isOver(entry)) return entry;
    this.#drop(key, entry);
    return undefined;
  }

  #isOver(entry: Entry): boolean {
    return entry.expiresAt !== undefined && entry.expiresAt <= this.#now();
  }

  #settle(key: string, value: Value): void {
    const entry = this.#entries.get(key);
    if (value.isEmpty) {
      if (entry !== undefined) this.#drop(key, entry);
      return;
    }
    const bytes = value.bytes + key.length + keyBytes;
    this.#usedBytes += bytes - (entry?.charged ?? 0);
    if (entry === undefined) this.#entries.set(key, { value, charged: bytes, expiresAt: undefined });
    else entry.charged = bytes;
  }

  #drop(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#volatile.delete(key);
    this.#usedBytes -= entry.charged;
  }
}
