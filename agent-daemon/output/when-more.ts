/** Waiting for more of any of several logs. */
import { whenDue } from '../wake.ts';
import type { StreamLog } from './stream-log.ts';

/** Resolves when one of the readers may have more, or nothing more comes to it, or `signal` aborts. */
export function whenMoreOf(
  readers: readonly { readonly log: StreamLog; readonly position: number }[],
  signal: AbortSignal,
): Promise<void> {
  const isDue = () => readers.some(({ log, position }) => log.isBeyond(position));
  const logs = readers.map(({ log }) => log);
  return whenDue(isDue, logs, signal);
}
