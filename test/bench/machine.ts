/** A description of the machine that a table was measured on. */
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { runToEnd } from '../support/process.ts';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  system: string;
  kernel: string;
  node: string;
  engine: string;
  workerd: string;
  commit: string;
  date: string;
  /** Average of the last minute before the run: above 1 the figures are noisy. */
  load: number;
}

export async function describeMachine(): Promise<Machine> {
  const osRelease = readFileSync('/etc/os-release', 'utf8');
  const lock = JSON.parse(readFileSync(new URL('../../package-lock.json', import.meta.url), 'utf8')) as {
    packages: Record<string, { version?: string }>;
  };
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: /^PRETTY_NAME="(.*)"$/m.exec(osRelease)?.[1] ?? 'unknown',
    kernel: release(),
    node: process.versions.node,
    engine: (await said('dockerd', ['--version'])) ?? 'none',
    workerd: lock.packages['node_modules/workerd']?.version ?? 'unknown',
    commit: (await said('git', ['rev-parse', '--short', 'HEAD'])) ?? 'unknown',
    date: new Date().toISOString().slice(0, 10),
    load: Math.round((loadavg()[0] ?? 0) * 100) / 100,
  };
}

async function said(command: string, args: string[]): Promise<string | undefined> {
  return runToEnd(command, args).catch(() => undefined);
}
