/**
 * Measures the homes of sessions from time to time, one after the other and at the lowest priority, and tells which are
 * larger than they should be. It is a look, not a wall: between two looks a session may write what the disk takes.
 */
import { join } from 'node:path';
import type { Log } from '../../schema/ports.ts';
import type { Disk } from '../disk.ts';
import type { Loop, Loops } from '../loops.ts';

const everyMs = 300_000;

export interface OversizedHome {
  sessionId: string;
  sizeBytes: number;
}

export interface HomeSizesOptions {
  /** Directory of the homes. */
  root: string;
  /** What a home may have; 0: not looked at. */
  limitBytes: number;
  disk: Disk;
  /** Bytes on the disk below a directory; undefined when that takes too long. */
  measureTree(path: string): Promise<number | undefined>;
  loops: Loops;
  log: Log;
  /** The list of those that are too large changed. */
  onChange(): void;
}

export class HomeSizes {
  readonly #options: HomeSizesOptions;
  #oversized: OversizedHome[] = [];
  #looking: Loop | undefined;
  #isStopped = false;

  constructor(options: HomeSizesOptions) {
    this.#options = options;
  }

  /** Homes that were too large at the last look, the largest first. */
  get oversized(): readonly OversizedHome[] {
    return this.#oversized;
  }

  start(): void {
    const { limitBytes, loops } = this.#options;
    if (limitBytes > 0) this.#looking = loops.every('sizes of homes', everyMs, () => this.#look());
  }

  stop(): void {
    this.#isStopped = true;
    void this.#looking?.stop();
  }

  async #look(): Promise<void> {
    const { root, limitBytes, log, disk } = this.#options;
    const found: OversizedHome[] = [];
    for (const sessionId of await disk.readdir(root)) {
      if (this.#isStopped) return;
      if (!/^ses_[0-9a-z_]+$/.test(sessionId)) continue;
      const sizeBytes = await this.#options.measureTree(join(root, sessionId));
      if (sizeBytes === undefined || sizeBytes <= limitBytes) continue;
      found.push({ sessionId, sizeBytes });
      if (this.#oversized.some((known) => known.sessionId === sessionId)) continue;
      log.warn('a home is larger than it should be', { sessionId, sizeBytes, limitBytes });
    }
    const before = JSON.stringify(this.#oversized);
    this.#oversized = found.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
    if (JSON.stringify(this.#oversized) !== before) this.#options.onChange();
  }
}
