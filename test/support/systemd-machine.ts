/**
 * A machine on which systemd runs: a minimal Debian in namespaces of its own, but for the network, booted by the real systemd
 * and reached as by a shell on it. It can be shut down in order, lose its power, and boot again.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type DebianRoot, debianRoot } from './debian-root.ts';
import { type Exit, start, type Started } from './process.ts';
import { until } from './wait.ts';

export interface SystemdMachine {
  /** Runs a line in a shell on it. */
  run(line: string): Promise<{ code: number | null; output: string }>;
  /** Shuts it down in order. */
  shutDown(): Promise<void>;
  loseItsPower(): Promise<void>;
  boot(): Promise<void>;
  stop(): Promise<void>;
}

const bootMs = 60_000;

/** Boots one. `binds`: host path -> path inside, without links. */
export async function systemdMachine(binds: Record<string, string>): Promise<SystemdMachine> {
  const root = await debianRoot('systemd');
  writeFileSync(join(root.path, 'boot.sh'), bootScript);
  const machine = new Machine(root, binds);
  await machine.boot();
  return machine;
}

class Machine implements SystemdMachine {
  readonly #root: DebianRoot;
  readonly #binds: Record<string, string>;
  /** Made anew for each boot: all its processes are in there. */
  readonly #cgroup = join(unifiedHierarchy(), `cwt-systemd-${process.pid}`);
  #running: Started | undefined;

  constructor(root: DebianRoot, binds: Record<string, string>) {
    this.#root = root;
    this.#binds = binds;
  }

  async boot(): Promise<void> {
    mkdirSync(this.#cgroup);
    const { path } = this.#root;
    const pairs = Object.entries(this.#binds).flatMap(([from, to]) => [from, to]);
    this.#running = start('sh', [join(path, 'boot.sh'), path, this.#cgroup, ...pairs], { name: 'systemd' });
    const isUp = async () => /running|degraded/.test((await this.run('systemctl is-system-running')).output);
    await until(isUp, { what: 'systemd to be up', timeoutMs: bootMs });
  }

  async run(line: string): Promise<{ code: number | null; output: string }> {
    const init = this.#init;
    if (init === undefined) return { code: null, output: '' };
    const clean = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C'];
    const inside = ['-t', init, '--mount', '--pid', '--uts', '--ipc', '--cgroup', '--', ...clean];
    const program = start('nsenter', [...inside, 'sh', '-c', line], { name: 'a shell on the machine' });
    const { code } = await program.exited;
    return { code, output: program.output() };
  }

  async shutDown(): Promise<void> {
    await this.run('systemctl poweroff');
    await this.#running?.exited;
    await this.#isOff();
  }

  async loseItsPower(): Promise<void> {
    await this.#kill();
    await this.#isOff();
  }

  async stop(): Promise<void> {
    await this.loseItsPower();
    this.#root[Symbol.dispose]();
  }

  /** Process id of systemd, as seen from outside. */
  get #init(): string | undefined {
    const { pid, exit } = this.#running ?? {};
    if (pid === undefined || exit !== undefined) return undefined;
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim() || undefined;
  }

  #kill(): Promise<Exit> | undefined {
    return this.#running?.kill9();
  }

  /** Nothing of it runs any more. */
  async #isOff(): Promise<void> {
    this.#running = undefined;
    await until(() => removeGroups(this.#cgroup), { what: 'the machine to be off' });
  }
}

/** Where cgroups of the second version are on this host. */
function unifiedHierarchy(): string {
  const [, path] = / (\/\S+) cgroup2 /.exec(readFileSync('/proc/mounts', 'utf8')) ?? [];
  if (path === undefined) throw new Error('no cgroup2 is mounted here');
  return path;
}

/** Removes a group with those in it; false while a process is there. */
function removeGroups(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory() && !removeGroups(join(path, entry.name))) return false;
    rmdirSync(path);
    return true;
  } catch {
    return false;
  }
}

/** boot.sh ROOT CGROUP [FROM TO]...: what a boot loader and an early userspace do, in namespaces. */
const bootScript = `
set -eu
echo $$ >"$2/cgroup.procs"
exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc sh -c '
set -eu
root=$1
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
# The settings of the kernel are those of the host.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for node in null zero full random urandom tty; do
  : >"dev/$node"
  mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
while [ $# -gt 0 ]; do
  if [ -d "$1" ]; then mkdir -p ".$2"; else mkdir -p ".$(dirname "$2")"; : >".$2"; fi
  mount --rbind "$1" ".$2"
  shift 2
done
mkdir -p former
pivot_root . former
umount -l former
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init systemd.unit=multi-user.target </dev/null
' sh "$@"
`;
