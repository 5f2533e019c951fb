/**
 * The dockerd that an instance started: written down when it starts, and ended when the instance is purged, unless
 * containers of others run on it meanwhile. Never ends a dockerd that it can not prove to be that one.
 */
import { readFileSync } from 'node:fs';
import { json } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';

import { callEngine } from './engine.ts';
import { findJson, writeJson } from './files.ts';

/** `started` is the process's start in clock ticks since boot: a process id is used again, both together are not. */
const Marker = z.object({ pid: z.int().positive(), started: z.string().default('') });
const STOP_MS = 30_000;

/** Writes down in `marker` that the process is this instance's dockerd. */
export function recordDockerd(marker: string, pid: number): void {
  writeJson(marker, { pid, started: startOf(pid) ?? '' });
}

/** Process id of the dockerd of `marker`, if it still runs. */
export function findOwnDockerd(marker: string): number | undefined {
  const known = findJson(marker, Marker);
  return known !== undefined && startOf(known.pid) === known.started ? known.pid : undefined;
}

/** What became of it. `used`: so many containers run on it. */
export type Ended = { how: 'stopped' } | { how: 'used'; containers: number } | { how: 'hangs' };

/** Ends the dockerd `pid` behind `socket` when no container runs on it, and waits until it is gone. */
export async function endDockerd(pid: number, socket: string): Promise<Ended> {
  const running = (await json(await callEngine(socket, 'GET', '/containers/json'))) as unknown[];
  if (running.length > 0) return { how: 'used', containers: running.length };
  const started = startOf(pid);
  process.kill(pid, 'SIGTERM');
  for (const until = Date.now() + STOP_MS; startOf(pid) === started; await sleep(100))
    if (Date.now() > until) return { how: 'hangs' };
  return { how: 'stopped' };
}

/** Undefined when there is no such process, or only its zombie, or it is no dockerd. */
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' || !stat.includes('(dockerd)') ? undefined : fields[18];
  } catch {
    return undefined;
  }
}
