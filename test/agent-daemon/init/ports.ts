/** The ports of core modules, backed by this machine. */
import { randomBytes, randomInt } from 'node:crypto';
import { uptime } from 'node:os';
import type { Clock, Log, Random, Timers } from '../../../schema/ports.ts';

export const clock: Clock = { nowMs: () => Date.now(), bootMs: () => uptime() * 1000 };
export const random: Random = {
  bytes: (count) => randomBytes(count),
  fraction: () => randomInt(2 ** 32) / 2 ** 32,
};
export const timers: Timers = {
  after: (delayMs, task) => {
    const timer = setTimeout(task, delayMs);
    return () => clearTimeout(timer);
  },
};
const quiet = (): void => {};
export const quietLog: Log = { debug: quiet, info: quiet, warn: quiet, error: quiet };
