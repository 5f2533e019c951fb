/** A stream of the memory store: entries in order of their ids, appended at the end, trimmed at the front. Pure. */
import { RedisError } from '../backend.ts';
import type { Value } from './values.ts';

/** Two unsigned 64-bit numbers, milliseconds and sequence; ordered by the first, then the second. */
export interface StreamId {
  readonly ms: bigint;
  readonly seq: bigint;
}

export interface StreamEntry extends StreamId {
  /** Field, value, field, value ... */
  readonly fields: readonly string[];
}

export const uint64Max = 2n ** 64n - 1n;
export const firstId: StreamId = { ms: 0n, seq: 0n };
export const lastPossibleId: StreamId = { ms: uint64Max, seq: uint64Max };

/** Estimated overhead of an entry and of each of its strings. */
const entryBytes = 160;
const stringBytes = 24;

/** How many entries an approximate trim removes at a time, as Redis removes whole nodes. */
const nodeEntries = 100;

export class StreamValue implements Value {
  readonly type = 'stream';
  /** A stream without entries still exists: it remembers its last id. */
  readonly isEmpty = false;
  bytes = 0;
  lastId: StreamId = firstId;
  readonly #entries: StreamEntry[] = [];

  get entries(): readonly StreamEntry[] {
    return this.#entries;
  }

  append(id: StreamId, fields: readonly string[]): void {
    if (compareIds(id, this.lastId) <= 0) {
      throw new RedisError('ERR The ID specified in XADD is equal or smaller than the target stream top item');
    }
    const entry = { ...id, fields };
    this.#entries.push(entry);
    this.lastId = id;
    this.bytes += weigh(entry);
  }

  delete(id: StreamId): boolean {
    const index = this.position(id);
    const entry = this.#entries[index];
    if (entry === undefined || compareIds(entry, id) !== 0) return false;
    this.#entries.splice(index, 1);
    this.bytes -= weigh(entry);
    return true;
  }

  /** Removes the oldest `count` entries; approximately means whole hundreds only. Answers how many went. */
  trim(count: number, approximately: boolean): number {
    const rounded = approximately ? count - (count % nodeEntries) : count;
    const removed = this.#entries.splice(0, Math.max(0, rounded));
    for (const entry of removed) this.bytes -= weigh(entry);
    return removed.length;
  }

  /** Index of the first entry that is not before the id. */
  position(id: StreamId): number {
    let low = 0;
    let high = this.#entries.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = this.#entries[middle];
      if (entry !== undefined && compareIds(entry, id) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function compareIds(a: StreamId, b: StreamId): number {
  if (a.ms !== b.ms) return a.ms < b.ms ? -1 : 1;
  if (a.seq !== b.seq) return a.seq < b.seq ? -1 : 1;
  return 0;
}

/** The id that follows directly. Throws RedisError at the last possible one. */
export function nextId(id: StreamId): StreamId {
  if (id.seq < uint64Max) return { ms: id.ms, seq: id.seq + 1n };
  if (id.ms < uint64Max) return { ms: id.ms + 1n, seq: 0n };
  throw new RedisError('ERR The stream has exhausted the last possible ID, unable to add more items');
}

export function formatId({ ms, seq }: StreamId): string {
  return `${ms}-${seq}`;
}

function weigh({ fields }: StreamEntry): number {
  let bytes = entryBytes;
  for (const text of fields) bytes += text.length + stringBytes;
  return bytes;
}
