/**
 * `ssh -R` with Debian's OpenSSH on loopback: the reverse tunnel that people use today. sshd plays the edge, the ssh
 * client the agent: a connection to the forwarded port of sshd goes through the tunnel to a target beside the client.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../support/free-port.ts';
import { type Started, runToEnd, start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { canConnect } from './tcp.ts';

export interface SshTunnel {
  /** Port of sshd that leads to the target. */
  port: number;
  stop(): Promise<void>;
}

/** Opens `ssh -R` to a target on loopback. `via` is a port through which the client dials sshd instead (a fault proxy); it gets sshd's port. */
export async function startSshTunnel(targetPort: number): Promise<SshTunnel> {
  if (!existsSync('/usr/sbin/sshd'))
    throw new Error('this row needs OpenSSH: apt-get install openssh-server openssh-client');
  const dir = tmpDir('ssh');
  const [sshdPort, forwardedPort] = [await freePort(), await freePort()];
  const keys = await makeKeys(dir.path);
  mkdirSync('/run/sshd', { recursive: true });
  const config = join(dir.path, 'sshd_config');
  writeFileSync(
    config,
    [
      `Port ${sshdPort}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${keys.host}`,
      `AuthorizedKeysFile ${keys.authorized}`,
      `PidFile ${join(dir.path, 'sshd.pid')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'AllowTcpForwarding yes',
      '',
    ].join('\n'),
  );
  const parts: Started[] = [start('/usr/sbin/sshd', ['-D', '-e', '-f', config], { name: 'sshd' })];
  const stop = async (): Promise<void> => {
    for (const part of parts.toReversed()) await part.kill9();
    dir.remove();
  };
  try {
    await until(() => canConnect(sshdPort!), { what: 'sshd to listen' });
    parts.push(
      start('ssh', [
        ...options(keys.client),
        '-p',
        String(sshdPort),
        '-N',
        '-R',
        `127.0.0.1:${forwardedPort}:127.0.0.1:${targetPort}`,
        `${userInfo().username}@127.0.0.1`,
      ]),
    );
    await until(() => canConnect(forwardedPort!), {
      what: 'ssh -R to forward',
      giveUp: () => (parts[1]?.exit === undefined ? undefined : parts.map((part) => part.output()).join('\n')),
    });
    return { port: forwardedPort!, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function makeKeys(dir: string): Promise<{ host: string; client: string; authorized: string }> {
  const keys = { host: join(dir, 'host'), client: join(dir, 'client'), authorized: join(dir, 'authorized') };
  for (const file of [keys.host, keys.client])
    await runToEnd('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', file]);
  writeFileSync(keys.authorized, readFileSync(`${keys.client}.pub`));
  return keys;
}

function options(key: string): string[] {
  return [
    'BatchMode=yes',
    'StrictHostKeyChecking=no',
    'UserKnownHostsFile=/dev/null',
    'LogLevel=ERROR',
    'ExitOnForwardFailure=yes',
    `IdentityFile=${key}`,
    'IdentitiesOnly=yes',
  ].flatMap((option) => ['-o', option]);
}
