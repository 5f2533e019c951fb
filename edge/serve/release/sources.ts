/** Gathers what a release of this checkout consists of: Node, the agent as one file, causeway-init, and two small scripts. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { Architecture } from '../../../schema/release.ts';
import { type SourceFile, versionOf } from './pack.ts';

const run = promisify(execFile);
const versionMark = '@causeway-agent-version@';
const initNames = { x64: 'causeway-init-x86_64', arm64: 'causeway-init-aarch64' } as const;

const Lockfile = z.object({
  version: z.string(),
  packages: z.record(z.string(), z.looseObject({ version: z.string().optional(), integrity: z.string().optional() })),
});

/** Everything of a release, and its version. */
export async function gatherRelease(
  root: string,
  arch: Architecture,
): Promise<{ version: string; files: SourceFile[] }> {
  const lockfile = Lockfile.parse(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')));
  const agent = await bundleAgent(root);
  const init = initNames[arch];
  const plain = (path: string, mode: 0o755 | 0o644, from: string): SourceFile => ({
    path,
    mode,
    content: readFileSync(join(root, from)),
  });
  const files: SourceFile[] = [
    { path: 'node', mode: 0o755, content: await nodeFor(root, arch, lockfile) },
    { path: 'agent.cjs', mode: 0o644, content: Buffer.from(agent) },
    plain(`init/bin/${init}`, 0o755, `agent-daemon/init/bin/${init}`),
    ...readdirSync(join(root, 'agent-daemon/kernels/runners'))
      .sort()
      .map((runner) => plain(`kernels/runners/${runner}`, 0o644, `agent-daemon/kernels/runners/${runner}`)),
    plain('start', 0o755, 'agent-daemon/upgrade/start.sh'),
    plain('causeway-agent', 0o755, 'agent-daemon/upgrade/causeway-agent.sh'),
  ];
  const version = versionOf(lockfile.version, files);
  const named = files.map((file) =>
    file.path === 'agent.cjs' ? { ...file, content: Buffer.from(agent.replaceAll(versionMark, version)) } : file,
  );
  return { version, files: named };
}

async function bundleAgent(root: string): Promise<string> {
  const args = [join(root, 'agent-daemon/bundle/release.ts')];
  const { stdout } = await run(process.execPath, args, { maxBuffer: 64 * 1024 * 1024 });
  if (!stdout.includes(versionMark)) throw new Error('the bundle of the agent has no place for its version');
  return stdout;
}

/** The Node that the lockfile pins: installed for this machine's kind, fetched and checked for another. */
async function nodeFor(root: string, arch: Architecture, lockfile: z.infer<typeof Lockfile>): Promise<Buffer> {
  const name = `node-linux-${arch}`;
  const installed = join(root, 'node_modules', name, 'bin/node');
  if (existsSync(installed)) return readFileSync(installed);
  const { version, integrity } = lockfile.packages[`node_modules/${name}`] ?? {};
  if (version === undefined || integrity === undefined) throw new Error(`the lockfile does not name ${name}`);
  const scratch = mkdtempSync(join(tmpdir(), 'causeway-node-'));
  try {
    const { stdout } = await run('npm', ['pack', `${name}@${version}`, '--silent'], { cwd: scratch });
    const archive = join(scratch, stdout.trim().split('\n').at(-1) ?? '');
    const [algorithm = '', digest] = integrity.split(/-(.*)/s);
    if (createHash(algorithm).update(readFileSync(archive)).digest('base64') !== digest)
      throw new Error(`${name} is not what the lockfile pins`);
    await run('tar', ['-xzf', archive, '-C', scratch, 'package/bin/node']);
    return readFileSync(join(scratch, 'package/bin/node'));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
