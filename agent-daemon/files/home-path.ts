/** Paths below a session's home as a client writes them: parsed once, into names that lead nowhere else. Pure. */
import { Refusal } from '../../schema/errors.ts';

const maxDepth = 64;
const maxNameBytes = 255;
const maxPathBytes = 4096;

/** The names from the home to the path, none for the home itself. @throws Refusal `session_file_unsafe` */
export function parseHomePath(path: string): string[] {
  const names = splitPath(path);
  if (typeof names === 'string') {
    throw new Refusal('session_file_unsafe', `The path ${names}. Name a path below /home/work.`);
  }
  return names;
}

/** The names of a relative path without `.`; a text that says what is wrong with it. */
export function splitPath(path: string): string[] | string {
  if (path.includes('\0')) return 'has a NUL in it';
  if (path.startsWith('/')) return 'is absolute';
  if (Buffer.byteLength(path) > maxPathBytes) return 'is too long';
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  if (names.includes('..')) return 'has .. in it';
  if (names.length > maxDepth) return `is more than ${maxDepth} folders deep`;
  if (names.some((name) => Buffer.byteLength(name) > maxNameBytes)) return 'has a name that is too long';
  return names;
}
