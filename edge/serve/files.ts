/** Small files of an instance at the edge: whole or not there, on disk before anybody goes by them. */
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

/** The file's text, or undefined when there is none. */
export function findText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Replaces the file as a whole. `mode` is that of a file that is new. */
export function replaceFile(file: string, text: string, mode: number): void {
  renameSync(writeBeside(file, text, mode), file);
}

/** The text of a secret file (0600), made by `make` when there is none; of two who make it at once, both get the first's. */
export function readOrMake(file: string, make: () => string): string {
  const known = findText(file);
  if (known !== undefined) return known;
  const fresh = writeBeside(file, make(), 0o600);
  try {
    linkSync(fresh, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(fresh, { force: true });
  }
  return readFileSync(file, 'utf8');
}

function writeBeside(file: string, text: string, mode: number): string {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}`;
  const handle = openSync(fresh, 'w', mode);
  try {
    writeSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
  return fresh;
}
