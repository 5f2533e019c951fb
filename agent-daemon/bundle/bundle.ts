/**
 * The agent as one plain JavaScript file, made once per checkout and content of its sources. Run from there it takes about half of
 * the memory and starts sooner: Node keeps the compiler that strips types (25 MiB) and every source for as long as it
 * lives, and dockerode loads SSH and gRPC, which it does not use here. Nothing else changes by it.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What older versions left may be in use by a start under way; after this long it is not. */
const keepOldMs = 3_600_000;

/**
 * The file to run, built when there is none of just these sources. `root`: the checkout; `cacheDir` is made.
 * @throws what esbuild or the disk say
 */
export async function bundleOf(root: string, cacheDir: string): Promise<string> {
  const path = join(cacheDir, `agent-${digestOf(root)}.cjs`);
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return path;
  mkdirSync(cacheDir, { recursive: true });
  await build(root, path);
  sweep(cacheDir, path);
  return path;
}

/** Everything that the bundle is made of, and by; and where from, since it finds the rest of the checkout by that. */
function digestOf(root: string): string {
  const hash = createHash('sha256').update(`${process.version}\n${root}`);
  const sources = ['agent-daemon', 'schema', 'wire'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.includes(`migrations${sep}`))
      .map((name) => join(folder, name)),
  );
  for (const name of [...sources.toSorted(), 'package-lock.json']) {
    hash.update(`\n${name}\n`).update(readFileSync(join(root, name)));
  }
  return hash.digest('hex').slice(0, 16);
}

async function build(root: string, path: string): Promise<void> {
  const url = pathToFileURL(join(root, 'agent-daemon/daemon.ts')).href;
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, await bundleText(root, { define: { 'import.meta.url': JSON.stringify(url) } }));
  renameSync(fresh, path);
}

/**
 * The agent of the checkout `root` as the text of one file, with that of the thread that draws screens in it. Synchronously: the asynchronous way leaves a child behind,
 * which nobody reaps after `execve`.
 */
export async function bundleText(
  root: string,
  { banner = '', define }: { banner?: string; define: Record<string, string> },
): Promise<string> {
  const worker = await textOf(root, 'agent-daemon/terminals/screen-worker.ts', { define: {} });
  return textOf(root, 'agent-daemon/daemon.ts', {
    banner,
    define: { ...define, CAUSEWAY_SCREEN_WORKER: JSON.stringify(worker) },
  });
}

async function textOf(
  root: string,
  entry: string,
  { banner = '', define }: { banner?: string; define: Record<string, string> },
): Promise<string> {
  const { buildSync } = await import('esbuild');
  const absent = './agent-daemon/bundle/absent.ts';
  const built = buildSync({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile: 'agent.cjs',
    write: false,
    bundle: true,
    platform: 'node',
    // An import of node:http by a module, unlike a require, loads all that fetch needs.
    format: 'cjs',
    target: 'node24',
    // Names stay as they are, and lines short, for the traces of errors. Without comments it is all ASCII, which V8
    // keeps in half of the memory.
    minifySyntax: true,
    minifyWhitespace: true,
    // Where two modules have a class of one name, esbuild renames one; ssh2 tells its own apart by `constructor.name`.
    keepNames: true,
    lineLimit: 160,
    legalComments: 'none',
    alias: { ssh2: absent, 'cpu-features': absent, '@grpc/grpc-js': absent, '@grpc/proto-loader': absent },
    // ssh2 does without its native half, and asks for it in a `try`.
    external: ['*.node'],
    banner: { js: banner },
    define,
    logLevel: 'silent',
  });
  const [file] = built.outputFiles;
  if (file === undefined) throw new Error('esbuild made no file');
  return file.text;
}

function sweep(cacheDir: string, current: string): void {
  for (const name of readdirSync(cacheDir)) {
    const path = join(cacheDir, name);
    const stat = statSync(path, { throwIfNoEntry: false });
    if (path === current || stat === undefined || Date.now() - stat.mtimeMs < keepOldMs) continue;
    rmSync(path, { force: true });
  }
}
