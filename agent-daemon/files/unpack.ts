/**
 * Unpacks an archive into a session's home: first all of it is looked at, then it is unpacked beside the homes where no
 * tenant sees it, then each entry is moved into its place by one rename. A refused archive leaves nothing.
 */
import { createReadStream } from 'node:fs';
import { type FileHandle, lchown, link, mkdir, open, readdir, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type ExtractEvents, extract } from 'tar-stream';
import { Refusal } from '../../schema/errors.ts';
import { ArchiveGuard, type SafeEntry } from './archive-guard.ts';
import { at, look, makeDirectory, openBeneath, openRoot, self } from './beneath.ts';

type Entry = ExtractEvents['entry'][1];

export interface UnpackOptions {
  archivePath: string;
  homePath: string;
  /** Folder below the home; missing ones are made. */
  names: readonly string[];
  /** A directory on the filesystem of the home; what an earlier try that died left in it is removed. */
  stagingPath: string;
  owner: { uid: number; gid: number };
}

/** @throws Refusal `session_file_archive_unsafe`, `session_file_unsafe` */
export async function unpackBeneath(options: UnpackOptions): Promise<void> {
  const { stagingPath, owner } = options;
  const own = (path: string): Promise<void> => lchown(path, owner.uid, owner.gid);
  await eachEntry(options.archivePath, async (_, stream) => void stream.resume());
  try {
    await rm(stagingPath, { recursive: true, force: true });
    await mkdir(stagingPath, { recursive: true, mode: 0o700 });
    await eachEntry(options.archivePath, (entry, stream) => stage(stagingPath, entry, stream, own));
    await moveIn(options, own);
  } finally {
    await rm(stagingPath, { recursive: true, force: true });
  }
}

async function moveIn({ homePath, names, stagingPath }: UnpackOptions, own: (path: string) => Promise<void>) {
  const open: FileHandle[] = [];
  const keep = async (opening: Promise<FileHandle>): Promise<FileHandle> => {
    const handle = await opening;
    open.push(handle);
    return handle;
  };
  try {
    const staged = await keep(openRoot(stagingPath));
    const root = await keep(openRoot(homePath));
    const target = await keep(openBeneath(root, names, (parent, name) => makeDirectory(parent, name, own)));
    await moveContent(staged, target, own);
  } finally {
    await Promise.all(open.map((handle) => handle.close()));
  }
}

async function eachEntry(path: string, use: (entry: SafeEntry, stream: Entry) => Promise<void>): Promise<void> {
  const entries = extract();
  const guard = new ArchiveGuard();
  const reading = pipeline(createReadStream(path), entries);
  reading.catch(() => undefined);
  try {
    for await (const stream of entries) {
      const entry = guard.check(stream.header);
      if (entry === undefined || entry.kind !== 'file') stream.resume();
      if (entry !== undefined) await use(entry, stream);
    }
    await reading;
  } catch (error) {
    if (error instanceof Refusal || (error as NodeJS.ErrnoException).code !== undefined) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new Refusal('session_file_archive_unsafe', `It is no whole tar archive (${why}). Nothing was unpacked.`);
  }
}

/** Nobody else sees the staging directory, and the guard let no entry below a link through: plain paths are safe here. */
async function stage(root: string, entry: SafeEntry, stream: Entry, own: (path: string) => Promise<void>) {
  const path = join(root, ...entry.names);
  for (let depth = 1; depth < entry.names.length; depth++) {
    await makeOwn(join(root, ...entry.names.slice(0, depth)), 0o755, own);
  }
  if (entry.kind === 'directory') return makeOwn(path, entry.mode, own);
  if (entry.kind === 'hardlink') return link(join(root, ...entry.target), path);
  if (entry.kind === 'symlink') await symlink(entry.target, path);
  else await writeEntry(path, entry, stream);
  await own(path);
}

async function makeOwn(path: string, mode: number, own: (path: string) => Promise<void>): Promise<void> {
  try {
    await mkdir(path, mode);
    await own(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

async function writeEntry(path: string, entry: SafeEntry & { kind: 'file' }, stream: Entry): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(stream as AsyncIterable<Uint8Array>);
    await file.chmod(entry.mode);
    await file.utimes(entry.mtime, entry.mtime);
  } finally {
    await file.close();
  }
}

/** Moves everything of one open directory into another; folders that are there already are filled, not replaced. */
async function moveContent(from: FileHandle, to: FileHandle, own: (path: string) => Promise<void>): Promise<void> {
  for (const name of await readdir(self(from))) {
    const here = await look(from, name);
    const there = await look(to, name);
    if (here?.isDirectory() === true && there?.isDirectory() === true) await mergeFolder(from, to, name, own);
    else if (there?.isDirectory() === true || (here?.isDirectory() === true && there !== undefined)) {
      throw new Refusal('session_file_unsafe', 'A folder would replace a file there, or a file a folder. Remove it.');
    } else await rename(at(from, name), at(to, name));
  }
}

async function mergeFolder(from: FileHandle, to: FileHandle, name: string, own: (path: string) => Promise<void>) {
  const source = await openBeneath(from, [name]);
  try {
    const target = await openBeneath(to, [name]);
    try {
      await moveContent(source, target, own);
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}
