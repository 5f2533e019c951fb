/**
 * Temporary directories of tests: short enough for unix sockets (their paths end at 107 bytes), owned by the process
 * that made them, and removed by the next run where that process was killed before it could do so itself.
 */
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface TmpDir {
  readonly path: string;
  /** Removes the directory with all that is in it; a second call does nothing. */
  remove(): void;
  [Symbol.dispose](): void;
}

/** Every directory of ours starts so; the sweep looks at nothing else. */
export const tmpPrefix = 'cwt-';

/** Names of files by which a directory says who owns it (`pid startTime`) and what else must go with it. */
const ownerFile = '.owner';

const held = new Set<string>();
const removedAtExit = new Set<string>();
process.on('exit', () => removedAtExit.forEach(removeNow));

/**
 * Makes an empty directory below the system's temporary directory; `name` is a hint of at most a few letters. `swept`
 * leaves it to the sweep when this process ends without removing it: it says what else must go first.
 */
export function tmpDir(name = 'x', { swept = false } = {}): TmpDir {
  const path = join(tmpdir(), `${tmpPrefix}${name}-${randomBytes(4).toString('hex')}`);
  mkdirSync(path, { mode: 0o755 });
  writeFileSync(join(path, ownerFile), `${process.pid} ${startTime(process.pid) ?? ''}`);
  held.add(path);
  if (!swept) removedAtExit.add(path);
  const remove = (): void => removeNow(path);
  return { path, remove, [Symbol.dispose]: remove };
}

/** Directories whose owner is gone: left by a run that was killed. */
export function abandonedDirs(): string[] {
  return readdirSync(tmpdir())
    .filter((name) => name.startsWith(tmpPrefix))
    .map((name) => join(tmpdir(), name))
    .filter(isAbandoned);
}

/** When the process started, in clock ticks since boot, or undefined when there is no such process: with the pid it names a process for good. */
export function startTime(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.split(' ')[19];
  } catch {
    return undefined;
  }
}

function isAbandoned(path: string): boolean {
  try {
    const [pid, started] = readFileSync(join(path, ownerFile), 'utf8').split(' ');
    return startTime(Number(pid)) !== started;
  } catch {
    return false; // not complete yet: somebody is making it right now
  }
}

function removeNow(path: string): void {
  if (!held.delete(path)) return;
  rmSync(path, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
}
