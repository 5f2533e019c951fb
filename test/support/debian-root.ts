/**
 * A minimal Debian for tests of what people run on fresh machines: debootstrap's smallest variant and curl, some with
 * systemd, made once a machine (half a minute), kept as an archive in the user's cache, and unpacked for each test.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type HostApt, parseCodename, parseHostApt } from '../../cli/instance/python-image/host-apt.ts';
import { runToEnd } from './process.ts';
import { type TmpDir, tmpDir } from './tmp.ts';

const packages = {
  curl: 'curl,ca-certificates',
  systemd: 'curl,ca-certificates,systemd,systemd-sysv',
};
type Kind = keyof typeof packages;

/** What this host's own apt uses: its mirror, its keys. */
async function hostApt(): Promise<HostApt> {
  const codename = parseCodename(readFileSync('/etc/os-release', 'utf8'));
  return parseHostApt(await runToEnd('apt-get', ['indextargets', 'Created-By: Packages']), codename);
}

async function archive(kind: Kind): Promise<string> {
  const folder = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'causeway-test');
  const { codename, mirror, keyring } = await hostApt();
  const path = join(folder, `debian-${codename}-${kind}.tar`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  using scratch = tmpDir('deb');
  const root = join(scratch.path, 'root');
  const trusted = keyring === undefined ? [] : [`--keyring=${keyring}`];
  const flags = ['--variant=minbase', `--include=${packages[kind]}`, ...trusted, codename, root, mirror];
  const env = { LC_ALL: 'C', PATH: '/usr/sbin:/usr/bin:/sbin:/bin' };
  await runToEnd('unshare', ['--mount', '--pid', '--fork', '--kill-child', 'debootstrap', ...flags], { env });
  rmSync(join(root, 'var/cache/apt'), { recursive: true, force: true });
  const partial = `${path}.${process.pid}`;
  await runToEnd('tar', ['-C', root, '--numeric-owner', '--one-file-system', '-cf', partial, '.']);
  renameSync(partial, path);
  return path;
}

export interface DebianRoot {
  readonly path: string;
  /** argv that runs a program in the root, in mount and process namespaces of its own; `binds`: host path -> path inside, without links. */
  command(argv: readonly string[], binds?: Record<string, string>): [string, ...string[]];
  [Symbol.dispose](): void;
}

/** Unpacks a fresh one. */
export async function debianRoot(kind: Kind = 'curl'): Promise<DebianRoot> {
  const dir: TmpDir = tmpDir('root');
  await runToEnd('tar', ['-C', dir.path, '--numeric-owner', '-xf', await archive(kind)]);
  writeFileSync(join(dir.path, 'enter.sh'), enter);
  return {
    path: dir.path,
    command: (argv, binds = {}) => {
      const pairs = Object.entries(binds).flatMap(([from, to]) => [from, to]);
      return ['unshare', '--mount', 'sh', join(dir.path, 'enter.sh'), dir.path, ...pairs, '--', ...argv];
    },
    [Symbol.dispose]: () => dir.remove(),
  };
}

/** Mounts are of this namespace alone and go with its last process. */
const enter = `
set -eu
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do
  if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root$(dirname "$2")"; : >"$root$2"; fi
  mount --rbind "$1" "$root$2"
  shift 2
done
shift
cd "$root"
exec chroot . env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C "$@"
`;
