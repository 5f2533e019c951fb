/**
 * How long something that has ended was kept. Counted in the time in which the agent ran, by the boot clock: a wall clock
 * that jumps a year ahead must not throw a day's homes away, and one that jumps back must not keep them for ever.
 */
import { type Disk, writeFully } from './disk.ts';

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

/** Counts `passedMs` more; true when that makes more than `keepMs`. Never so where nothing was noted. */
export async function wasKept(disk: Disk, path: string, passedMs: number, keepMs: number): Promise<boolean> {
  const kept = await findKept(disk, path);
  if (kept === undefined) return false;
  const keptMs = kept.keptMs + passedMs;
  if (keptMs > keepMs) return true;
  if (passedMs > 0) await countOn(disk, path, `${kept.endedAtMs} ${keptMs}`);
  return false;
}

/** Written over what was there, and never shorter: that a full disk takes, too. */
async function countOn(disk: Disk, path: string, text: string): Promise<void> {
  const file = await disk.open(path, 'r+');
  try {
    await writeFully(file, Buffer.from(text), 0);
  } finally {
    await file.close();
  }
}

/** Does `act` with each of them, whatever becomes of the others. @throws the first failure, behind all */
export async function withEach<T>(items: Iterable<T>, act: (item: T) => Promise<void>): Promise<void> {
  const failures: unknown[] = [];
  for (const item of items) await act(item).catch((error: unknown) => failures.push(error));
  if (failures.length > 0) throw failures[0];
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
