/**
 * Which agent a session goes to: an index over free capacity that finds a tight fit without looking at every agent.
 * Agents stand in buckets of a grid (level of their scarcest extra slot x level of free cpu x level of free mem, in half
 * octaves); bitmaps say which buckets are in use. One grid for each set of extra slots, so that a session that needs no
 * accelerator goes to a plain agent first. Pure: integer base units, no clock, no store.
 */
import type { Slots } from '../../../schema/protocol/messages.ts';

const cpuLevels = 32;
const memLevels = 32;
const extraLevels = 32;
const cpuBase = 250;
const memBase = 64 * 1024 ** 2;
/** Candidates looked at in a bucket before going on; a second pass looks at all when nothing was found. */
const probes = 4;
/** Sessions of one agent, whatever they ask for: its inventory must stay within the protocol's limit. */
export const sessionsPerAgent = 1000;

/** Half octaves above `base`, 0 to 31. */
function levelOf(amount: number, base: number): number {
  return amount < base ? 0 : Math.min(31, 1 + Math.floor(2 * Math.log2(amount / base)));
}

interface Entry {
  agentId: string;
  total: Slots;
  free: Slots;
  sessions: number;
  grid: Grid;
  bucket: number;
  previous: Entry | undefined;
  next: Entry | undefined;
}

/** Agents with the same extra slots. */
class Grid {
  /** Extra slot names, sorted; the first is the grid's own dimension. */
  readonly extras: readonly string[];
  readonly #heads = new Map<number, Entry>();
  readonly #memBits = new Int32Array(extraLevels * cpuLevels);
  readonly #cpuBits = new Int32Array(extraLevels);

  constructor(extras: readonly string[]) {
    this.extras = extras;
  }

  bucketOf(free: Slots): number {
    const first = this.extras[0];
    const extra = first === undefined ? 0 : levelOf(free[first] ?? 0, 1);
    return (extra * cpuLevels + levelOf(free['cpu'] ?? 0, cpuBase)) * memLevels + levelOf(free['mem'] ?? 0, memBase);
  }

  add(entry: Entry): void {
    const bucket = this.bucketOf(entry.free);
    const head = this.#heads.get(bucket);
    entry.bucket = bucket;
    entry.previous = undefined;
    entry.next = head;
    if (head) head.previous = entry;
    this.#heads.set(bucket, entry);
    this.#memBits[bucket >> 5]! |= 1 << (bucket & 31);
    this.#cpuBits[bucket >> 10]! |= 1 << ((bucket >> 5) & 31);
  }

  remove(entry: Entry): void {
    const { bucket, previous, next } = entry;
    if (next) next.previous = previous;
    if (previous) previous.next = next;
    else if (next) this.#heads.set(bucket, next);
    else this.#clear(bucket);
    entry.previous = undefined;
    entry.next = undefined;
  }

  #clear(bucket: number): void {
    this.#heads.delete(bucket);
    this.#memBits[bucket >> 5]! &= ~(1 << (bucket & 31));
    if (this.#memBits[bucket >> 5] === 0) this.#cpuBits[bucket >> 10]! &= ~(1 << ((bucket >> 5) & 31));
  }

