/**
 * Makes a bare Debian machine ready for the tests: installs the packages that they need and nothing else, starts no
 * service. It never touches packages that are already there.
 */
import { existsSync } from 'node:fs';

import { capture, type Finding } from './steps.ts';

export type Tier = 'daily' | 'full';

/** Debian packages by the file that proves them installed. */
const PACKAGES: Record<Tier, Record<string, string>> = {
  daily: {
    '/usr/sbin/dockerd': 'docker.io',
    '/usr/bin/docker-registry': 'docker-registry',
    '/usr/bin/redis-server': 'redis-server',
    '/usr/sbin/debootstrap': 'debootstrap',
    '/usr/bin/busybox': 'busybox-static',
    '/usr/bin/musl-gcc': 'musl-tools',
    '/usr/bin/gcc': 'gcc',
    '/usr/bin/gcc-14': 'gcc-14', // the compiler whose bytes of causeway-init are committed
    '/usr/sbin/iptables': 'iptables',
    '/usr/sbin/ip': 'iproute2',
    '/usr/bin/git': 'git',
    '/usr/bin/ssh': 'openssh-client',
    '/usr/bin/rsync': 'rsync',
    '/usr/bin/jupyter-server': 'jupyter-server',
    '/usr/share/jupyter/kernels/python3/kernel.json': 'python3-ipykernel',
    '/usr/bin/xeus-gp': 'xeus-gp',
    '/usr/lib/python3/dist-packages/nbclient/client.py': 'python3-nbclient',
    '/usr/lib/python3/dist-packages/jupyter_kernel_test/__init__.py': 'python3-jupyter-kernel-test',
    '/etc/ssl/certs/ca-certificates.crt': 'ca-certificates',
  },
  full: {
    '/usr/bin/ruby': 'ruby',
    '/usr/bin/Rscript': 'r-base-core',
    '/usr/share/jupyter/kernels/ir/kernel.json': 'r-cran-irkernel',
    '/usr/bin/gitleaks': 'gitleaks',
    '/usr/bin/runsc': 'runsc',
    '/usr/bin/radosgw': 'radosgw',
    '/usr/bin/clang': 'clang',
    '/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.fuzzer-x86_64.a': 'libclang-rt-19-dev',
    '/usr/bin/aarch64-linux-gnu-gcc-14': 'gcc-14-aarch64-linux-gnu',
  },
};

async function apt(args: string[]): Promise<string | undefined> {
  const done = await capture('apt-get', args, { DEBIAN_FRONTEND: 'noninteractive' });
  return done.code === 0 ? undefined : `apt-get ${args.join(' ')} failed:\n${done.output}`;
}

/** Installs what the tier needs. Refuses with the line to type where it may not. */
export async function prepareMachine(tier: Tier): Promise<Finding> {
  const wanted = tier === 'full' ? { ...PACKAGES.daily, ...PACKAGES.full } : PACKAGES.daily;
  const missing = Object.entries(wanted).flatMap(([file, name]) => (existsSync(file) ? [] : [name]));
  if (missing.length === 0) return { ok: true, remark: `${Object.keys(wanted).length} packages present` };
  const line = ['install', '-y', '--no-install-recommends', ...missing];
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get'))
    return { ok: false, why: `the tests need Debian packages; as root: apt-get ${line.join(' ')}` };
  const why = (await apt(line)) === undefined ? undefined : ((await apt(['update'])) ?? (await apt(line))); // lists may be stale or absent
  return why === undefined ? { ok: true, remark: `installed ${missing.join(' ')}` } : { ok: false, why };
}
