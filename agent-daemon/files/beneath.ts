/**
 * Opens files below a directory without ever following a link on the way, while a tenant changes the tree: each step is
 * taken from the descriptor of the last one (`/proc/self/fd/N/name`, which is openat) and refuses links. Nothing outside
 * of the directory can be reached, whatever the tree holds or becomes.
 */
import { constants } from 'node:fs';
import { type FileHandle, lstat, open, mkdir } from 'node:fs/promises';
import { Refusal } from '../../schema/errors.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY } = constants;

/** The path of `name` in an open directory: valid while it is open. */
export function at(directory: FileHandle, name: string): string {
  return `/proc/self/fd/${directory.fd}/${name}`;
}

/** The path of an open directory itself, as a directory. */
export function self(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}/`;
}

/** Opens a directory that only the agent can have put there. */
export function openRoot(path: string): Promise<FileHandle> {
  return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

/**
 * Opens the directory that `names` lead to from `root`; the caller closes it. Missing ones are made when `make` is set.
 * @throws Refusal `session_file_unsafe` where a name is a link or no directory, `session_file_not_found`
 */
export async function openBeneath(
  root: FileHandle,
  names: readonly string[],
  make?: (parent: FileHandle, name: string) => Promise<void>,
): Promise<FileHandle> {
  let directory = await openRoot(self(root));
  for (const name of names) {
    try {
      const next = await openChild(directory, name, make);
      await directory.close();
      directory = next;
    } catch (error) {
      await directory.close();
      throw error;
    }
  }
  return directory;
}

async function openChild(
  parent: FileHandle,
  name: string,
  make?: (parent: FileHandle, name: string) => Promise<void>,
): Promise<FileHandle> {
  try {
    return await open(at(parent, name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' && make !== undefined) {
      await make(parent, name);
      return openChild(parent, name);
    }
    if (code === 'ENOENT') throw new Refusal('session_file_not_found', 'There is no such file or folder.');
    if (code === 'ELOOP' || code === 'ENOTDIR') {
      throw new Refusal('session_file_unsafe', 'A part of the path is a link or a file. Name the real folder.');
    }
    throw error;
  }
}

/** Makes a directory in an open one, with its owner; one that is there is left as it is. */
export async function makeDirectory(parent: FileHandle, name: string, own: (path: string) => Promise<void>) {
  try {
    await mkdir(at(parent, name), 0o755);
    await own(at(parent, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

/** What `name` is, links not followed; undefined when there is nothing. */
export async function look(parent: FileHandle, name: string) {
  try {
    return await lstat(at(parent, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Opens a regular file to read: never a link, and never waiting for a pipe's other end. Undefined for anything else. */
export async function openFile(parent: FileHandle, name: string): Promise<FileHandle | undefined> {
  const found = await look(parent, name);
  // A look first: opening a device or a pipe has effects of its own.
  if (found?.isFile() !== true) return undefined;
  try {
    const file = await open(at(parent, name), O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ELOOP' && code !== 'ENOENT') throw error;
  }
  return undefined;
}
