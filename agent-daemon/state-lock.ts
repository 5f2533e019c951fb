/**
 * One agent for a state directory: two would both answer for the same identity, write the same journal and spools, and
 * suspend each other as copies. The lock is the kernel's, on an open file: it goes with the process, whichever way that
 * ends. The file itself stays: a lock on a deleted file guards nothing.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, constants, ftruncateSync, mkdirSync, openSync, readFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';

/** The exit status by which flock says that another process holds the lock (EX_TEMPFAIL). */
const lockedStatus = 75;
/** An agent that was just told to stop gets this long to go. */
const waitSeconds = 2;

/** Another agent works on this state directory. */
export class StateInUse extends Error {
  constructor(stateDir: string, pid: string) {
    super(
      `another agent${pid === '' ? '' : ` (process ${pid})`} already works on ${stateDir}: stop that one first` +
        `${pid === '' ? '' : ` (kill ${pid}; its containers go on)`}, or give this one a directory of its own with --state`,
    );
    this.name = 'StateInUse';
  }
}

/**
 * Takes the lock for as long as this process lives; makes the directory (0700) if need be.
 * @throws StateInUse when another agent still has it after two seconds
 */
export function lockState(stateDir: string): void {
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const path = join(stateDir, 'agent.lock');
  const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  // The helper locks the open file that it inherits and ends; the lock stays with our descriptor.
  const args = ['-w', String(waitSeconds), '-E', String(lockedStatus), '3'];
  const { error, status } = spawnSync('flock', args, { stdio: ['ignore', 'ignore', 'ignore', file] });
  if (status === 0) {
    ftruncateSync(file);
    writeSync(file, `${process.pid}\n`, 0);
    return;
  }
  closeSync(file);
  if (status === lockedStatus) throw new StateInUse(stateDir, readFileSync(path, 'utf8').trim());
  throw new Error(`${path} can not be locked: ${error?.message ?? `flock ended with ${status}`} (Debian: util-linux)`);
}
