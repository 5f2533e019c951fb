/**
 * One writer for a state directory. Two workerd processes on one directory would both write the same objects, silently; so
 * workerd runs under an advisory lock that the kernel releases with the process, and it dies with the Node process that
 * started it. The lock file is never deleted: a lock on a deleted file guards nothing.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import workerd from 'workerd';

/** The exit status by which flock says that another process holds the lock (EX_TEMPFAIL). */
const LOCKED = 75;

const quoted = (word: string) => `'${word.replaceAll("'", String.raw`'\''`)}'`;

export class StateInUse extends Error {
  constructor(state: string) {
    super(`another edge is running on ${state}: stop it first, or use another state directory`);
  }
}

export type State = { wrapper: string; workerdPid: () => number | undefined };

/**
 * Makes the directory (0700) and the script that starts workerd under the lock. Waits up to five seconds for a former
 * owner to go, then throws StateInUse; the script takes the lock itself, so a race ends with one writer all the same.
 */
export function prepareState(state: string): State {
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const lock = join(state, 'lock');
  const pid = join(state, 'workerd.pid');
  const wrapper = join(state, 'workerd.sh');
  const probe = spawnSync('flock', ['-w', '5', '-E', String(LOCKED), lock, 'true'], { stdio: 'ignore' });
  if (probe.error) throw new Error(`cannot run flock (Debian package util-linux): ${probe.error.message}`);
  if (probe.status === LOCKED) throw new StateInUse(state);
  const locked = `echo $$ > ${quoted(pid)}; exec ${quoted(workerd.default)} "$@"`;
  writeFileSync(
    wrapper,
    `#!/bin/sh\nexec setpriv --pdeathsig KILL flock --no-fork -n -E ${LOCKED} ${quoted(lock)} sh -c ${quoted(locked)} workerd "$@"\n`,
    { mode: 0o700 },
  );
  return { wrapper, workerdPid: () => readPid(pid) };
}

function readPid(file: string): number | undefined {
  try {
    return Number(readFileSync(file, 'utf8')) || undefined;
  } catch {
    return undefined;
  }
}
