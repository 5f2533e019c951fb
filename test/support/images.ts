/**
 * Small images for tests, made in memory from programs of the host's Debian and loaded without any registry. Content,
 * times and configuration are fixed, so that the same Debian gives the same image ids.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type Docker from 'dockerode';
import { pack } from 'tar-stream';
import { runToEnd } from './process.ts';

export const busyboxImage = 'causeway-test/busybox:latest';
export const emptyImage = 'causeway-test/empty:latest';
export const muslImage = 'causeway-test/musl:latest';

/** One entry of an image's only layer; a file when it has `data`, a symbolic link when it has `linkname`, else a directory. */
interface Entry {
  name: string;
  data?: Buffer | string;
  linkname?: string;
  mode?: number;
  uid?: number;
}

const busyboxPath = '/bin/busybox';
const mtime = new Date(0);

/** Debian's static busybox with all its applets, users root and work (1000), /home/work and a /tmp for all. Returns the image id. */
export async function importBusybox(docker: Docker): Promise<string> {
  return load(docker, busyboxImage, await busyboxEntries(), ['sh']);
}

/** One static program, /busybox, and nothing else: no shell in a known place, no users, no directories. Returns the image id. */
export async function importEmpty(docker: Docker): Promise<string> {
  const entries = [{ name: 'busybox', data: readFileSync(busyboxPath), mode: 0o755 }];
  return load(docker, emptyImage, entries, ['/busybox', 'true']);
}

/** The busybox image with musl's loader and /bin/hello, a dynamically linked musl program that prints "hello from musl". Returns the image id. */
export async function importMusl(docker: Docker): Promise<string> {
  const entries = [
    ...(await busyboxEntries()),
    { name: 'lib/' },
    { name: 'lib/ld-musl-x86_64.so.1', data: readFileSync('/usr/lib/x86_64-linux-musl/libc.so'), mode: 0o755 },
    { name: 'bin/hello', data: await compileWithMusl(), mode: 0o755 },
  ];
  return load(docker, muslImage, entries, ['hello']);
}

/**
 * An image for a registry: busybox, and above it a layer of random bytes for each size, the first with `/version` too.
 * Another version shares nothing but busybox. Returns the image id.
 */
export async function importLayered(
  docker: Docker,
  tag: string,
  { version, sizes, architecture = 'amd64' }: { version: string; sizes: readonly number[]; architecture?: string },
): Promise<string> {
  const random = sizes.map((sizeBytes, n) => [{ name: `data-${n}`, data: randomBytes(sizeBytes) }]);
  const [first = [], ...more] = random;
  const layers = [await busyboxEntries(), [...first, { name: 'version', data: version }], ...more];
  return loadLayers(docker, tag, layers, { cmd: ['cat', '/version'], architecture });
}

async function busyboxEntries(): Promise<Entry[]> {
  const applets = (await runToEnd(busyboxPath, ['--list-full'])).split('\n').filter((path) => path !== 'bin/busybox');
  const directories = ['bin/', 'sbin/', 'usr/', 'usr/bin/', 'usr/sbin/', 'etc/', 'home/', 'root/', 'var/', 'var/tmp/'];
  return [
    ...directories.map((name) => ({ name })),
    { name: 'tmp/', mode: 0o1777 },
    { name: 'home/work/', uid: 1000 },
    { name: 'etc/passwd', data: 'root:x:0:0:root:/root:/bin/sh\nwork:x:1000:1000:work:/home/work:/bin/sh\n' },
    { name: 'etc/group', data: 'root:x:0:\nwork:x:1000:\n' },
    { name: 'bin/busybox', data: readFileSync(busyboxPath), mode: 0o755 },
    ...applets.toSorted().map((name) => ({ name, linkname: busyboxPath })),
  ];
}

async function compileWithMusl(): Promise<Buffer> {
  const dir = mkdtempSync(join(tmpdir(), 'cwt-musl-'));
  try {
    writeFileSync(join(dir, 'hello.c'), '#include <stdio.h>\nint main(void) { puts("hello from musl"); return 0; }\n');
    await runToEnd('musl-gcc', ['-O1', '-s', '-o', 'hello', 'hello.c'], { cwd: dir });
    return readFileSync(join(dir, 'hello'));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function load(docker: Docker, tag: string, entries: Entry[], cmd: string[]): Promise<string> {
  return loadLayers(docker, tag, [entries], { cmd, architecture: 'amd64' });
}

/** Loads an image in the archive format of `docker save`, whose configuration (and so its id) is ours. */
async function loadLayers(
  docker: Docker,
  tag: string,
  contents: Entry[][],
  { cmd, architecture }: { cmd: string[]; architecture: string },
): Promise<string> {
  const layers = await Promise.all(contents.map(toTar));
  const created = mtime.toISOString();
  const config = JSON.stringify({
    architecture,
    os: 'linux',
    created,
    config: { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: cmd },
    rootfs: { type: 'layers', diff_ids: layers.map((layer) => `sha256:${sha256(layer)}`) },
    history: layers.map(() => ({ created, comment: 'made by a test' })),
  });
  const id = sha256(config);
  const names = layers.map((_, n) => (n === 0 ? 'layer.tar' : `layer-${n}.tar`));
  const manifest = [{ Config: `${id}.json`, RepoTags: [tag], Layers: names }];
  const archive = await toTar([
    { name: `${id}.json`, data: config },
    ...layers.map((data, n) => ({ name: names[n] ?? '', data })),
    { name: 'manifest.json', data: JSON.stringify(manifest) },
  ]);
  const answer = await docker.loadImage(Readable.from([archive]), { quiet: true });
  const said = (await buffer(answer as unknown as Readable)).toString();
  if (/"error"/.test(said)) throw new Error(`the engine refused the image ${tag}: ${said}`);
  return `sha256:${id}`;
}

async function toTar(entries: Entry[]): Promise<Buffer> {
  const archive = pack();
  const bytes = buffer(archive);
  for (const { name, data, linkname, mode, uid = 0 } of entries) {
    const header = { name, mtime, uid, gid: uid, mode: mode ?? (data === undefined ? 0o755 : 0o644) };
    if (data !== undefined) archive.entry(header, data);
    else if (linkname !== undefined) archive.entry({ ...header, type: 'symlink', linkname });
    else archive.entry({ ...header, type: 'directory' });
  }
  archive.finalize();
  return bytes;
}

function sha256(data: Buffer | string): string {
  return createHash('sha256').update(data).digest('hex');
}
