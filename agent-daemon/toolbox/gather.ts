/**
 * Brings rsync of this machine into containers that have none: a copy of the program with its own loader and libraries, so
 * that it runs in any image. It is not ours to carry along (GPL), and an operator's own packages are what gets updates.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, constants, copyFile, mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { type Linked, parseLinked } from './linked.ts';

const lookMs = 10_000;
const usualPath = '/usr/local/bin:/usr/bin:/bin';

/** Runs the program from wherever its directory is mounted. */
const launcher = `#!/bin/sh
here=\${0%/bin/rsync}
exec "$here/loader" --library-path "$here/lib" "$here/rsync" "$@"
`;

/** A file of the copy, by its path in it, and where it comes from. */
interface Part {
  to: string;
  from: string;
  sizeBytes: number;
}

/**
 * Makes, or finds, the copy below `root` and answers the name of its directory, which is another one for another version:
 * `bin/rsync` starts it where there is a shell, `loader --library-path lib rsync` anywhere. Undefined when this machine has
 * no rsync, or one that has no loader.
 */
export async function gatherRsync(root: string, path = process.env['PATH'] ?? usualPath): Promise<string | undefined> {
  const program = await findProgram('rsync', path);
  const linked = program === undefined ? undefined : await linkedOf(program);
  if (program === undefined || linked?.loader === undefined) return undefined;
  const found = await partsOf(program, linked.loader, linked.libraries);
  const name = `rsync-${found.digest}`;
  if (await isWhole(join(root, name), found.parts)) return name;
  await copy(root, name, found.parts);
  await removeOthers(root, name);
  return name;
}

async function findProgram(name: string, path: string): Promise<string | undefined> {
  for (const directory of path.split(':').filter((each) => each.startsWith('/'))) {
    const file = join(directory, name);
    const isThere = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (isThere) return file;
  }
  return undefined;
}

async function linkedOf(program: string): Promise<Linked | undefined> {
  try {
    const { stdout } = await promisify(execFile)('ldd', [program], {
      timeout: lookMs,
      env: { ...process.env, PATH: usualPath, LC_ALL: 'C' },
    });
    return parseLinked(stdout);
  } catch {
    return undefined;
  }
}

async function partsOf(
  program: string,
  loader: string,
  libraries: Linked['libraries'],
): Promise<{ parts: Part[]; digest: string }> {
  const hash = createHash('sha256');
  const parts: Part[] = [];
  const wanted = [
    { to: 'rsync', from: program },
    { to: 'loader', from: loader },
    ...libraries.map(({ name, path }) => ({ to: join('lib', basename(name)), from: path })),
  ];
  for (const { to, from } of wanted) {
    const { size, mtimeMs } = await stat(from);
    hash.update(`${to} ${from} ${size} ${mtimeMs}\n`);
    parts.push({ to, from, sizeBytes: size });
  }
  return { parts, digest: hash.digest('hex').slice(0, 16) };
}

/** The power may have failed behind the renaming of a directory whose files were not on the disk yet. */
async function isWhole(directory: string, parts: readonly Part[]): Promise<boolean> {
  try {
    const sizes = await Promise.all(parts.map(async ({ to }) => (await stat(join(directory, to))).size));
    return parts.every(({ sizeBytes }, at) => sizes[at] === sizeBytes);
  } catch {
    return false;
  }
}

async function copy(root: string, name: string, parts: readonly Part[]): Promise<void> {
  const fresh = join(root, `.${name}.${process.pid}`);
  await rm(fresh, { recursive: true, force: true });
  for (const directory of [root, fresh, join(fresh, 'lib'), join(fresh, 'bin')]) {
    await mkdir(directory, { recursive: true });
    await chmod(directory, 0o755); // whatever the umask takes away: users of containers read it
  }
  for (const { to, from } of parts) {
    await copyFile(from, join(fresh, to));
    await chmod(join(fresh, to), 0o755);
  }
  await writeFile(join(fresh, 'bin/rsync'), launcher);
  await chmod(join(fresh, 'bin/rsync'), 0o755);
  await rm(join(root, name), { recursive: true, force: true });
  await rename(fresh, join(root, name));
}

/** What runs from an older one has its files open. */
async function removeOthers(root: string, name: string): Promise<void> {
  for (const each of await readdir(root))
    if (each !== name) await rm(join(root, each), { recursive: true, force: true });
}
