/** SSH into sessions with the real OpenSSH client: what people type, what programs on top of it need, and who is kept out. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { Client } from 'ssh2';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Cli, peakOf } from '../support/cli.ts';
import { busyboxImage } from '../support/images.ts';
import { start as startProcess } from '../support/process.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';
import { OpenSsh } from './open-ssh.ts';

const image = ['--image', busyboxImage, '--cpu', '0.1', '--mem', '64m'];
const megabytes = 64;

describe.runIf(tier === 'full')('ssh', () => {
  let stack: Stack;
  let cli: Cli;
  let config: string;
  let open: OpenSsh;
  const start = (args: readonly string[]) => open.start('ssh', args);
  const ssh = (args: readonly string[], input: string | Buffer = '', env = {}) => open.ssh(args, input, env);

  beforeAll(async () => {
    stack = await startStack();
    open = await OpenSsh.prepare(stack);
    ({ cli, config } = open);
    await open.session('lab', busyboxImage);
  });
  afterAll(async () => {
    await stack?.stop();
  });

  it('runs a command as the user of the session, and ends as it ends', async () => {
    const script = 'id -u; pwd; echo "$LC_ALL,$SECRET,$BACKENDAI_CLUSTER_ROLE"; echo bad >&2; exit 7';
    const ran = await ssh(['-o', 'SendEnv=LC_ALL SECRET', 'lab.causeway', script]);
    expect(ran).toMatchObject({ status: 7, stdout: '1000\n/home/work\nC.UTF-8,,main\n', stderr: 'bad\n' });
    expect(await ssh(['lab.causeway', 'kill -TERM $$'])).toMatchObject({ status: 255 });
    expect(await ssh(['lab.causeway', '/no/such/program'])).toMatchObject({ status: 127 });
    expect(await cli.run(['ssh', 'lab', 'cat; exit 3'], 'typed')).toMatchObject({ status: 3, stdout: 'typed' });
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith('causeway-ssh-'))).toEqual([]);
  });

  it(`carries ${megabytes} MiB each way, over many rekeys`, async () => {
    const bytes = randomBytes(megabytes * 1024 ** 2);
    const sha = createHash('sha256').update(bytes).digest('hex');
    const rekeys = ['-o', 'RekeyLimit=8M', 'lab.causeway'];
    expect(await ssh([...rekeys, 'tee big | sha256sum'], bytes)).toMatchObject({ status: 0, stdout: `${sha}  -\n` });
    const back = await ssh([...rekeys, 'cat big; echo done >&2']);
    expect(back).toMatchObject({ status: 0, stderr: 'done\n' });
    expect(createHash('sha256').update(back.bytes).digest('hex')).toBe(sha);
  });

  it('loses and doubles nothing of either stream when both wait for a slow client', async () => {
    const script =
      'i=0; while [ $i -lt 400 ]; do i=$((i+1)); head -c 16384 /dev/zero; head -c 4096 /dev/zero >&2; done';
    const child = start(['lab.causeway', script]);
    const seen = [0, 0];
    for (const [at, stream] of [child.stdout!, child.stderr!].entries())
      stream.on('data', (bytes: Buffer) => {
        seen[at]! += bytes.byteLength;
        stream.pause();
        setTimeout(() => stream.resume(), 1);
      });
    await new Promise((resolve) => child.on('close', resolve));
    expect(seen).toEqual([400 * 16384, 400 * 4096]);
  });

  it('has a terminal that follows the window, and whose Ctrl-C reaches the command', async () => {
    const far = 'stty size; while [ "$(stty size)" != "41 101" ]; do sleep 0.1; done; echo resized; sleep 1000';
    const tty = join(stack.dir, 'tty');
    const near = `stty rows 30 cols 90; tty > ${tty}; exec ssh -F ${config} -t lab.causeway '${far}'`;
    const env = { ...process.env, CAUSEWAY_URL: stack.url, CAUSEWAY_TOKEN: stack.client.token!, TERM: 'xterm' };
    const child = spawn('script', ['-qfec', near, '/dev/null'], { env });
    let seen = '';
    child.stdout.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    await until(() => seen.includes('30 90'), { what: 'the first size' });
    execFileSync('stty', ['-F', readFileSync(tty, 'utf8').trim(), 'rows', '41', 'cols', '101']);
    await until(() => seen.includes('resized'), { what: 'the new size' });
    child.stdin.write('\x03');
    // As with any server: OpenSSH has one status for all signals.
    expect(await new Promise((resolve) => child.on('close', resolve))).toBe(255);
  });

  it('opens a shell that takes lines', async () => {
    const ran = await ssh(['-T', 'lab.causeway'], 'cd /; pwd; exit 4\n');
    expect(ran).toMatchObject({ status: 4, stdout: '/\n' });
  });

  it('carries many commands on one connection, and many connections', async () => {
    const path = join(stack.dir, 'ctl');
    const master = ['-o', 'ControlMaster=auto', '-o', `ControlPath=${path}`, '-o', 'ControlPersist=yes'];
    expect(await ssh([...master, 'lab.causeway', 'true'])).toMatchObject({ status: 0 });
    const numbers = Array.from({ length: 10 }, (_, n) => String(n));
    const shared = await Promise.all(numbers.map((n) => ssh(['-S', path, 'lab.causeway', `cat; echo ${n}`], n)));
    expect(shared.map((each) => each.stdout)).toEqual(numbers.map((n) => `${n}${n}\n`));
    expect(await ssh(['-S', path, '-O', 'exit', 'lab.causeway'])).toMatchObject({ status: 0 });
    const own = await Promise.all(Array.from({ length: 50 }, (_, n) => ssh(['lab.causeway', `echo ${n}`])));
    const said = own.map(({ status, stdout, stderr }) => ({ status, stdout, stderr }));
    expect(said).toEqual(own.map((_, n) => ({ status: 0, stdout: `${n}\n`, stderr: '' })));
  });

  it('ends what a client that is gone had started, also when the agent was away meanwhile', async () => {
    const script = 'trap "echo hup > was; exit" HUP; rm -f was; echo up; while :; do sleep 0.1; done';
    const was = () => cli.run(['exec', 'lab', '--', 'cat', 'was']);
    for (const end of [
      (child: ChildProcess) => Promise.resolve(child.kill('SIGKILL')),
      () => stack.agents[0]!.restart(),
    ]) {
      const child = start(['lab.causeway', script]);
      await new Promise((resolve) => child.stdout!.once('data', resolve));
      await end(child);
      await until(async () => (await was()).stdout === 'hup\n', { what: 'the hang-up' });
    }
  });

  it('is there for others when a client leaves between opening a session and using it', async () => {
    expect(await ssh(['lab.causeway', 'true'])).toMatchObject({ status: 0 });
    const agent = stack.agents[0]!.process.pid;
    const dir = join(stack.dir, 'ssh/causeway');
    const proxy = spawn(join(process.cwd(), 'causeway'), ['ssh-proxy', '--dir', dir, 'lab.causeway'], {
      env: open.env,
    });
    const client = new Client();
    const sock = Duplex.from({ readable: proxy.stdout, writable: proxy.stdin });
    sock.on('error', () => undefined);
    const ready = new Promise((resolve, reject) => client.on('ready', () => resolve(undefined)).on('error', reject));
    // Its keys are there when it answers.
    await once(proxy.stdout, 'readable');
    client.connect({ sock, username: 'work', privateKey: readFileSync(join(dir, 'id_ed25519')) });
    await ready;
    const { _protocol: raw } = client as unknown as { _protocol: { session(...of: number[]): void } };
    for (const channel of [0, 1, 2]) raw.session(channel, 2 ** 21, 2 ** 15);
    await new Promise((resolve) => setTimeout(resolve, 300));
    proxy.kill('SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await ssh(['lab.causeway', 'echo there'])).toMatchObject({ status: 0, stdout: 'there\n' });
    expect(stack.agents[0]!.process.pid).toBe(agent);
    expect(stack.agents[0]!.process.exit).toBeUndefined();
  });

  it('holds little for a client that reads nothing', async () => {
    const { pid } = stack.agents[0]!.process;
    expect(await ssh(['lab.causeway', 'true'])).toMatchObject({ status: 0 });
    const before = peakOf(pid);
    const child = start(['lab.causeway', 'yes']);
    child.stdout!.pause();
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    expect(peakOf(pid) - before).toBeLessThan(64 * 1024 ** 2);
    child.kill();
  });

  it('answers a client that asks whether it is still there', async () => {
    const asking = ['-o', 'ServerAliveInterval=1', '-o', 'ServerAliveCountMax=2'];
    expect(await ssh([...asking, 'lab.causeway', 'sleep 5; echo there'])).toMatchObject({
      status: 0,
      stdout: 'there\n',
    });
  });

  it('[S22] lets the own agent be asked by -A, and not without', async () => {
    const path = join(stack.dir, 'agent');
    await using _agent = startProcess('ssh-agent', ['-D', '-a', path]);
    await until(() => existsSync(path), { what: 'the agent' });
    const own = join(stack.dir, 'own');
    const env = { SSH_AUTH_SOCK: path };
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'mine', '-f', own]);
    execFileSync('ssh-add', ['-q', own], { env: { ...process.env, ...env } });
    // As any program asks an agent which keys it has; the image has none.
    const asking = String.raw`(printf '\0\0\0\1\13'; sleep 1) | /causeway/init connect-unix "$SSH_AUTH_SOCK" | grep -c mine`;
    expect(await ssh(['-A', 'lab.causeway', asking], '', env)).toMatchObject({ stdout: '1\n' });
    expect(
      await new Cli(stack.url, stack.client.token!, stack.dir, env).run(['ssh', '-A', 'lab', asking]),
    ).toMatchObject({ stdout: '1\n' });
    const nobody = new Cli(stack.url, stack.client.token!, stack.dir, { SSH_AUTH_SOCK: '' });
    expect(await nobody.run(['ssh', '-A', 'lab', 'echo on'])).toMatchObject({
      status: 0,
      stdout: 'on\n',
      stderr: expect.stringContaining('no SSH agent runs here') as string,
    });
    const without = { status: 0, stdout: '[]\n', stderr: '' };
    expect(await ssh(['lab.causeway', 'echo "[$SSH_AUTH_SOCK]"'], '', env)).toMatchObject(without);
    const left = await ssh(['lab.causeway', 'ls /tmp | grep causeway-; echo none'], '', env);
    expect(left).toMatchObject({ stdout: 'none\n' });
  });

  it('says what a program needs that the image has not', async () => {
    const rsync = await ssh(['lab.causeway', 'rsync here there']);
    expect(rsync).toMatchObject({ status: 127, stderr: expect.stringContaining('the image has no rsync') as string });
  });

  it('[S16] keeps out a wrong key, a server that is not the one, and a name that is none', async () => {
    const other = join(stack.dir, 'other');
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', other]);
    const only = join(stack.dir, 'only');
    const options = execFileSync('ssh', ['-G', '-F', config, 'lab.causeway'], { encoding: 'utf8' });
    const proxy = /^proxycommand (.*)$/m.exec(options)![1]!;
    writeFileSync(only, `Host *\n  ProxyCommand ${proxy}\n  IdentityFile ${other}\n  IdentitiesOnly yes\n`);
    const refused = await ssh([
      '-F',
      only,
      '-o',
      'StrictHostKeyChecking=no',
      '-o',
      'UserKnownHostsFile=/dev/null',
      'lab.causeway',
      'true',
    ]);
    expect(refused).toMatchObject({ status: 255 });
    expect(refused.stderr).toContain('Permission denied (publickey)');
    const known = join(stack.dir, 'known');
    writeFileSync(known, `* ${execFileSync('cat', [`${other}.pub`], { encoding: 'utf8' })}`);
    const stranger = await ssh(['-o', `UserKnownHostsFile=${known}`, 'lab.causeway', 'true']);
    expect(stranger).toMatchObject({ status: 255 });
    expect(stranger.stderr).toContain('Host key verification failed');
    expect((await ssh(['nobody.causeway', 'true'])).stderr).toContain('there is no session nobody');
  });

  it('ends with its session, and is refused after it', async () => {
    expect(await cli.run(['run', '-d', '--name', 'brief', ...image])).toMatchObject({ status: 0 });
    const child = start(['brief.causeway', 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.1; done']);
    let seen = '';
    child.stdout!.on('data', (bytes: Buffer) => (seen += bytes.toString()));
    await until(() => seen.includes('up'), { what: 'up' });
    const idle = start(['-N', 'brief.causeway']);
    const ended = Promise.all([child, idle].map((each) => new Promise((resolve) => each.on('close', resolve))));
    expect(await cli.run(['stop', 'brief'])).toMatchObject({ status: 0 });
    expect(await ended).toEqual([5, 255]);
    expect(seen).toBe('up\nbye\n');
    expect((await ssh(['brief.causeway', 'true'])).stderr).toContain('brief has ended');
  });
});
