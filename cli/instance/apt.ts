/** Installing what is missing with the host's own package manager, where that is allowed: root on Debian or Ubuntu. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';

/** May this process install packages itself? */
export function mayInstall(): boolean {
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) return false;
  const release = readFileSync('/etc/os-release', 'utf8');
  return /^ID(_LIKE)?="?.*\b(debian|ubuntu)\b/m.test(release);
}

/** What a person types to install packages. */
export function installLine(packages: string[]): string {
  return `${process.getuid?.() === 0 ? '' : 'sudo '}apt-get install -y --no-install-recommends ${packages.join(' ')}`;
}

/** Installs packages without a question; reads the package lists anew when they are missing or stale. Throws with apt's words. */
export async function installPackages(packages: string[]): Promise<void> {
  const line = ['install', '-y', '--no-install-recommends', ...packages];
  const first = await apt(line);
  if (first.code === 0) return;
  const update = await apt(['update']);
  const second = await apt(line);
  if (second.code === 0) return;
  throw new Error(
    `apt-get could not install ${packages.join(' ')}:\n${lastLines(update.code === 0 ? second.output : update.output)}`,
  );
}

function apt(args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn('apt-get', args, {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_SUSPEND: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (said: string) => (output += said));
    child.on('error', (error) => resolve({ code: 127, output: error.message }));
    child.on('close', (code) => resolve({ code: code ?? 1, output }));
  });
}

function lastLines(output: string): string {
  return output.trim().split('\n').slice(-12).join('\n');
}
