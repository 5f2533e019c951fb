import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { swapState } from '../../../cli/instance/backup/swap.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';

describe('what a restore puts in place', () => {
  let folder: TmpDir;
  afterEach(() => folder.remove());

  /** A home and an unpacked backup with these files; each holds where it comes from. */
  function swap(atHome: string[], inBackup: string[]) {
    folder = tmpDir('swp');
    const put = (root: string, names: string[]) => {
      for (const name of names) {
        mkdirSync(dirname(join(folder.path, root, name)), { recursive: true });
        writeFileSync(join(folder.path, root, name), root);
      }
    };
    const [home, fresh] = [join(folder.path, 'home'), join(folder.path, 'backup')];
    /** What the same command does when it is typed again. */
    const again = () => {
      put('backup', inBackup);
      return swapState(home, fresh);
    };
    put('home', atHome);
    return { aside: again(), again, read: (path: string) => readFileSync(join(home, path), 'utf8') };
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

  it('leaves output where it is that agents handed over, also when a restore was cut and is typed again', () => {
    const { read, again } = swap(['edge/r2/chunk', 'edge/d1/db'], ['edge/d1/db']);
    expect([read('edge/r2/chunk'), read('edge/d1/db')]).toEqual(['home', 'backup']);
    const aside = again();
    expect([read('edge/r2/chunk'), read('edge/d1/db')]).toEqual(['home', 'backup']);
    expect(readFileSync(join(aside, 'edge/d1/db'), 'utf8')).toBe('home');
    expect(existsSync(join(aside, 'edge/r2'))).toBe(false);
  });

  it('gives a machine an identity only where it has none', () => {
    expect(swap(['agent/key.pem'], ['agent/key.pem']).read('agent/key.pem')).toBe('home');
    folder.remove();
    expect(swap(['keys.json'], ['agent/key.pem']).read('agent/key.pem')).toBe('backup');
  });
});
