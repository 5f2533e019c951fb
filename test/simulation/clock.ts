/**
 * Time of a simulated world: one queue of tasks, ordered by (time, order of insertion), and nothing else that moves.
 * Every step pops one task, runs it, and waits until every promise that it woke has come to rest, so that the same
 * seed gives the same world. It never looks at a real clock; what happened is told by the hash of the trace.
 */

// Taken before a world may stub the globals.
const immediate = setImmediate;

interface Entry {
  atMs: number;
  order: number;
  task: (() => void) | undefined;
}

/** After this many steps without an end something wakes itself for ever. */
const defaultMaxSteps = 50_000_000;

export class VirtualTime {
  /** Virtual milliseconds since the world began; never goes back. */
  nowMs = 0;
  /** Tasks that were run. */
  events = 0;
  readonly #queue: Entry[] = [];
  #order = 0;
  #cancelled = 0;
  #hashA = 0x811c9dc5;
  #hashB = 0x9747b28c;
  readonly #onTrace: ((line: string) => void) | undefined;

  /** `onTrace` sees each line of the trace with its time, for a person who reads one world. */
  constructor(onTrace?: (line: string) => void) {
    this.#onTrace = onTrace;
  }

  /** Runs `task` at `ms` of virtual time (now, when that is past); the answer cancels it. */
  at(ms: number, task: () => void): () => void {
    const entry: Entry = { atMs: Math.max(this.nowMs, ms), order: this.#order++, task };
    push(this.#queue, entry);
    return () => {
      if (entry.task === undefined) return;
      entry.task = undefined;
      this.#cancelled++;
    };
  }

  after(delayMs: number, task: () => void): () => void {
    return this.at(this.nowMs + delayMs, task);
  }

  /** Settles `ms` of virtual time from now. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.after(ms, resolve));
  }

  /** Tasks that wait. */
  get waiting(): number {
    return this.#queue.length - this.#cancelled;
  }

  /** When the next task is due; undefined when none waits. */
  get nextMs(): number | undefined {
    return this.#head()?.atMs;
  }

  /**
   * Runs the next task and all that it wakes; false when none waits. What the task throws, this throws. Whoever calls
   * into the world between two steps lets that come to rest first (`settled`); the run methods below do.
   */
  async step(): Promise<boolean> {
    const entry = this.#head();
    if (entry === undefined) return false;
    pop(this.#queue);
    const task = entry.task!;
    entry.task = undefined;
    this.nowMs = entry.atMs;
    this.events++;
    task();
    await settled();
    return true;
  }

  /** Runs everything that is due up to and at `ms`, and leaves the time there. */
  async runUntil(ms: number, maxSteps = defaultMaxSteps): Promise<void> {
    await settled();
    for (let steps = 0; (this.nextMs ?? Infinity) <= ms; steps++) {
      if (steps >= maxSteps) throw new Error(`the world did not reach ${ms} ms in ${maxSteps} steps`);
      await this.step();
    }
    this.nowMs = Math.max(this.nowMs, ms);
  }

  /** Runs until `done` holds after a task; false when it did not by `deadlineMs`. */
  async runWhile(going: () => boolean, deadlineMs: number): Promise<boolean> {
    await settled();
    while (going()) {
      if ((this.nextMs ?? Infinity) > deadlineMs) return false;
      await this.step();
    }
    return true;
  }

  /** Runs until nothing waits. */
  async runUntilQuiescent(maxSteps = defaultMaxSteps): Promise<void> {
    await settled();
    for (let steps = 0; steps < maxSteps; steps++) {
      if (!(await this.step())) return;
    }
    throw new Error(`the world did not come to rest in ${maxSteps} steps`);
  }

  /** Notes what happened; two runs of a seed are the same when their hashes are. */
  trace(line: string): void {
    let a = Math.imul(this.#hashA ^ this.nowMs, 0x01000193);
    let b = this.#hashB;
    for (let at = 0; at < line.length; at++) {
      const code = line.charCodeAt(at);
      a = Math.imul(a ^ code, 0x01000193);
      b = Math.imul(b ^ code, 0x85ebca6b);
    }
    this.#hashA = a ^ (b >>> 15);
    this.#hashB = b ^ (a >>> 13);
    this.#onTrace?.(`${this.nowMs.toFixed(3)} ${line}`);
  }

  /** 64 bits over every line of the trace and its time, as 16 hexadecimal digits. */
  get hash(): string {
    return [this.#hashA, this.#hashB].map((half) => (half >>> 0).toString(16).padStart(8, '0')).join('');
  }

  #head(): Entry | undefined {
    while (this.#queue[0] !== undefined && this.#queue[0].task === undefined) {
      pop(this.#queue);
      this.#cancelled--;
    }
    return this.#queue[0];
  }
}

/** Settles when every promise and every `process.nextTick` that can go on has gone on. */
export function settled(): Promise<void> {
  return new Promise((resolve) => void immediate(resolve));
}

function before(left: Entry, right: Entry): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.order < right.order);
}

function push(heap: Entry[], entry: Entry): void {
  let at = heap.length;
  heap.push(entry);
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!before(entry, heap[parent]!)) break;
    heap[at] = heap[parent]!;
    at = parent;
  }
  heap[at] = entry;
}

function pop(heap: Entry[]): void {
  const last = heap.pop();
  if (last === undefined || heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
    if (!before(heap[child]!, last)) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = last;
}
