/** The real world behind `schema/ports.ts` on an agent's host. Nothing here decides anything. */
import { randomFillSync } from 'node:crypto';
import { constants, openSync, readSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import type { Clock, Log, Random, Timers } from '../schema/ports.ts';
import type { Disk } from './disk.ts';

const uptimeFile = openSync('/proc/uptime', 'r');
const uptimeText = Buffer.alloc(64);

/** CLOCK_BOOTTIME, which counts suspend, unlike performance.now(): `1234.56 ...` of /proc/uptime. os.uptime() opens it anew each time. */
function bootMs(): number {
  const bytes = readSync(uptimeFile, uptimeText, 0, uptimeText.length, 0);
  return Math.round(Number.parseFloat(uptimeText.toString('latin1', 0, bytes)) * 1000);
}

export const systemClock: Clock = { nowMs: () => Date.now(), bootMs };

export const systemRandom: Random = {
  bytes: (count) => randomFillSync(new Uint8Array(count)),
  fraction: () => Math.random(),
};

/** Timers whose tasks can not end the process by throwing: a fault is logged and the loop behind it goes on. */
export function systemTimers(log: Log): Timers {
  return {
    after(delayMs, task) {
      const timer = setTimeout(() => {
        try {
          task();
        } catch (error) {
          log.error('a timer failed', { error: String(error) });
        }
      }, delayMs);
      return () => clearTimeout(timer);
    },
  };
}

export const systemDisk: Disk = {
  ...fs,
  open: (path, flags, mode) => fs.open(path, flags === 'create' ? constants.O_RDWR | constants.O_CREAT : flags, mode),
};

/** Compresses on a thread of its own. */
export const systemGzip: (bytes: Uint8Array) => Promise<Uint8Array> = promisify(gzip);

/** Runs a task after the I/O of this turn. */
export const systemSoon = (task: () => void): void => void setImmediate(task);

const levels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof levels)[number];

/** One JSON object a line on `out`. */
export function lineLog(least: LogLevel, out: (line: string) => void, bound: Record<string, unknown> = {}): Log {
  const write = (level: LogLevel, message: string, fields?: Record<string, unknown>) => {
    if (levels.indexOf(level) < levels.indexOf(least)) return;
    out(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...bound, ...fields })}\n`);
  };
  return {
    debug: (message, fields) => write('debug', message, fields),
    info: (message, fields) => write('info', message, fields),
    warn: (message, fields) => write('warn', message, fields),
    error: (message, fields) => write('error', message, fields),
  };
}
