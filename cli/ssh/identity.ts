/**
 * The files by which OpenSSH and `ssh-proxy` know each other: one directory with a key, and for each host the key of
 * its server. The key opens nothing by itself: it is good only within a stream that a credential of ours has opened, and
 * names it. So nothing of it has to be registered, or taken back.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { SshPublicKey } from '../../schema/protocol/streams.ts';
import { CliFailure, exitStatus } from '../exit.ts';

/** Ends the name of a host that is a session. */
export const hostSuffix = '.causeway';

/** Path of the private key in `dir`. */
export function keyPath(dir: string): string {
  return join(dir, 'id_ed25519');
}

/** Path of the known host keys of `host` in `dir`. */
export function knownHostsPath(dir: string, host: string): string {
  return join(dir, 'hosts', host);
}

/** Makes the directory for the keys of hosts, unless there is one. */
export function makeHosts(dir: string): void {
  mkdirSync(join(dir, 'hosts'), { recursive: true, mode: 0o700 });
}

/** The path of a key that the person has, and has uploaded. It may be the public half of one that an agent holds. @throws CliFailure */
export function ownIdentity(path: string): string {
  if (existsSync(path)) return resolve(path);
  throw new CliFailure(`--identity ${path}: there is no such file`, {
    status: exitStatus.usage,
    hint: '--identity ~/.ssh/id_ed25519',
  });
}

/** Makes the directory with its key, unless there is one. @throws CliFailure without OpenSSH's `ssh-keygen` */
export function makeIdentity(dir: string): void {
  makeHosts(dir);
  if (existsSync(keyPath(dir))) return;
  const fresh = join(dir, `fresh-${process.pid}`);
  try {
    keygen(['-q', '-t', 'ed25519', '-N', '', '-C', 'causeway', '-f', fresh]);
    // Whoever is first wins: two that do this at once end with the same key.
    linkSync(fresh, keyPath(dir));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    for (const path of [fresh, `${fresh}.pub`]) rmSync(path, { force: true });
  }
}

/** The public half of the key in `dir`, as a stream names it. @throws CliFailure */
export function publicKey(dir: string): string {
  const text = keygen(['-y', '-f', keyPath(dir)])
    .trim()
    .split(' ')
    .slice(0, 2)
    .join(' ');
  const key = SshPublicKey.safeParse(text).data;
  if (key !== undefined) return key;
  throw new CliFailure(`${keyPath(dir)} is not the key that causeway made`, {
    status: exitStatus.notRun,
    hint: `remove it: the next connection makes another`,
  });
}

/** From now on this is the key of `host`; what was there was of another run of its server. */
export function knowHost(dir: string, host: string, hostKey: string): void {
  const path = knownHostsPath(dir, host);
  const fresh = `${path}.${process.pid}`;
  // The file is of one host, by whatever name and port it is asked for.
  writeFileSync(fresh, `* ${hostKey}\n`, { mode: 0o600 });
  renameSync(fresh, path);
}

/** The failure where a program of OpenSSH is not installed. */
export function missingClient(name: string): CliFailure {
  return new CliFailure(`${name} is not installed here`, {
    status: exitStatus.notRun,
    hint: 'apt-get install openssh-client',
  });
}

function keygen(args: readonly string[]): string {
  try {
    return execFileSync('ssh-keygen', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') throw missingClient('ssh-keygen');
    throw error;
  }
}
