/**
 * Tar on this side of `causeway cp`: packs a local path, and unpacks what a session sends without ever writing outside
 * the target (no absolute names, no `..`, no links out of it, no devices).
 */
import { createReadStream, createWriteStream } from 'node:fs';
import { chmod, lstat, mkdir, readdir, readlink, realpath, rm, stat, symlink } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { extract, pack, type Pack } from 'tar-stream';
import { CliFailure } from '../exit.ts';
import { plain } from '../terminal/table.ts';

const blockBytes = 512;
/** Behind the last entry of an archive. */
const endBytes = 2 * blockBytes;

/** A tar stream of `path` (a file, a folder with all below, or a link), its entries named `name` and below. */
export function packPath(path: string, name: string): Readable {
  const archive = pack();
  void addEntry(archive, path, name).then(
    () => archive.finalize(),
    (error: unknown) => archive.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return Readable.from(archive);
}

/** Bytes of the archive that `packPath` makes; where names are long it has a little more. */
export async function packedBytes(path: string): Promise<number> {
  return (await entryBytes(path)) + endBytes;
}

async function entryBytes(path: string): Promise<number> {
  const found = await lstat(path);
  if (found.isFile()) return blockBytes + Math.ceil(found.size / blockBytes) * blockBytes;
  if (!found.isDirectory()) return blockBytes;
  let total = blockBytes;
  for (const child of await readdir(path)) total += await entryBytes(join(path, child));
  return total;
}

async function addEntry(archive: Pack, path: string, name: string): Promise<void> {
  const found = await lstat(path);
  const header = { name, mode: found.mode & 0o777, mtime: found.mtime };
  if (found.isSymbolicLink()) archive.entry({ ...header, type: 'symlink', linkname: await readlink(path) });
  else if (found.isDirectory()) {
    archive.entry({ ...header, type: 'directory' });
    for (const child of (await readdir(path)).sort()) await addEntry(archive, join(path, child), `${name}/${child}`);
  } else if (found.isFile()) {
    const entry = archive.entry({ ...header, type: 'file', size: found.size });
    if (found.size > 0) await pipeline(createReadStream(path, { end: found.size - 1 }), entry);
    else entry.end(Buffer.alloc(0));
  } else throw new CliFailure(`${plain(path)} is neither a file, a folder nor a link`);
}

/**
 * Unpacks into `target`, a folder that is there or is to be (`intoFolder`); else the one top entry of the archive becomes it.
 * @returns how many entries were written.
 */
export async function unpackTo(
  body: Readable,
  target: string,
  options: { intoFolder?: boolean } = {},
): Promise<number> {
  const intoFolder = options.intoFolder === true || (await isFolder(target));
  const base = intoFolder ? resolve(target) : dirname(resolve(target));
  await mkdir(base, { recursive: true });
  let count = 0;
  const reader = extract();
  const feeding = pipeline(body, reader);
  feeding.catch(() => undefined); // seen through the loop below
  for await (const entry of reader) {
    const parts = entry.header.name.split('/').filter((each) => each !== '' && each !== '.');
    if (parts.length === 0) {
      entry.resume();
      continue;
    }
    if (!intoFolder) parts[0] = basename(resolve(target));
    await writeEntry(entry as unknown as Readable, entry.header, await safePath(base, parts));
    count++;
  }
  await feeding;
  return count;
}

/** A link to one, too: it is what the person named. */
async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** Joins `parts` below `base`; every folder on the way must be a real folder. */
async function safePath(base: string, parts: readonly string[]): Promise<string> {
  if (parts.some((each) => each === '..' || each.includes('\0')))
    throw new CliFailure(`the session sent an unsafe name: ${plain(parts.join('/'))}`);
  const root = await realpath(base);
  const folder = join(root, ...parts.slice(0, -1));
  await mkdir(folder, { recursive: true });
  const real = await realpath(folder);
  if (real !== root && !real.startsWith(root + sep))
    throw new CliFailure(`the session sent a name that leaves the target: ${plain(parts.join('/'))}`);
  return join(real, parts.at(-1)!);
}

async function writeEntry(
  entry: Readable,
  header: { type?: string | null; mode?: number; linkname?: string | null },
  path: string,
): Promise<void> {
  const mode = (header.mode ?? 0o644) & 0o777;
  if (header.type === 'directory') {
    await mkdir(path, { recursive: true });
    await chmod(path, mode | 0o700);
    entry.resume();
  } else if (header.type === 'symlink') {
    const link = header.linkname ?? '';
    if (link.startsWith('/') || link.split('/').includes('..'))
      process.stderr.write(`causeway: left out ${plain(path)}: a link that leaves its folder\n`);
    else await placeLink(link, path);
    entry.resume();
  } else if (header.type === 'file' || header.type === 'contiguous-file') {
    const existing = await lstat(path).catch(() => undefined);
    if (existing?.isSymbolicLink()) throw new CliFailure(`${plain(path)} is a link here; not written through it`);
    await pipeline(entry, createWriteStream(path, { mode }));
  } else {
    process.stderr.write(`causeway: left out ${plain(path)}: ${header.type ?? 'unknown kind'}\n`);
    entry.resume();
  }
}

/** In place of the file or link that has its name. */
async function placeLink(target: string, path: string): Promise<void> {
  const existing = await lstat(path).catch(() => undefined);
  if (existing?.isDirectory() === true)
    throw new CliFailure(`${plain(path)} is a folder here; a link would take its place`);
  await rm(path, { force: true });
  await symlink(target, path);
}
