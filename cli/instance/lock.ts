/**
 * One supervisor for a home. A helper process holds a file lock for as long as its pipe from us is open, so the kernel releases
 * it whichever way this process ends. The lock file stays: a lock on a deleted file guards nothing.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';

import { CliFailure } from '../exit.ts';
import { homePaths } from './home.ts';

/**
 * Takes the lock of a home, waiting up to `waitSeconds`. Returns the function that gives it back, or undefined when another
 * has it. What a supervisor that is gone wrote of itself goes with its lock: nobody shall take it for what holds the lock now.
 */
export async function takeLock(home: string, waitSeconds: number): Promise<(() => void) | undefined> {
  const { lock: file, state } = homePaths(home);
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  // In a session of its own: a Ctrl-C for us must not end it before our parts have stopped.
  const helper = spawn('flock', ['-w', String(waitSeconds), file, 'sh', '-c', 'echo held; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    detached: true,
  });
  helper.stdin.on('error', () => {});
  return new Promise((resolve, reject) => {
    helper.on('error', (error) =>
      reject(new CliFailure(`flock can not be run: ${error.message}`, { hint: 'apt-get install util-linux' })),
    );
    helper.stdout.once('data', () => {
      helper.unref();
      rmSync(state, { force: true });
      resolve(() => helper.stdin.end());
    });
    helper.on('exit', () => resolve(undefined));
  });
}

/** Is somebody holding the lock of a home now? Shared, so that two who ask at once do not hear of each other. */
export function isLocked(home: string): boolean {
  const { lock } = homePaths(home);
  return spawnSync('flock', ['-s', '-n', '-E', '75', lock, 'true'], { stdio: 'ignore' }).status === 75;
}
