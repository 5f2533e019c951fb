/** How OpenSSH is told about sessions: the same options on a command line and in its configuration. */
import { join } from 'node:path';
import { keyPath } from './identity.ts';

/** What a person chooses. */
export interface HostChoice {
  /** Path of an uploaded key, to sign in by in place of the one that is made. */
  identity?: string | undefined;
  /** The session may ask the person's own SSH agent. */
  forwardAgent?: boolean | undefined;
}

/** Options for hosts that are sessions. `launcher` are the words that start this CLI; `dir` holds key and host keys. */
export function hostOptions(
  launcher: readonly string[],
  dir: string,
  { identity, forwardAgent = false }: HostChoice = {},
): [name: string, value: string][] {
  const words = [...launcher, 'ssh-proxy', '--dir', dir, ...(identity === undefined ? [] : ['--uploaded'])];
  const escaped = dir.replaceAll('%', '%%');
  return [
    ['ProxyCommand', `${words.map(shellWord).join(' ')} %h`],
    ['IdentityFile', quoted(identity?.replaceAll('%', '%%') ?? keyPath(escaped))],
    ['IdentitiesOnly', 'yes'],
    ['PreferredAuthentications', 'publickey'],
    // Written by the proxy before the server speaks: no question, and no blind trust.
    ['UserKnownHostsFile', quoted(join(escaped, 'hosts', '%h'))],
    ['GlobalKnownHostsFile', 'none'],
    ['HostKeyAlgorithms', 'ssh-ed25519'],
    ['StrictHostKeyChecking', 'yes'],
    ['UpdateHostKeys', 'no'],
    ['CheckHostIP', 'no'],
    // Whoever is in the session may sign by it, so it is asked for each time, or here for good.
    ['ForwardAgent', forwardAgent ? 'yes' : 'no'],
    // 20 ms a key, against listeners who see TLS here.
    ['IgnoreUnknown', 'ObscureKeystrokeTiming'],
    ['ObscureKeystrokeTiming', 'no'],
  ];
}

/** For the shell that OpenSSH gives the command to, after it has replaced what follows a percent sign. */
function shellWord(word: string): string {
  const safe = /^[\w./:=@+-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
  return safe.replaceAll('%', '%%');
}

/** For OpenSSH's own parser of options, after which it replaces what follows a percent sign. */
function quoted(path: string): string {
  return `"${path.replaceAll('"', String.raw`\"`)}"`;
}
