/** Reads of output that a disk refuses: again for a while, before what was to be read is told as missing. */
import type { Clock, Timers } from '../../schema/ports.ts';
import { pause } from '../deadline.ts';

/** How long what the disk refuses is tried again before output is given up: who reads or writes it waits meanwhile. */
export const patienceMs = 5_000;
export const tryAgainMs = 250;

const unreadable: ReadonlySet<string> = new Set(['EIO', 'EBADMSG', 'EUCLEAN', 'ENODATA']);

/** True when the error says that the medium does not give what it has: a bad block, a checksum that is wrong. */
export function isUnreadable(error: unknown): boolean {
  return unreadable.has((error as NodeJS.ErrnoException | undefined)?.code ?? '');
}

/** Does `read` until the medium gives it, for 5 s at most, or `signal` aborts. @throws what it failed of last */
export async function readAgain<T>(
  { clock, timers }: { clock: Pick<Clock, 'bootMs'>; timers: Timers },
  read: () => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  for (let giveUpAtMs: number | undefined; ;) {
    try {
      return await read();
    } catch (error) {
      giveUpAtMs ??= clock.bootMs() + patienceMs;
      if (!isUnreadable(error) || signal?.aborted === true || clock.bootMs() >= giveUpAtMs) throw error;
      await pause(timers, tryAgainMs, signal);
    }
  }
}
