/** Keys that people have, in the place of one that is made: uploaded, used by the real OpenSSH client, taken away again. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { busyboxImage } from '../support/images.ts';
import { start as startProcess } from '../support/process.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';
import { OpenSsh } from './open-ssh.ts';

describe.runIf(tier === 'full')('uploaded keys of SSH', () => {
  let stack: Stack;
  let open: OpenSsh;
  const here = (name: string) => join(stack.dir, name);
  const make = (name: string, ...type: string[]) =>
    execFileSync('ssh-keygen', ['-q', '-t', ...type, '-N', '', '-C', `me@${name}`, '-f', here(name)]);
  const cli = (args: readonly string[], input = '') => open.cli.run(args, input);
  const by = (key: string) => ['ssh', '-i', here(key), 'lab', 'echo in'];

  beforeAll(async () => {
    stack = await startStack();
    open = await OpenSsh.prepare(stack);
    await open.session('lab', busyboxImage);
    make('ed', 'ed25519');
    make('ec', 'ecdsa', '-b', '384');
    make('rsa', 'rsa', '-b', '3072');
  }, 300_000);
  afterAll(() => stack?.stop());

  it('[S16] sign in when they are uploaded and not before, of each kind', async () => {
    const early = await cli(by('ed'));
    expect(early).toMatchObject({ status: 255 });
    expect(early.stderr).toContain('causeway ssh-key add');
    for (const name of ['ed', 'ec'])
      expect(await cli(['ssh-key', 'add', here(`${name}.pub`)])).toMatchObject({ status: 0 });
    const refused = await cli(by('rsa'));
    expect(refused).toMatchObject({ status: 255 });
    expect(refused.stderr).toContain('Permission denied (publickey)');
    expect(await cli(['ssh-key', 'add', '-'], readFileSync(here('rsa.pub'), 'utf8'))).toMatchObject({ status: 0 });
    for (const name of ['ed', 'ec', 'rsa'])
      expect(await cli(by(name))).toMatchObject({ status: 0, stdout: 'in\n', stderr: '' });
    const listed = await cli(['ssh-key', 'list']);
    const shown = execFileSync('ssh-keygen', ['-lf', here('ec.pub')], { encoding: 'utf8' }).split(' ')[1]!;
    expect(listed.stdout).toContain(shown);
    expect(listed.stdout).toMatch(/me@ed .*me@ec .*me@rsa /s);
  });

  it('[S16] sign in from an agent of OpenSSH, by a configuration that names the public half', async () => {
    const path = here('agent');
    await using _agent = startProcess('ssh-agent', ['-D', '-a', path]);
    await until(() => existsSync(path), { what: 'the agent' });
    const env = { SSH_AUTH_SOCK: path };
    execFileSync('ssh-add', ['-q', here('ec')], { env: { ...process.env, ...env } });
    execFileSync('cp', [here('ec.pub'), here('held.pub')]);
    const config = here('own/config');
    expect(await cli(['ssh-config', '--file', config, '--identity', here('held.pub')])).toMatchObject({ status: 0 });
    const ran = await open.ssh(['-F', config, 'lab.causeway', 'echo in'], '', env);
    expect(ran).toMatchObject({ status: 0, stdout: 'in\n' });
    expect(existsSync(here('own/causeway/id_ed25519'))).toBe(false);
    expect(await open.ssh(['-F', config, 'lab.causeway', 'true'])).toMatchObject({ status: 255 });
    // Beside the key that was made for the other configuration.
    const beside = await open.ssh(['-v', '-i', here('ec'), 'lab.causeway', 'echo in']);
    expect(beside).toMatchObject({ status: 0, stdout: 'in\n' });
    expect(beside.stderr).toContain(`Server accepts key: ${here('ec')}`);
  });

  it('end what they signed in on within seconds when they are removed', async () => {
    const child: ChildProcess = open.start('ssh', [
      '-i',
      here('ed'),
      'lab.causeway',
      'while :; do echo on; sleep 0.1; done',
    ]);
    const over = new Promise((resolve) => child.on('close', resolve));
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    expect(await cli(['ssh-key', 'remove', 'me@ed'])).toMatchObject({ status: 0 });
    expect(await over).toBe(255);
    expect((await cli(by('ed'))).stderr).toContain('Permission denied');
    expect(await cli(by('rsa'))).toMatchObject({ status: 0 });
    expect((await cli(['ssh-key', 'remove', 'me@ed'])).stderr).toContain('causeway ssh-key list');
  });

  it('are refused when they are none, and private ones stay here', async () => {
    const secret = await cli(['ssh-key', 'add', here('ed')]);
    expect(secret).toMatchObject({ status: 2 });
    expect(secret.stderr).toContain('is no public key');
    expect((await cli(['ssh-key', 'add', '-'], 'ssh-ed25519 AAAA\n')).stderr).toContain('cut off');
    expect((await cli(['ssh-key', 'add', here('rsa.pub')])).stderr).toContain('already');
  });
});
