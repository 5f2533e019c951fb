/**
 * A backup as one file: a gzipped tar that begins with its manifest. Reading believes nothing: each entry must be listed,
 * at its place, with its size and its hash, and none may be missing.
 */
import { createHash } from 'node:crypto';
import { closeSync, createReadStream, createWriteStream, fsyncSync, mkdirSync, openSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { extract, pack, type Pack } from 'tar-stream';
import { CliFailure } from '../../exit.ts';
import { type Manifest, Manifest as ManifestSchema, manifestPath, type Part } from './manifest.ts';

const mostManifestBytes = 256 * 1024 * 1024;

/** Writes the parts that lie in `folder`, on the disk of `file`, to `file` (0600), whole or not at all. */
export async function writeArchive(file: string, manifest: Manifest, folder: string): Promise<void> {
  const fresh = join(folder, 'archive');
  try {
    const handle = openSync(fresh, 'wx', 0o600);
    try {
      const tar = pack();
      const filled = fill(tar, manifest, folder);
      const out = createWriteStream(fresh, { fd: handle, autoClose: false });
      await Promise.all([pipeline(tar, createGzip({ level: 3 }), out), filled]);
      fsyncSync(handle);
    } finally {
      closeSync(handle);
    }
    renameSync(fresh, file);
  } catch (error) {
    throw new CliFailure(`the backup ${file} can not be written: ${(error as Error).message}`, {
      hint: 'df -h, or another place: causeway backup FILE',
    });
  }
}

async function fill(tar: Pack, manifest: Manifest, folder: string): Promise<void> {
  const text = `${JSON.stringify(manifest, null, 1)}\n`;
  const mtime = new Date(manifest.madeAtMs);
  try {
    tar.entry({ name: manifestPath, mode: 0o600, mtime }, text);
    for (const { path, bytes } of manifest.parts)
      await pipeline(createReadStream(join(folder, path)), tar.entry({ name: path, size: bytes, mode: 0o600, mtime }));
    tar.finalize();
  } catch (error) {
    tar.destroy(error as Error);
    throw error;
  }
}

/**
 * Unpacks `file` below `folder`, after `accept` has agreed to its manifest (it throws otherwise).
 * @throws CliFailure for what is no backup, or a damaged one; `folder` then holds a part of it
 */
export async function readArchive(
  file: string,
  folder: string,
  accept: (manifest: Manifest) => void,
): Promise<Manifest> {
  const tar = extract();
  const reading = pipeline(createReadStream(file), createGunzip(), tar);
  const unpacked = unpack(tar, folder, accept);
  const [read, done] = await Promise.allSettled([reading, unpacked]);
  if (done.status === 'rejected' && done.reason instanceof CliFailure) throw done.reason;
  const broken = [done, read].find((outcome) => outcome.status === 'rejected');
  if (broken) throw damaged(file, (broken.reason as Error).message);
  if (done.status !== 'fulfilled') throw damaged(file, 'it ends early');
  return done.value;
}

function damaged(file: string, why: string): CliFailure {
  return new CliFailure(`${file} is no whole backup: ${why}`, { hint: 'use another backup; nothing was changed' });
}

async function unpack(
  tar: ReturnType<typeof extract>,
  folder: string,
  accept: (manifest: Manifest) => void,
): Promise<Manifest> {
  let manifest: Manifest | undefined;
  let at = 0;
  for await (const entry of tar) {
    if (!manifest) {
      if (entry.header.name !== manifestPath) throw new Error('it does not begin with a manifest');
      manifest = parseManifest(await textOf(entry));
      accept(manifest);
      continue;
    }
    const part = manifest.parts[at++];
    if (!part || entry.header.name !== part.path || entry.header.type !== 'file')
      throw new Error(`${entry.header.name} is not what its manifest lists there`);
    await unpackPart(entry, part, folder);
  }
  if (!manifest) throw new Error('it is empty');
  const missing = manifest.parts[at];
  if (missing) throw new Error(`${missing.path} is missing`);
  return manifest;
}

async function unpackPart(entry: AsyncIterable<unknown>, part: Part, folder: string): Promise<void> {
  const target = join(folder, part.path);
  mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
  const hash = createHash('sha256');
  let bytes = 0;
  const counted = new Transform({
    transform(chunk: Buffer, _, done) {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  await pipeline(entry, counted, createWriteStream(target, { mode: 0o600, flags: 'wx', flush: true }));
  if (bytes !== part.bytes || hash.digest('hex') !== part.sha256)
    throw new Error(`${part.path} is not what its manifest says`);
}

async function textOf(entry: AsyncIterable<unknown>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of entry as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > mostManifestBytes) throw new Error('its manifest is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** @throws CliFailure for a format of another release, Error for nonsense */
function parseManifest(text: string): Manifest {
  const json = JSON.parse(text) as { format?: unknown };
  if (typeof json.format === 'number' && json.format > 1)
    throw new CliFailure(`the backup has format ${json.format}, and this release knows format 1`, {
      hint: 'restore it with the release that made it, or a newer one',
    });
  return ManifestSchema.parse(json);
}
