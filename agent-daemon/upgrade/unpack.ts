/**
 * Brings a release onto the disk beside the running version: what that has already is linked, the rest is downloaded,
 * checked part by part and file by file, and stands under its name only when all of it is there.
 */
import { createHash, type Hash } from 'node:crypto';
import { linkSync, mkdirSync, renameSync, rmSync, statfsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import type { Release, ReleaseFile } from '../../schema/release.ts';
import type { Installation } from './installation.ts';

/** Bytes of an address of the edge, as they come. Rejects for any answer but 200, and when `signal` aborts. */
export type Download = (
  path: string,
  signal: AbortSignal,
  headers?: Record<string, string>,
) => Promise<AsyncIterable<Uint8Array>>;

/** What keeps a release from being unpacked, in words for the person who ordered it. */
export class UnpackError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UnpackError';
  }
}

export interface Unpacking {
  installation: Installation;
  release: Release;
  /** The manifest as it was signed. */
  manifest: string;
  /** Release whose files may be linked. */
  running: Release | undefined;
  download: Download;
  progress(doneBytes: number, totalBytes: number): void;
}

/** Left free beside what is unpacked. */
const spareBytes = 64 * 1024 * 1024;

/** Idempotent: what an earlier try left is thrown away. @throws UnpackError */
export async function unpack(unpacking: Unpacking, signal: AbortSignal): Promise<void> {
  const { installation, release, manifest } = unpacking;
  const wanted = release.files.filter((file) => twin(unpacking, file) === undefined);
  requireRoom(installation.dir, wanted);
  const fresh = `${installation.versionDir(release.version)}.new`;
  rmSync(fresh, { recursive: true, force: true });
  try {
    await fill(unpacking, fresh, wanted, signal);
    await writeDurably(join(fresh, 'manifest'), manifest);
    rmSync(installation.versionDir(release.version), { recursive: true, force: true });
    renameSync(fresh, installation.versionDir(release.version));
    await syncDirectory(dirname(fresh));
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw full(installation.dir);
    throw error;
  }
}

/** The same file in the version that runs. */
function twin({ running, installation }: Unpacking, file: ReleaseFile): string | undefined {
  const same = running?.files.find(({ sha256, mode }) => sha256 === file.sha256 && mode === file.mode);
  return same && join(installation.versionDir(running!.version), same.path);
}

function requireRoom(dir: string, files: readonly ReleaseFile[]): void {
  const { bavail, bsize } = statfsSync(dir);
  const needed = files.reduce((sum, { bytes }) => sum + bytes, 0) + spareBytes;
  if (bavail * bsize < needed) throw full(dir, needed);
}

function full(dir: string, neededBytes?: number): UnpackError {
  const needed = neededBytes === undefined ? '' : `: ${Math.ceil(neededBytes / 1024 ** 2)} MiB are needed`;
  return new UnpackError(`the disk of ${dir} is full${needed}. Free some space and order the upgrade again.`);
}

async function fill(unpacking: Unpacking, fresh: string, wanted: readonly ReleaseFile[], signal: AbortSignal) {
  const { release } = unpacking;
  const partsOf = (file: ReleaseFile) => release.parts.slice(file.first, file.last + 1);
  const totalBytes = wanted.flatMap(partsOf).reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  const count = (bytes: number) => unpacking.progress((doneBytes += bytes), totalBytes);
  unpacking.progress(0, totalBytes);
  for (const file of release.files) {
    const path = join(fresh, file.path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const known = wanted.includes(file) ? undefined : twin(unpacking, file);
    if (known === undefined) await fetchFile(unpacking, file, path, count, signal);
    else linkSync(known, path);
  }
}

async function fetchFile(
  unpacking: Unpacking,
  file: ReleaseFile,
  path: string,
  count: (bytes: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const hash = createHash('sha256');
  let bytes = 0;
  // Opened before anything arrives and closed after all of it: nothing appears behind a failure.
  const out = await open(path, 'wx', file.mode);
  try {
    await pipeline(
      checkedParts(unpacking, file, count, signal),
      createGunzip(),
      async (source: AsyncIterable<Buffer>) => {
        for await (const chunk of source) {
          bytes += chunk.byteLength;
          // A stream that unpacks to more than it says must not fill the disk first.
          if (bytes > file.bytes) throw new UnpackError(`${file.path} is longer than the manifest says`);
          hash.update(chunk);
          await out.writeFile(chunk);
        }
      },
      { signal },
    );
    await out.chmod(file.mode);
    await out.sync();
  } finally {
    await out.close();
  }
  if (hash.digest('hex') !== file.sha256 || bytes !== file.bytes)
    throw new UnpackError(`${file.path} unpacked with a wrong checksum`);
}

async function* checkedParts(
  { release, download }: Unpacking,
  file: ReleaseFile,
  count: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const part of release.parts.slice(file.first, file.last + 1)) {
    const hash: Hash = createHash('sha256');
    let got = 0;
    for await (const chunk of await download(`/agent/v1/release/${release.arch}/parts/${part.sha256}`, signal)) {
      got += chunk.byteLength;
      if (got > part.bytes) break;
      hash.update(chunk);
      count(chunk.byteLength);
      yield chunk;
    }
    if (got !== part.bytes || hash.digest('hex') !== part.sha256)
      throw new UnpackError(
        `a part of ${file.path} arrived with a wrong checksum: somebody changes what is downloaded`,
      );
  }
}

async function writeDurably(path: string, text: string): Promise<void> {
  const file = await open(path, 'w', 0o644);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
