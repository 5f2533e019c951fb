/**
 * How long something that has ended was kept. Counted in the time in which the agent ran, by the boot clock: a wall clock
 * that jumps a year ahead must not throw a day's homes away, and one that jumps back must not keep them for ever.
 */
import type { Disk } from './disk.ts';

export interface Kept {
  /** Unix ms of the end, to order and to show; never to decide by. */
  endedAtMs: number;
  keptMs: number;
}

/** Notes in the file `path` that something ended now. */
export async function markEnded(disk: Disk, path: string, nowMs: number): Promise<void> {
  await disk.writeFile(path, `${nowMs} 0`);
}

/** What was noted; undefined when nothing was. */
export async function findKept(disk: Disk, path: string): Promise<Kept | undefined> {
  try {
    const [endedAtMs = 0, keptMs = 0] = (await disk.readFile(path))
      .toString()
      .split(' ')
      .map((text) => Number(text) || 0);
    return { endedAtMs, keptMs };
  } catch {
    return undefined;
  }
}

/** Counts `passedMs` more, and returns how long it was kept so far; 0 when it has not ended. */
export async function keepOn(disk: Disk, path: string, passedMs: number): Promise<number> {
  const kept = await findKept(disk, path);
  if (kept === undefined) return 0;
  const keptMs = kept.keptMs + passedMs;
  await disk.writeFile(path, `${kept.endedAtMs} ${keptMs}`);
  return keptMs;
}

/** Boot time that passes between the looks of one sweep; the first look counts nothing. */
export class Passing {
  readonly #bootMs: () => number;
  #lastMs: number | undefined;

  constructor(bootMs: () => number) {
    this.#bootMs = bootMs;
  }

  lap(): number {
    const nowMs = this.#bootMs();
    const passedMs = nowMs - (this.#lastMs ?? nowMs);
    this.#lastMs = nowMs;
    return passedMs;
  }
}
