/** A machine elsewhere joins over TLS: by a pasted line, through a proxy, by an authority of somebody's own; and not otherwise. */
import type { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { toCurlPin } from '../../schema/pin.ts';
import { Cli } from '../support/cli.ts';
import { type ConnectProxy, startConnectProxy } from '../support/connect-proxy.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { createNatHost, type NatHost } from '../support/netns.ts';
import type { Started } from '../support/process.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

const root = join(import.meta.dirname, '../..');
let host: NatHost;
let engine: Dockerd;
let stack: Stack;
let cli: Cli;

beforeAll(async () => {
  host = await createNatHost();
  stack = await startStack({ agents: 0, natHost: host, tls: true });
  engine = await startDockerd({ netns: host.netns });
  await importBusybox(engine.docker);
  cli = new Cli(stack.url, stack.client.token!, stack.dir, { CAUSEWAY_PIN: stack.edge.pin! });
});
afterAll(async () => {
  await engine?.stop();
  await stack?.stop();
  await host?.stop();
});

/** Pastes a line into a shell of the machine that joins, which has a name, and a state of its own. */
const paste = (name: string, line: string, env: Record<string, string> = {}): Started =>
  host.start('sh', ['-c', `exec ${line} --name ${name} --state ${join(stack.dir, name)} --logs`], {
    env: {
      PATH: `${root}:${process.env['PATH']}`,
      HOME: join(stack.dir, name),
      DOCKER_HOST: engine.dockerHost,
      ...env,
    },
    name,
  });

/** The lines that are printed for another machine. */
async function joinLines(): Promise<{ line: string; checkoutLine: string; pin: string }> {
  const { stdout } = await cli.run(['agent', 'token', 'create', '--json']);
  return JSON.parse(stdout) as { line: string; checkoutLine: string; pin: string };
}

const connected = (agent: Started) =>
  until(() => /"message":"connected"/.test(agent.output()), {
    what: `${agent.name} to connect`,
    timeoutMs: 60_000,
    giveUp: () => (agent.exit === undefined ? undefined : `it ended:\n${agent.output()}`),
  });

it('joins with one pasted line that pins the key, runs a session, and carries its bytes', async () => {
  const { line, checkoutLine, pin } = await joinLines();
  expect(pin).toBe(stack.edge.pin);
  expect(line).toMatch(
    new RegExp(
      String.raw`^curl -fsSL -k --pinnedpubkey 'sha256//\S{44}' ${stack.url}/install.sh \| sh -s -- --url ${stack.url} --pin ${pin} cwj_`,
    ),
  );
  await using agent = paste('second', checkoutLine);
  await connected(agent);
  const said = await cli.run(['run', '-q', '--image', busyboxImage, '--', 'echo', 'over TLS']);
  expect(said).toMatchObject({ status: 0, stdout: 'over TLS\n' });
  const started = await cli.run([
    'run',
    '-d',
    '--name',
    'lab',
    '--image',
    busyboxImage,
    '--',
    'sh',
    '-c',
    'echo begun; sleep 600',
  ]);
  expect(started).toMatchObject({ status: 0 });
  const megabytes = await cli.run(['exec', 'lab', '--', 'sh', '-c', 'head -c 8000000 /dev/zero']);
  expect(megabytes.stdout).toHaveLength(8_000_000);
  expect(await cli.run(['cp', join(root, 'package-lock.json'), 'lab:'])).toMatchObject({ status: 0 });
  expect(await cli.run(['cp', 'lab:package-lock.json', join(stack.dir, 'back.json')])).toMatchObject({ status: 0 });
  expect(readFileSync(join(stack.dir, 'back.json')).equals(readFileSync(join(root, 'package-lock.json')))).toBe(true);
  expect((await cli.run(['logs', 'lab'])).stdout).toBe('begun\n');
  expect(await host.inboundAttempts()).toBe(0);

  // A socket that the hubs did not close would hold workerd until its grace ends.
  const following = cli.start(['logs', '-f', 'lab'], '');
  await following.says(/begun/);
  await stack.edge.stop();
  expect(stack.edge.process.lines.at(-1)).toMatchObject({ msg: 'stopped', told: true, finished: true });
  expect(agent.output()).toMatch(/the edge asks to dial again.*restarting/);

  // The certificate is made anew at a start that finds none; the key is what was pinned.
  const before = readFileSync(join(stack.dir, 'tls/server.pem'), 'utf8');
  unlinkSync(join(stack.dir, 'tls/server.pem'));
  await stack.edge.start();
  expect(readFileSync(join(stack.dir, 'tls/server.pem'), 'utf8')).not.toBe(before);
  const again = await cli.run(['exec', 'lab', '--', 'echo', 'still here']);
  expect(again).toMatchObject({ status: 0, stdout: 'still here\n' });
  expect(await cli.run(['stop', 'lab'])).toMatchObject({ status: 0 });
  expect(await following.done).toMatchObject({ stdout: 'begun\n' });
});

it('refuses another key in words, on the machine that joins and in the CLI, and spends no token', async () => {
  const { checkoutLine, pin } = await joinLines();
  const other = `sha256:${'0'.repeat(64)}`;
  await using wrong = paste('wrong', checkoutLine.replace(pin, other));
  expect(await wrong.exited).toMatchObject({ code: 77 });
  expect(wrong.output()).toMatch(/tls_pin_mismatch: .* is not the control plane that was pinned .* nothing was sent/);
  await using bare = paste('bare', checkoutLine.replace(`--pin ${pin}`, ''));
  expect(await bare.exited).toMatchObject({ code: 77 });
  expect(bare.output()).toMatch(/tls_untrusted: [^]*--pin/);
  const stranger = new Cli(stack.url, stack.client.token!, stack.dir, { CAUSEWAY_PIN: other });
  for (const verb of [['ps'], ['logs', 'lab'], ['exec', 'lab', '--', 'true']]) {
    const { status, stderr } = await stranger.run(verb);
    expect(status, verb.join(' ')).not.toBe(0);
    expect(stderr).toContain('is not the control plane that was pinned');
  }
  const elsewhere = new Cli(stack.url, stack.client.token!, join(stack.dir, 'elsewhere'));
  const login = (...args: string[]) =>
    elsewhere.run(['login', stack.url, '--token-stdin', ...args], stack.client.token!);
  expect((await login()).stderr).toMatch(/of nobody that this machine believes[^]*--pin/);
  expect((await login('--pin', other)).stderr).toContain('is not the control plane that was pinned');
  expect(await login('--pin', pin)).toMatchObject({ status: 0 });
  expect(await elsewhere.run(['ps'])).toMatchObject({ status: 0 });
  // The token that was not spent is still good.
  await using right = paste('right', checkoutLine);
  await connected(right);
});

it('goes through a proxy with credentials, says what a proxy wants, and keeps its secrets', async () => {
  await using proxy: ConnectProxy = await startConnectProxy({
    credentials: 'someone:proxy-canary',
    host: host.outsideAddress,
  });
  const at = `${host.outsideAddress}:${proxy.port}`;
  const { checkoutLine } = await joinLines();
  await using refused = paste('refused', checkoutLine, { HTTPS_PROXY: `http://someone:wrong-canary@${at}` });
  expect(await refused.exited).toMatchObject({ code: 77 });
  expect(refused.output()).toMatch(/proxy_auth_required: .*does not take the user name and password of HTTPS_PROXY/);
  await using agent = paste('proxied', checkoutLine, { https_proxy: `http://someone:proxy-canary@${at}` });
  await connected(agent);
  const tunnels = new Set(proxy.asked.map(({ target, status }) => `${status} ${target}`));
  expect(tunnels).toEqual(new Set([`407 ${new URL(stack.url).host}`, `200 ${new URL(stack.url).host}`]));
  expect(proxy.open()).toBeGreaterThan(0);
  await until(() => existsSync(join(stack.dir, 'proxied/status.json')), { what: 'the status of the agent' });
  const words = [refused.output(), agent.output(), readFileSync(join(stack.dir, 'proxied/status.json'), 'utf8')].join();
  expect(words).not.toMatch(/proxy-canary|wrong-canary/);
  const env = { HTTPS_PROXY: `http://someone:proxy-canary@${at}`, CAUSEWAY_PIN: stack.edge.pin! };
  const proxiedCli = new Cli(stack.url, stack.client.token!, stack.dir, env);
  const asked = proxy.asked.length;
  const shown = await cli.run(['agent', 'show', 'proxied']);
  expect(shown.stdout).toMatch(/^health +ok/m);
  expect(shown.stdout).toMatch(
    new RegExp(
      String.raw`^tunnel +through http://${at}, TLS, the key is pinned, round trip \d+ ms \(ping \d+ ms\)$`,
      'm',
    ),
  );
  expect(shown.stdout).toMatch(/^clock +as that of the control plane$[^]*^disk +.* free for the agent/m);
  const said = await proxiedCli.run(['run', '-q', '--image', busyboxImage, '--', 'echo', 'through the proxy']);
  expect(said).toMatchObject({ status: 0, stdout: 'through the proxy\n' });
  expect(proxy.asked.length).toBeGreaterThan(asked);
});

it('believes an authority that SSL_CERT_FILE names', async () => {
  const { checkoutLine, pin } = await joinLines();
  const env = { SSL_CERT_FILE: join(stack.dir, 'tls/ca.pem') };
  await using agent = paste('authority', checkoutLine.replace(`--pin ${pin}`, ''), env);
  await connected(agent);
  expect(existsSync(join(stack.dir, 'authority/pin.json'))).toBe(false);
  const trusting = new Cli(stack.url, stack.client.token!, stack.dir, env);
  expect(await trusting.run(['agent', 'list'])).toMatchObject({
    status: 0,
    stdout: expect.stringContaining('authority'),
  });
});

it.skipIf(tier === 'daily')(
  'serves another certificate while it runs, and no byte of an open stream is lost',
  async () => {
    const { checkoutLine } = await joinLines();
    await using agent = paste('patient', checkoutLine);
    await connected(agent);
    const served = await peerOf(stack.url);
    const count = 'i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); sleep 0.1; done';
    const args = ['run', '-q', '--name', 'renewal', '--image', busyboxImage, '--', 'sh', '-c', count];
    const following = cli.run(args);
    await until(async () => (await cli.run(['logs', 'renewal'])).stdout.includes('\n10\n'), {
      what: 'the session to count',
    });
    const workerd = stack.edge.workerdPid;
    unlinkSync(join(stack.dir, 'tls/server.pem'));
    stack.edge.process.kill('SIGUSR2');
    expect(await stack.edge.process.line('certificate renewed')).toMatchObject({
      told: true,
      tls: { pin: stack.edge.pin },
    });
    await until(() => stack.edge.workerdPid !== workerd, { what: 'another workerd' });
    await stack.edge.untilHealthy();
    const renewed = await peerOf(stack.url);
    expect(renewed.fingerprint256).not.toBe(served.fingerprint256);
    expect(renewed.publicKey.equals(served.publicKey)).toBe(true);
    expect(await following).toMatchObject({
      status: 0,
      stdout: Array.from({ length: 200 }, (_, n) => `${n}\n`).join(''),
    });
    expect(stack.edge.process.output()).not.toContain('workerd hangs');
  },
);

/** The certificate that a server shows, whoever it is. */
async function peerOf(url: string): Promise<X509Certificate> {
  const { hostname, port } = new URL(url);
  const socket = connectTls({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const peer = socket.getPeerX509Certificate();
  socket.destroy();
  return peer!;
}

it.skipIf(tier === 'daily')(
  'installs itself there by the pasted line alone, known by the pin from its first byte',
  async () => {
    const { line, pin } = await joinLines();
    const dir = join(stack.dir, 'opt');
    const env = { HOME: join(stack.dir, 'installed'), DOCKER_HOST: engine.dockerHost };
    const shell = (text: string) => host.start('sh', ['-c', text], { env, name: 'installer' });
    const other = toCurlPin(`sha256:${'0'.repeat(64)}`);
    await using wrong = shell(line.replace(toCurlPin(pin), other));
    await wrong.exited;
    expect(wrong.output()).toMatch(/public key does not match pinned public key/);
    await using installing = shell(`${line} --dir ${dir} --no-service --name installed`);
    try {
      expect(await installing.exited, installing.output()).toMatchObject({ code: 0 });
      expect(installing.output()).toMatch(
        new RegExp(`signature +good, by the key of the control plane\n[^]*connected +to ${stack.url}`),
      );
      const shown = await cli.run(['agent', 'show', 'installed', '--json']);
      expect(JSON.parse(shown.stdout)).toMatchObject({ state: 'connected', diagnosis: { route: { trust: 'pinned' } } });
    } finally {
      await using removing = shell(`${dir}/bin/causeway-agent uninstall`);
      await removing.exited;
      expect(existsSync(dir), removing.output()).toBe(false);
    }
  },
  600_000,
);
