/**
 * Finds a container engine, or brings one: Debian's docker.io, and a dockerd as a process of its own that outlives us and, by
 * live-restore, does not take containers with it when it ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

import { CliFailure } from '../exit.ts';
import { installLine, installPackages, mayInstall } from './apt.ts';
import { findEngineVersion } from './engine.ts';
import { recordDockerd } from './own-dockerd.ts';

export const STANDARD_SOCKET = '/var/run/docker.sock';
const DOCKERD = '/usr/sbin/dockerd';
/** How long a dockerd may take to answer for the first time. */
const START_MS = 60_000;

export type Engine = { socket: string; version: string };

export type EngineOptions = {
  /** The socket that DOCKER_HOST names, if it does. */
  configured: string | undefined;
  /** File for what a dockerd of ours says. */
  logFile: string;
  /** File that says that the dockerd of this machine was started by this instance. */
  marker: string;
  say: (what: string) => void;
};

/** An engine that answers, started if need be. Throws CliFailure that says exactly what to type. */
export async function requireEngine({ configured, logFile, marker, say }: EngineOptions): Promise<Engine> {
  const socket = configured ?? STANDARD_SOCKET;
  const version = await findEngineVersion(socket);
  if (version !== undefined) return { socket, version };
  if (configured !== undefined)
    throw new CliFailure(`no container engine answers at ${configured} (DOCKER_HOST)`, {
      hint: 'start it, or unset DOCKER_HOST to use the engine of this machine',
    });
  if (isForbidden(socket))
    throw new CliFailure(`the container engine at ${socket} does not let this user in`, {
      hint: `sudo usermod -aG docker ${process.env['USER'] ?? '$USER'} && newgrp docker   then: causeway up`,
    });
  if (process.getuid?.() !== 0)
    throw new CliFailure('there is no container engine on this machine', {
      hint: `${installLine(['docker.io'])} && sudo systemctl start docker   or: sudo causeway up`,
    });
  if (!existsSync(DOCKERD)) {
    if (!mayInstall())
      throw new CliFailure('there is no container engine on this machine, and this is neither Debian nor Ubuntu', {
        hint: 'install Docker Engine, start it, then: causeway up',
      });
    say('none found: installing docker.io');
    await installPackages(['docker.io', 'iptables']);
  }
  const started = await waitForEngine(socket, 2_000); // the package may have started a service of its own
  if (started) return started;
  say('starting dockerd');
  const dockerd = startDockerd(logFile, marker);
  const ours = await waitForEngine(socket, START_MS, () => dockerd.exitCode !== null);
  if (ours) return ours;
  throw new CliFailure(`dockerd does not start: ${lastLine(logFile)}`, { hint: `read ${logFile}` });
}

/** dockerd in a session of its own: it is not ours to stop, because containers of others may run under it. */
export function startDockerd(logFile: string, marker: string): ChildProcess {
  const log = openSync(logFile, 'a', 0o600);
  const configured = existsSync('/etc/docker/daemon.json') ? readFileSync('/etc/docker/daemon.json', 'utf8') : '';
  // An option given both as a flag and in the file is refused by dockerd.
  const flags = configured.includes('"live-restore"') ? [] : ['--live-restore'];
  const child = spawn(DOCKERD, flags, { detached: true, stdio: ['ignore', log, log] });
  child.on('error', () => {}); // waiting for its socket says that it is not there
  child.unref();
  closeSync(log);
  if (child.pid !== undefined) recordDockerd(marker, child.pid);
  return child;
}

async function waitForEngine(socket: string, forMs: number, hasEnded = () => false): Promise<Engine | undefined> {
  for (const until = Date.now() + forMs; ;) {
    const version = await findEngineVersion(socket);
    if (version !== undefined) return { socket, version };
    if (Date.now() >= until || hasEnded()) return undefined;
    await sleep(200);
  }
}

/** Is there a socket that this user may not open? */
function isForbidden(socket: string): boolean {
  try {
    const { mode, gid, uid } = statSync(socket);
    const user = process.getuid?.() ?? 0;
    if (user === 0 || uid === user || (mode & 0o002) !== 0) return false;
    return !(process.getgroups?.() ?? []).includes(gid);
  } catch {
    return false;
  }
}

function lastLine(file: string): string {
  return readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? 'it said nothing';
}
