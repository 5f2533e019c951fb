/**
 * `ssh -R` with Debian's OpenSSH on loopback: the reverse tunnel that people use today. sshd plays the edge, the ssh
 * client the agent: a connection to the forwarded port of sshd goes through the tunnel to a target beside the client.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../support/free-port.ts';
import { runToEnd, start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { canConnect } from './tcp.ts';

export interface SshTunnel {
  /** Port of sshd that leads to the target. */
  port: number;
  stop(): Promise<void>;
}

/** An sshd of its own on loopback that lets this user in. */
export interface Sshd {
  /** What `ssh` and `scp` need before the destination: options, keys and port. */
  args: readonly string[];
  destination: string;
  /** For files of whoever uses it; removed at the end. */
  dir: string;
  output(): string;
  stop(): Promise<void>;
}

export async function startSshd(): Promise<Sshd> {
  if (!existsSync('/usr/sbin/sshd'))
    throw new Error('this row needs OpenSSH: apt-get install openssh-server openssh-client');
  const dir = tmpDir('ssh');
  const port = await freePort();
  const keys = await makeKeys(dir.path);
  mkdirSync('/run/sshd', { recursive: true });
  const config = join(dir.path, 'sshd_config');
  writeFileSync(
    config,
    [
      `Port ${port}`,
      'ListenAddress 127.0.0.1',
      `HostKey ${keys.host}`,
      `AuthorizedKeysFile ${keys.authorized}`,
      `PidFile ${join(dir.path, 'sshd.pid')}`,
      'StrictModes no',
      'UsePAM no',
      'PasswordAuthentication no',
      'AllowTcpForwarding yes',
      'Subsystem sftp internal-sftp',
      '',
    ].join('\n'),
  );
  const sshd = start('/usr/sbin/sshd', ['-D', '-e', '-f', config], { name: 'sshd' });
  const stop = async (): Promise<void> => {
    await sshd.kill9();
    dir.remove();
  };
  try {
    await until(() => canConnect(port), { what: 'sshd to listen' });
  } catch (error) {
    await stop();
    throw error;
  }
  const args = [...options(keys.client), '-o', `Port=${port}`];
  const destination = `${userInfo().username}@127.0.0.1`;
  return { args, destination, dir: dir.path, output: () => sshd.output(), stop };
}

/** Opens `ssh -R` to a target on loopback. */
export async function startSshTunnel(targetPort: number): Promise<SshTunnel> {
  const sshd = await startSshd();
  const port = await freePort();
  const forward = `127.0.0.1:${port}:127.0.0.1:${targetPort}`;
  const client = start('ssh', [...sshd.args, '-N', '-R', forward, sshd.destination]);
  const stop = async (): Promise<void> => {
    await client.kill9();
    await sshd.stop();
  };
  try {
    await until(() => canConnect(port), {
      what: 'ssh -R to forward',
      giveUp: () => (client.exit === undefined ? undefined : `${sshd.output()}\n${client.output()}`),
    });
    return { port, stop };
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
