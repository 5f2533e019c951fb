/**
 * `causeway/python` for tests on private engines. Building it takes a minute, so the first test of a machine that builds it
 * keeps `docker save`'s archive in the user's cache; the others load that. Content-addressed: another recipe is another file.
 */
import { createReadStream, createWriteStream, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';
import type Docker from 'dockerode';

import { currentDigest, ensurePythonImage } from '../../cli/instance/python-image/ensure.ts';
import { tmpDir } from './tmp.ts';

export const pythonImage = 'causeway/python:latest';

/** Makes sure that the engine behind `socket` has the image. */
export async function importPython(docker: Docker, socket: string): Promise<void> {
  const { archive } = kept();
  if (existsSync(archive)) {
    await text(await docker.loadImage(createReadStream(archive)));
    return;
  }
  using scratch = tmpDir('py');
  await ensurePythonImage({ socket, scratch: join(scratch.path, 'build'), pullFrom: undefined, onProgress: () => {} });
  await keepPython(docker);
}

/** Keeps the image of this engine for the tests that come, unless one is kept. */
export async function keepPython(docker: Docker): Promise<void> {
  const { folder, archive } = kept();
  if (existsSync(archive)) return;
  mkdirSync(folder, { recursive: true });
  const partial = `${archive}.${process.pid}`;
  try {
    await pipeline(await docker.getImage(pythonImage).get(), createWriteStream(partial));
    renameSync(partial, archive);
  } finally {
    rmSync(partial, { force: true });
  }
}

function kept(): { folder: string; archive: string } {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'causeway-test');
  return { folder, archive: join(folder, `python-${currentDigest().slice(0, 12)}.tar`) };
}