  /** The tightest agent that fits, looking at up to `most` agents of a bucket. `cut` tells that some were not looked at. */
  pick(want: Slots, most: number, avoid: ReadonlySet<string>): { entry: Entry | undefined; cut: boolean } {
    const low = this.bucketOf(want);
    let cut = false;
    for (let extra = low >> 10; extra < extraLevels; extra += 1) {
      for (let cpu = this.#cpuBits[extra]! & (-1 << ((low >> 5) & 31)); cpu !== 0; cpu &= cpu - 1) {
        const row = extra * cpuLevels + lowestBit(cpu);
        for (let mem = this.#memBits[row]! & (-1 << (low & 31)); mem !== 0; mem &= mem - 1) {
          const found = probe(this.#heads.get(row * memLevels + lowestBit(mem)), want, most, avoid);
          if (found.entry) return { entry: found.entry, cut };
          cut ||= found.cut;
        }
      }
    }
    return { entry: undefined, cut };
  }
}

function lowestBit(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}

function probe(head: Entry | undefined, want: Slots, most: number, avoid: ReadonlySet<string>) {
  let best: Entry | undefined;
  let bestLeft = Number.POSITIVE_INFINITY;
  let seen = 0;
  let entry = head;
  for (; entry && seen < most; entry = entry.next, seen += 1) {
    if (avoid.has(entry.agentId) || !entryFits(entry, want)) continue;
    const left = leftOver(entry, want);
    if (left < bestLeft) {
      best = entry;
      bestLeft = left;
    }
  }
  return { entry: best, cut: entry !== undefined };
}

function entryFits(entry: Entry, want: Slots): boolean {
  if (entry.sessions >= sessionsPerAgent) return false;
  for (const name in want) if ((entry.free[name] ?? 0) < want[name]!) return false;
  return true;
}

/** Share of the agent that would stay free: smaller is tighter. */
function leftOver(entry: Entry, want: Slots): number {
  let left = 0;
  for (const name of ['cpu', 'mem']) {
    const total = entry.total[name] ?? 0;
    if (total > 0) left += ((entry.free[name] ?? 0) - (want[name] ?? 0)) / total;
  }
  return left;
}

export interface PickOptions {
  /** Taken when it fits: it has the session's home. */
  prefer?: string;
  /** Taken only when no other fits. */
  avoid?: readonly string[];
}

/** Agents that may take sessions now, by what they have free. */
export class Placement {
  readonly #entries = new Map<string, Entry>();
  readonly #grids = new Map<string, Grid>();

  /** Adds an agent, or changes what it has. */
  put(agentId: string, total: Slots, used: Slots, sessions: number): void {
    this.remove(agentId);
    const free: Slots = {};
    for (const [name, amount] of Object.entries(total)) free[name] = Math.max(0, amount - (used[name] ?? 0));
    const grid = this.#gridOf(total);
    const entry: Entry = { agentId, total, free, sessions, grid, bucket: 0, previous: undefined, next: undefined };
    grid.add(entry);
    this.#entries.set(agentId, entry);
  }

  remove(agentId: string): void {
    const entry = this.#entries.get(agentId);
    if (!entry) return;
    entry.grid.remove(entry);
    this.#entries.delete(agentId);
  }

  /** True when the agent may take sessions and has `want` free. */
  fits(agentId: string, want: Slots): boolean {
    const entry = this.#entries.get(agentId);
    return entry !== undefined && entryFits(entry, want);
  }

  /** What an agent that may take sessions has free. */
  free(agentId: string): Slots | undefined {
    return this.#entries.get(agentId)?.free;
  }

  /** A tight fit, or undefined when nobody has `want` free. */
  pick(want: Slots, options: PickOptions = {}): string | undefined {
    const { prefer, avoid = [] } = options;
    if (prefer !== undefined && !avoid.includes(prefer) && this.fits(prefer, want)) return prefer;
    const found = this.#search(want, new Set(avoid));
    return found ?? (avoid.length > 0 ? this.#search(want, new Set()) : undefined);
  }

  #search(want: Slots, avoid: ReadonlySet<string>): string | undefined {
    const needed = Object.keys(want).filter((name) => name !== 'cpu' && name !== 'mem' && want[name] !== 0);
    const grids = [...this.#grids.values()].filter((grid) => needed.every((name) => grid.extras.includes(name)));
    for (const grid of grids) {
      const quick = grid.pick(want, probes, avoid);
      const found = quick.entry ?? (quick.cut ? grid.pick(want, Number.POSITIVE_INFINITY, avoid).entry : undefined);
      if (found) return found.agentId;
    }
    return undefined;
  }

  /** Grids are kept in order of their number of extras: nobody blocks an accelerator that it does not need. */
  #gridOf(total: Slots): Grid {
    const extras = Object.keys(total)
      .filter((name) => name !== 'cpu' && name !== 'mem')
      .sort();
    const key = extras.join(',');
    const known = this.#grids.get(key);
    if (known) return known;
    const grid = new Grid(extras);
    this.#grids.set(key, grid);
    const sorted = [...this.#grids.entries()].sort(([, a], [, b]) => a.extras.length - b.extras.length);
    this.#grids.clear();
    for (const [name, each] of sorted) this.#grids.set(name, each);
    return grid;
  }
}
