import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { swapState } from '../../../cli/instance/backup/swap.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';

describe('what a restore puts in place', () => {
  let folder: TmpDir;
  afterEach(() => folder.remove());

  /** A home and an unpacked backup with these files; each holds where it comes from. */
  function swap(atHome: string[], inBackup: string[]): { read: (path: string) => string; aside: string } {
    folder = tmpDir('swp');
    const [home, fresh] = [join(folder.path, 'home'), join(folder.path, 'fresh')];
    for (const [root, names] of [
      [home, atHome],
      [fresh, inBackup],
    ] as const)
      for (const name of names) {
        mkdirSync(dirname(join(root, name)), { recursive: true });
        writeFileSync(join(root, name), root === home ? 'home' : 'backup');
      }
    const aside = swapState(home, fresh);
    return { read: (path) => readFileSync(join(home, path), 'utf8'), aside };
  }

  it('keeps the keys of TLS that others have pinned when the backup has none', () => {
    const { read } = swap(['keys.json', 'tls/server.key'], ['keys.json']);
    expect([read('keys.json'), read('tls/server.key')]).toEqual(['backup', 'home']);
  });

  it('takes the keys of TLS of the backup, and keeps those that were here aside', () => {
    const { read, aside } = swap(['tls/server.key'], ['tls/server.key']);
    expect(read('tls/server.key')).toBe('backup');
    expect(readFileSync(join(aside, 'tls/server.key'), 'utf8')).toBe('home');
  });

  it('gives a machine an identity only where it has none', () => {
    expect(swap(['agent/key.pem'], ['agent/key.pem']).read('agent/key.pem')).toBe('home');
    folder.remove();
    expect(swap(['keys.json'], ['agent/key.pem']).read('agent/key.pem')).toBe('backup');
  });
});
