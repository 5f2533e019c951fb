/**
 * Makes sure that an engine has `causeway/python`: present already, pulled from a configured registry, or built from the
 * packages that this machine's apt can install. What is cut half-way leaves no image and no mount, and the next try
 * removes its files.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { installLine, installPackages, mayInstall } from '../apt.ts';
import { findImage, importImage, pullImage, tagImage, untagImage } from '../engine.ts';
import { type HostApt, parseCodename, parseHostApt } from './host-apt.ts';
import { IMAGE, imageChanges, PACKAGES, RECIPE_LABEL, recipeDigest, USER } from './recipe.ts';

const script = join(import.meta.dirname, 'root.sh');

/** Disk that a build uses at its peak, with the imported image. */
const NEEDS_BYTES = 2.5e9;

export type Ensuring = {
  /** The engine's unix socket. */
  socket: string;
  /** Folder for the build; everything in it is ours to remove. */
  scratch: string;
  /** A reference to pull instead of building, if a registry is configured. */
  pullFrom?: string | undefined;
  onProgress: (percent: number, what: string) => void;
};

export type Ensured = { how: 'present' | 'pulled' | 'built'; reference: string };

/** True when the engine has the image of the present recipe, or any when it comes from a registry. */
export async function hasPythonImage(socket: string, pullFrom?: string): Promise<boolean> {
  const image = await findImage(socket, `${IMAGE}:latest`);
  return image !== undefined && (pullFrom !== undefined || image.labels[RECIPE_LABEL] === currentDigest());
}

/** Digest of the recipe for this machine: what `latest` must carry. */
export function currentDigest(): string {
  return recipeDigest(readFileSync(script, 'utf8'), hostCodename(), process.arch);
}

function hostCodename(): string {
  return parseCodename(readFileSync('/etc/os-release', 'utf8'));
}

/** Resolves when the image is there; throws with the reason and, where a person can help, what to type. */
export async function ensurePythonImage({ socket, scratch, pullFrom, onProgress }: Ensuring): Promise<Ensured> {
  const reference = `${IMAGE}:latest`;
  if (await hasPythonImage(socket, pullFrom)) return { how: 'present', reference };
  if (pullFrom !== undefined) {
    await pullImage(socket, pullFrom, (line) => onProgress(50, line));
    await tagImage(socket, pullFrom, IMAGE, 'latest');
    return { how: 'pulled', reference };
  }
  await requireTools();
  rmSync(scratch, { recursive: true, force: true });
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  try {
    requireSpace(scratch);
    await build(socket, scratch, onProgress);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return { how: 'built', reference };
}

async function requireTools(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error(
      `building ${IMAGE} needs root: run \`sudo causeway up\` once, or set CAUSEWAY_PYTHON_IMAGE to an image to pull`,
    );
  if (existsSync('/usr/sbin/debootstrap')) return;
  if (!mayInstall()) throw new Error(`building ${IMAGE} needs debootstrap: ${installLine(['debootstrap'])}`);
  await installPackages(['debootstrap']);
}

function requireSpace(folder: string): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bavail * bsize < NEEDS_BYTES)
    throw new Error(
      `building ${IMAGE} needs ${NEEDS_BYTES / 1e9} GB in ${folder}, and ${((bavail * bsize) / 1e9).toFixed(1)} GB are free`,
    );
}

function readHostApt(): HostApt {
  const told = spawnSync('apt-get', ['indextargets', 'Created-By: Packages'], { encoding: 'utf8' });
  if (told.status !== 0) throw new Error(`apt-get indextargets failed: ${told.stderr}`);
  return parseHostApt(told.stdout, hostCodename());
}

async function build(socket: string, scratch: string, onProgress: Ensuring['onProgress']): Promise<void> {
  const apt = readHostApt();
  const digest = currentDigest();
  const tag = digest.slice(0, 12);
  writeFileSync(join(scratch, 'sources.list'), `${apt.sources.join('\n')}\n`);
  // Whatever ends this process ends the namespaces, and with them every mount and process of the build.
  const command = ['--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--fork', '--kill-child', 'bash', script];
  const child = spawn('setpriv', command, {
    env: {
      ...process.env,
      BUILD: scratch,
      CODENAME: apt.codename,
      MIRROR: apt.mirror,
      KEYRING: apt.keyring ?? '',
      PACKAGES: PACKAGES.join(' '),
      WORK_USER: USER.name,
      WORK_UID: String(USER.uid),
      WORK_HOME: USER.home,
    },
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  const { stdout, stderr } = child;
  const progress = child.stdio[3];
  if (!stdout || !stderr || !progress || !('read' in progress)) throw new Error('the build needs pipes');
  let talk = '';
  stderr.setEncoding('utf8').on('data', (said: string) => (talk = (talk + said).slice(-20_000)));
  let said = -1;
  createInterface({ input: progress }).on('line', (line) => {
    const [percent = '0', ...what] = line.split(' ');
    if (Number(percent) > said) onProgress((said = Number(percent)), what.join(' '));
  });
  const ended = new Promise<number>((resolve) => {
    child.on('error', () => resolve(127));
    child.on('close', (code) => resolve(code ?? 1));
  });
  // Under a name of its own until the script has said that the archive is whole: a cut archive may look like a short one.
  const trial = `building-${process.pid}`;
  const imported = importImage(socket, stdout, IMAGE, trial, imageChanges(digest)).then(
    () => undefined,
    (error: unknown) => (error instanceof Error ? error : new Error(String(error))),
  );
  const code = await ended;
  const failure = await imported;
  try {
    if (code !== 0) throw new Error(`building ${IMAGE} failed:\n${talk.trim().split('\n').slice(-12).join('\n')}`);
    if (failure) throw failure;
    await tagImage(socket, `${IMAGE}:${trial}`, IMAGE, tag);
    await tagImage(socket, `${IMAGE}:${trial}`, IMAGE, 'latest');
  } finally {
    if (!failure) await untagImage(socket, `${IMAGE}:${trial}`).catch(() => undefined);
  }
}
