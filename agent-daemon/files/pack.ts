/** A path of a session's home as a tar archive, made while a tenant may change it: files, folders and links as links. */
import { readlink, readdir } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { type Pack, pack } from 'tar-stream';
import { Refusal } from '../../schema/errors.ts';
import { at, look, openBeneath, openFile, openRoot, self } from './beneath.ts';

const maxEntries = 100_000;
const chunkBytes = 256 * 1024;
/** In place of bytes of a name that are no UTF-8: there is no file of that name. */
const notText = '\ufffd';

/**
 * Packs what `names` lead to below the home directory. Names in the archive begin with the last of `names`, or, for the
 * home itself, with what is in it. The archive is complete when the stream ends; a failure destroys it.
 * @throws Refusal `session_file_not_found`, `session_file_unsafe`
 */
export async function packBeneath(homePath: string, names: readonly string[]): Promise<Pack> {
  const root = await openHome(homePath);
  try {
    const parent = await openBeneath(root, names.slice(0, -1));
    const name = names.at(-1);
    if (name !== undefined && (await look(parent, name)) === undefined) {
      await parent.close();
      throw new Refusal('session_file_not_found', 'There is no such file or folder.');
    }
    const archive = pack();
    const packing = new Packing(archive);
    const work = name === undefined ? packing.addContent(parent, '') : packing.addEntry(parent, name, name);
    void finish(archive, work, parent);
    return archive;
  } finally {
    await root.close();
  }
}

async function openHome(path: string): Promise<FileHandle> {
  try {
    return await openRoot(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw new Refusal('session_file_not_found', 'The home of the session is not kept any more.');
  }
}

async function finish(archive: Pack, work: Promise<void>, parent: FileHandle): Promise<void> {
  try {
    await work;
    archive.finalize();
  } catch (error) {
    archive.destroy(error instanceof Error ? error : new Error(String(error)));
  } finally {
    await parent.close();
  }
}

class Packing {
  readonly #archive: Pack;
  #entries = 0;

  constructor(archive: Pack) {
    this.#archive = archive;
  }

  /** Everything in an open directory, in the order of names. */
  async addContent(directory: FileHandle, path: string): Promise<void> {
    for (const name of (await readdir(self(directory))).toSorted()) {
      await this.addEntry(directory, name, path === '' ? name : `${path}/${name}`);
    }
  }

  async addEntry(parent: FileHandle, name: string, path: string): Promise<void> {
    if (++this.#entries > maxEntries) {
      throw new Refusal('session_file_unsafe', `There are more than ${maxEntries} files. Take a smaller folder.`);
    }
    const found = await look(parent, name);
    if (found === undefined && name.includes(notText)) {
      throw new Refusal('session_file_unsafe', 'The name of a file there is not UTF-8. Rename it, or use scp.');
    }
    if (found === undefined) return; // gone meanwhile
    const header = { name: path, mode: found.mode & 0o777, mtime: found.mtime, uid: 0, gid: 0 };
    if (found.isDirectory()) return this.#addDirectory(parent, name, { ...header, name: `${path}/` });
    if (found.isSymbolicLink()) return this.#addLink(parent, name, header);
    // Pipes, sockets and devices have no content that could be taken along.
    if (found.isFile()) return this.#addFile(parent, name, header);
  }

  async #addDirectory(parent: FileHandle, name: string, header: Header): Promise<void> {
    const directory = await unlessGone(openBeneath(parent, [name]));
    if (directory === undefined) return;
    try {
      await this.#entry({ ...header, type: 'directory' });
      await this.addContent(directory, header.name.slice(0, -1));
    } finally {
      await directory.close();
    }
  }

  async #addLink(parent: FileHandle, name: string, header: Header): Promise<void> {
    const linkname = await unlessGone(readlink(at(parent, name)));
    if (linkname === undefined) return;
    await this.#entry({ ...header, type: 'symlink', linkname });
  }

  async #addFile(parent: FileHandle, name: string, header: Header): Promise<void> {
    const file = await openFile(parent, name);
    if (file === undefined) return;
    try {
      const { size } = await file.stat();
      const entry = this.#archive.entry({ ...header, type: 'file', size });
      // A file that shrinks is filled up with zeros, one that grows is cut: its size stands in the archive already.
      for (let done = 0; done < size;) {
        const wanted = Math.min(chunkBytes, size - done);
        const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(wanted), 0, wanted, done);
        const bytes = bytesRead > 0 ? buffer.subarray(0, bytesRead) : Buffer.alloc(wanted);
        done += bytes.byteLength;
        await written(entry, bytes);
      }
      await ended(entry);
    } finally {
      await file.close();
    }
  }

  #entry(header: Header & { type: 'directory' | 'symlink'; linkname?: string }): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#archive.entry(header, (error) => (error ? reject(error) : resolve())).on('error', reject);
    });
  }
}

/** Undefined for what went, or became something else, since it was looked at. */
async function unlessGone<T>(opening: Promise<T>): Promise<T | undefined> {
  try {
    return await opening;
  } catch (error) {
    const isGone =
      error instanceof Refusal || ['ENOENT', 'EINVAL'].includes((error as NodeJS.ErrnoException).code ?? '');
    if (isGone) return undefined;
    throw error;
  }
}

interface Header {
  name: string;
  mode: number;
  mtime: Date;
  uid: number;
  gid: number;
}

type Sink = ReturnType<Pack['entry']>;

/** Resolves when more may be written. */
function written(entry: Sink, bytes: Buffer): Promise<void> {
  return settled(entry, 'drain', () => entry.write(bytes));
}

function ended(entry: Sink): Promise<void> {
  return settled(entry, 'finish', () => {
    entry.end(undefined);
    return false;
  });
}

/** Runs `step` and resolves at once when it says so, else at `event`; rejects when the entry breaks. */
function settled(entry: Sink, event: string, step: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      entry.off('error', broken);
      entry.off('close', broken);
      entry.off(event, done);
      resolve();
    };
    const broken = (error?: Error): void => reject(error ?? new Error('nobody reads the archive any more'));
    entry.on('error', broken);
    entry.on('close', broken);
    entry.on(event, done);
    if (step()) done();
  });
}
