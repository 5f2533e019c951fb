/**
 * What OpenSSH was started for, as far as its proxy can know: it is a child of OpenSSH, and programs that move files over
 * SSH (scp, sftp, rsync, git) name their server on its command line. Their bytes are many and nobody waits for a key of
 * theirs, so they take the way that gives way to people. Whoever is not recognised is taken for a person.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

/** True for the words of an OpenSSH that carries files. Pure. */
export function carriesFiles(words: readonly string[]): boolean {
  // scp and sftp ask for the subsystem, which is then the last word.
  if (words.includes('-s') && words.at(-1) === 'sftp') return true;
  return words.some((word, at) => {
    const [first = '', second = ''] = word.includes(' ') ? word.split(' ') : [word, words[at + 1]];
    if (first === 'rsync') return second === '--server';
    if (first === 'scp') return second?.startsWith('-') === true;
    return first === 'git-upload-pack' || first === 'git-receive-pack';
  });
}

/** The words by which the parent of this process was started; none when that can not be seen. */
export function wordsOfParent(pid = process.ppid): string[] {
  try {
    if (process.platform === 'linux')
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        .split('\0')
        .filter((word) => word !== '');
    const stdio: ['ignore', 'pipe', 'ignore'] = ['ignore', 'pipe', 'ignore'];
    return execFileSync('ps', ['-ww', '-o', 'args=', '-p', String(pid)], { encoding: 'utf8', stdio })
      .trim()
      .split(/\s+/);
  } catch {
    return [];
  }
}
