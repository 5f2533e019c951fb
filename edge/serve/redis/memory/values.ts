/**
 * What a key can hold, but streams. Each value knows how many bytes it takes (an honest estimate of V8's overhead included),
 * so that the store's cap is a cap. Pure.
 */

/** What the keyspace knows of a value. */
export interface Value {
  readonly type: 'string' | 'hash' | 'list' | 'set' | 'zset' | 'stream';
  readonly bytes: number;
  /** A collection without elements does not exist; a string and a stream may be empty. */
  readonly isEmpty: boolean;
}

/** Estimated overhead of one element of a collection. */
const elementBytes = 64;

export class StringValue implements Value {
  readonly type = 'string';
  readonly isEmpty = false;
  data = '';

  get bytes(): number {
    return this.data.length;
  }
}

export class HashValue implements Value {
  readonly type = 'hash';
  readonly fields: ReadonlyMap<string, string>;
  readonly #fields = new Map<string, string>();
  bytes = 0;

  constructor() {
    this.fields = this.#fields;
  }

  get isEmpty(): boolean {
    return this.#fields.size === 0;
  }

  /** True when the field is new. */
  set(field: string, value: string): boolean {
    const old = this.#fields.get(field);
    this.#fields.set(field, value);
    this.bytes += old === undefined ? field.length + value.length + elementBytes : value.length - old.length;
    return old === undefined;
  }

  delete(field: string): boolean {
    const old = this.#fields.get(field);
    if (old === undefined) return false;
    this.#fields.delete(field);
    this.bytes -= field.length + old.length + elementBytes;
    return true;
  }
}

export class ListValue implements Value {
  readonly type = 'list';
  bytes = 0;
  #items: string[] = [];

  get items(): readonly string[] {
    return this.#items;
  }

  get isEmpty(): boolean {
    return this.#items.length === 0;
  }

  /** Removes `count` items at `index` and puts others in their place; answers the removed ones. */
  splice(index: number, count: number, ...added: string[]): string[] {
    const removed = this.#items.splice(index, count, ...added);
    this.bytes += weigh(added) - weigh(removed);
    return removed;
  }
}

export class SetValue implements Value {
  readonly type = 'set';
  readonly members: ReadonlySet<string>;
  readonly #members = new Set<string>();
  bytes = 0;

  constructor() {
    this.members = this.#members;
  }

  get isEmpty(): boolean {
    return this.#members.size === 0;
  }

  add(member: string): boolean {
    if (this.#members.has(member)) return false;
    this.#members.add(member);
    this.bytes += member.length + elementBytes;
    return true;
  }

  delete(member: string): boolean {
    if (!this.#members.delete(member)) return false;
    this.bytes -= member.length + elementBytes;
    return true;
  }
}

export interface Scored {
  readonly member: string;
  readonly score: number;
}

/** Members in order of score, then of their bytes. */
export class SortedSetValue implements Value {
  readonly type = 'zset';
  bytes = 0;
  readonly #scores = new Map<string, number>();
  readonly #sorted: Scored[] = [];

  get sorted(): readonly Scored[] {
    return this.#sorted;
  }

  get isEmpty(): boolean {
    return this.#sorted.length === 0;
  }

  score(member: string): number | undefined {
    return this.#scores.get(member);
  }

  rank(member: string): number | undefined {
    const score = this.#scores.get(member);
    return score === undefined ? undefined : this.#position({ member, score });
  }

  set(member: string, score: number): void {
    this.delete(member);
    this.#scores.set(member, score);
    this.#sorted.splice(this.#position({ member, score }), 0, { member, score });
    this.bytes += member.length + 2 * elementBytes;
  }

  delete(member: string): boolean {
    const score = this.#scores.get(member);
    if (score === undefined) return false;
    this.#sorted.splice(this.#position({ member, score }), 1);
    this.#scores.delete(member);
    this.bytes -= member.length + 2 * elementBytes;
    return true;
  }

  /** Index of the first element that is not before `wanted`. */
  #position(wanted: Scored): number {
    let low = 0;
    let high = this.#sorted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const element = this.#sorted[middle];
      if (element !== undefined && isBefore(element, wanted)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isBefore(a: Scored, b: Scored): boolean {
  return a.score === b.score ? a.member < b.member : a.score < b.score;
}

function weigh(items: readonly string[]): number {
  let bytes = 0;
  for (const item of items) bytes += item.length + elementBytes;
  return bytes;
}
