import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { thisHost } from '../../agent-daemon/host.ts';
import { HostGuard } from '../../agent-daemon/networks/guard.ts';
import { ensureMaterial } from '../../edge/serve/tls/material.ts';
import { endDockerd, findOwnDockerd, recordDockerd } from '../../cli/instance/own-dockerd.ts';
import { type Dockerd, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { freePort } from '../support/free-port.ts';
import { type Exit, start } from '../support/process.ts';
import { tier } from '../support/tier.ts';
import { abandonedDirs, type TmpDir, tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';

const cli = join(import.meta.dirname, '../../cli/index.ts');
let engine: Dockerd;
let folder: TmpDir;
let ports: number[];

/** What `status --json` says, as far as the tests look. */
type Status = {
  ready: boolean;
  url: string;
  tls?: { pin: string; endsAtMs: number };
  instance: string;
  redis: { mode: string };
  agents: { name: string; state: string }[];
  image: { state: string };
  pids: Record<string, number>;
  parts: { name: string; state: string; restarts: number; lastExit?: { how: string } }[];
};

beforeAll(async () => {
  await stopAbandoned();
  folder = tmpDir('ins');
  engine = await startDockerd();
  await importBusybox(engine.docker);
  // An instance that is told to pull its Python image takes the one that is there: building has a test of its own.
  await engine.docker.getImage(busyboxImage).tag({ repo: 'causeway/python', tag: 'latest' });
  ports = [await freePort(), await freePort()];
});

afterAll(async () => {
  for (const home of ['one', 'two']) await causeway(home, ['down', '--purge', '--yes']);
  await engine.stop();
  folder.remove();
});

/** A detached instance outlives a test run that was killed: those of former runs are stopped before their folders go. */
async function stopAbandoned(): Promise<void> {
  for (const home of abandonedDirs().flatMap((dir) => [join(dir, 'one'), join(dir, 'two')]))
    if (existsSync(home)) await start(process.execPath, [cli, 'down'], { env: { CAUSEWAY_HOME: home } }).exited;
}

/** Runs the CLI against a home of this test to its end. */
async function causeway(
  home: string,
  args: string[],
  env: Record<string, string> = {},
): Promise<Exit & { stdout: string; stderr: string }> {
  const command = start(process.execPath, [cli, ...args], {
    env: {
      CAUSEWAY_HOME: join(folder.path, home),
      XDG_CONFIG_HOME: join(folder.path, 'config'),
      PORT: String(ports[home === 'one' ? 0 : 1]),
      DOCKER_HOST: engine.dockerHost,
      CAUSEWAY_PYTHON_IMAGE: 'causeway/python',
      CAUSEWAY_URL: `http://127.0.0.1:${ports[home === 'one' ? 0 : 1]}`,
      ...env,
    },
  });
  const exit = await command.exited;
  const textOf = (from: string) => command.lines.filter((line) => line.from === from).map((line) => line.text);
  return { ...exit, stdout: textOf('stdout').join('\n'), stderr: textOf('stderr').join('\n') };
}

const status = async (home: string) => JSON.parse((await causeway(home, ['status', '--json'])).stdout) as Status;

const untilReady = (home: string, fits: (now: Status) => boolean = () => true) =>
  until(
    async () => {
      const now = await status(home);
      return now.ready && fits(now) ? now : undefined;
    },
    { what: `the instance ${home} to be ready`, timeoutMs: 90_000, everyMs: 500 },
  );

const up = async (home: string, ...options: string[]) => {
  const done = await causeway(home, ['up', '--detach', ...options]);
  expect(done, `${done.stdout}\n${done.stderr}`).toMatchObject({ code: 0 });
  return done.stdout;
};

const logLines = async () => (await causeway('one', ['logs', 'counter'])).stdout.split('\n').filter(Boolean);

const isAlive = (pid: number) => {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop()?.startsWith('Z') === false;
  } catch {
    return false;
  }
};

/** Process id of the redis-server behind the gateway. */
const redisServer = () => Number(readFileSync(join(folder.path, 'one', 'redis', 'redis.pid'), 'utf8'));

it('says what is missing before anything is started: an engine, a free port, a sound setting', async () => {
  const noEngine = await causeway('one', ['up'], { DOCKER_HOST: 'unix:///nowhere.sock' });
  expect(noEngine).toMatchObject({ code: 1 });
  expect(noEngine.stderr).toContain('no container engine answers at /nowhere.sock');
  expect(await causeway('one', ['up'], { PORT: '99999' })).toMatchObject({ code: 2 });

  const broken = await causeway('one', ['doctor', '--json'], { DOCKER_HOST: 'unix:///nowhere.sock' });
  expect(broken).toMatchObject({ code: 1 });
  expect(JSON.parse(broken.stdout)).toMatchObject({
    ok: false,
    findings: expect.arrayContaining([
      expect.objectContaining({ name: 'engine', verdict: 'missing', remedy: expect.any(String) }),
    ]),
  });
  expect(await causeway('one', ['doctor'])).toMatchObject({ code: 0 });

  const blocker = createServer().listen(ports[0], '127.0.0.1');
  await new Promise((resolve) => blocker.once('listening', resolve));
  const noPort = await causeway('one', ['up']);
  await new Promise((resolve) => blocker.close(resolve));
  expect(noPort.stderr).toContain(`port ${ports[0]} is in use`);
  expect(await causeway('one', ['status'])).toMatchObject({ code: 3 });
});

it('comes up from nothing, with an administrator, a signed-in CLI and its own machine as an agent', async () => {
  const said = await up('one');
  expect(said).toContain(`http://127.0.0.1:${ports[0]}`);
  const now = await untilReady('one', ({ image }) => image.state === 'ready');
  expect(now).toMatchObject({ redis: { mode: 'server' }, agents: [{ state: 'connected' }] });

  const file = join(folder.path, 'one', 'admin.json');
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const admin = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
  expect(admin).toMatchObject({ url: now.url, email: expect.stringContaining('@'), password: expect.any(String) });
  for (const line of said.split('\n').filter((shown) => /causeway (status|agent list)$/.test(shown))) {
    const typed = start('sh', ['-c', line], { env: { XDG_CONFIG_HOME: join(folder.path, 'config') } });
    expect(await typed.exited, `${line}: ${typed.output()}`).toMatchObject({ code: 0 });
  }
  const who = await causeway('one', ['whoami']);
  expect(who.stdout).toContain(admin['email']);

  expect((await causeway('one', ['up'])).stdout).toContain('already up');
});

it('starts a part again that was killed, and status says so', async () => {
  const before = await status('one');
  const server = redisServer();
  for (const name of ['edge', 'redis', 'agent']) process.kill(before.pids[name] ?? 0, 'SIGKILL');
  const after = await untilReady('one', ({ parts }) => parts.every((part) => part.restarts > 0));
  expect(isAlive(server)).toBe(false);
  expect(isAlive(redisServer())).toBe(true);
  for (const part of after.parts) expect(part).toMatchObject({ restarts: 1, lastExit: { how: 'SIGKILL' } });
});

it('lets a second instance live beside the first, on the same engine, that serves TLS', async () => {
  await up('two', '--tls', '--hostname', 'cp.example');
  const [one, two] = [await untilReady('one'), await untilReady('two')];
  expect(two.instance).not.toBe(one.instance);
  expect(two.agents.map(({ name }) => name)).not.toEqual(one.agents.map(({ name }) => name));
  expect(two).toMatchObject({ url: `https://127.0.0.1:${ports[1]}`, tls: { pin: expect.stringMatching(/^sha256:/) } });
  expect(statSync(join(folder.path, 'two/tls/server.key')).mode & 0o777).toBe(0o600);
  const secure = { CAUSEWAY_URL: two.url };
  const said = await causeway('two', ['run', '-q', '--image', busyboxImage, '--', 'echo', 'over TLS'], secure);
  expect(said, said.stderr).toMatchObject({ code: 0, stdout: 'over TLS' });
  const without = await causeway('two', ['ps'], { ...secure, CAUSEWAY_PIN: `sha256:${'0'.repeat(64)}` });
  expect(without.stderr).toContain('is not the control plane that was pinned');
  await causeway('two', ['down']);
  expect(await status('two')).toMatchObject({ ready: false });
  expect(await status('one')).toMatchObject({ ready: true, pids: one.pids });
});

it.skipIf(tier === 'daily')('takes certificate files that were changed while it runs, of another key too', async () => {
  const [at, other] = [join(folder.path, 'files'), join(folder.path, 'other')];
  const first = ensureMaterial(at, ['127.0.0.1'], Date.now());
  await up('two', '--tls-cert', join(at, 'server.pem'), '--tls-key', join(at, 'server.key'));
  const before = await untilReady('two');
  expect(before).toMatchObject({ tls: { pin: first.pin } });
  expect((await causeway('two', ['status'])).stdout).toMatch(/TLS until \d{4}-\d\d-\d\d, pin sha256:/);

  rmSync(join(at, 'server.pem'));
  const renewed = ensureMaterial(at, ['127.0.0.1'], Date.now() + 86_400_000);
  process.kill(before.pids['edge'] ?? 0, 'SIGUSR2');
  const same = await untilReady('two', ({ tls }) => tls?.endsAtMs === renewed.endsAtMs);
  expect(same).toMatchObject({ tls: { pin: first.pin }, pids: before.pids });

  const another = ensureMaterial(other, ['127.0.0.1'], Date.now());
  for (const name of ['server.pem', 'server.key']) copyFileSync(join(other, name), join(at, name));
  process.kill(before.pids['edge'] ?? 0, 'SIGUSR2');
  const after = await untilReady(
    'two',
    ({ tls, pids }) => tls?.pin === another.pin && pids['agent'] !== before.pids['agent'],
  );
  expect(after).toMatchObject({ tls: { pin: another.pin }, agents: [{ state: 'connected' }] });
  const said = await causeway('two', ['run', '-q', '--image', busyboxImage, '--', 'echo', 'by another key'], {
    CAUSEWAY_URL: after.url,
  });
  expect(said, said.stderr).toMatchObject({ code: 0, stdout: 'by another key' });
  await causeway('two', ['down']);
});

it('takes its parts with it when the supervisor is killed, and the next up brings the same instance back', async () => {
  const before = await status('one');
  const everything = [...Object.values(before.pids), redisServer()];
  process.kill(before.pids['supervisor'] ?? 0, 'SIGKILL');
  await until(() => everything.every((pid) => !isAlive(pid)), { what: 'every part to end, redis-server too' });
  expect(await causeway('one', ['status'])).toMatchObject({ code: 3 });
  await up('one');
  const after = await untilReady('one');
  expect(after).toMatchObject({ instance: before.instance, url: before.url });
  expect(after.agents).toEqual(before.agents);
});

it('stops at a signal without a trace of an error, and down says that nothing runs afterwards', async () => {
  const before = await status('one');
  process.kill(before.pids['supervisor'] ?? 0, 'SIGINT');
  await until(() => Object.values(before.pids).every((pid) => !isAlive(pid)), { what: 'every part to end' });
  const log = readFileSync(join(folder.path, 'one', 'log', 'supervisor.log'), 'utf8');
  expect(log).toContain('stopped. The next `causeway up` picks everything up.');
  expect(readFileSync(join(folder.path, 'one', 'log', 'edge.log'), 'utf8')).toMatch(
    /"msg":"stopped","told":true,"finished":true/,
  );
  expect((await causeway('one', ['down'])).stdout).toContain('not running');
});

it('says at once why its agent can not begin, and that begins when it is mended', async () => {
  const settings = join(folder.path, 'one', 'agent', 'agent.json');
  writeFileSync(settings, '{ "warmContainers": "many" }');
  const said = await causeway('one', ['up', '--detach']);
  expect(said).toMatchObject({ code: 1, stderr: expect.stringContaining('not everything is ready yet') as string });
  expect(said.stdout).toMatch(/is NOT connected.*warmContainers.*must be a number of containers/);
  rmSync(settings);
  await untilReady('one');
});

it('leaves containers running when it goes down, and picks the sessions up when it is back', async () => {
  await up('one');
  await untilReady('one');
  const count = 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.1; done';
  const run = ['run', '-d', '--name', 'counter', '--image', busyboxImage, '--', 'sh', '-c', count];
  const ran = await causeway('one', run);
  expect(ran, ran.stderr).toMatchObject({ code: 0, stdout: 'counter' });
  const untilItRuns = () =>
    until(async () => (await causeway('one', ['ps'])).stdout.includes('RUNNING'), {
      what: 'the session to be running',
    });
  // Before that there is no container that could go on.
  await untilItRuns();
  expect((await causeway('one', ['down'])).stdout).toContain('1 container goes on');
  // One that was started in advance is nobody's, and goes with the agent.
  expect(await engine.docker.listContainers()).toHaveLength(1);
  const linesBefore = (await logLines()).length;

  await up('one');
  await untilItRuns();
  const whole = await until(
    async () => {
      const lines = await logLines();
      return lines.length > linesBefore + 10 ? lines : undefined;
    },
    { what: 'more of the output', everyMs: 500 },
  );
  expect(whole).toEqual(whole.map((_, n) => String(n)));
  const ofSessions = { filters: { label: ['causeway.session'] } };
  expect(await engine.docker.listContainers(ofSessions)).toHaveLength(1);
});

it('purges the dockerd that it started only when no container of others runs on it', async () => {
  const own = await startDockerd();
  try {
    await importBusybox(own.docker);
    const marker = join(folder.path, 'dockerd.json');
    recordDockerd(marker, own.pid);
    expect(findOwnDockerd(marker)).toBe(own.pid);
    const foreign = await own.docker.createContainer({ Image: busyboxImage, Cmd: ['sleep', '1000'] });
    await foreign.start();
    expect(await endDockerd(own.pid, own.socket)).toEqual({ how: 'used', containers: 1 });
    expect(isAlive(own.pid)).toBe(true);
    await foreign.remove({ force: true });
    expect(await endDockerd(own.pid, own.socket)).toEqual({ how: 'stopped' });
    expect(findOwnDockerd(marker)).toBeUndefined();
    recordDockerd(marker, process.pid);
    expect(findOwnDockerd(marker)).toBeUndefined();
  } finally {
    await own.stop();
  }
});

/** The rules of an agent that has made its first network on this host. */
async function guardAsAnAgentDoes(pool: string): Promise<void> {
  const [address = ''] = pool.split('/');
  const reversed = address.split('.').toReversed();
  const destination = reversed.map((part) => Number(part).toString(16).padStart(2, '0')).join('');
  const route = `br-x\t${destination}\t00000000\t0001\t0\t0\t0\t00C0FFFF`;
  const guard = new HostGuard({
    pool,
    readRoutes: () => Promise.resolve(`Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n${route}\n`),
    iptables: (args) => thisHost().iptables(args),
    log: { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} },
  });
  await guard.ensure(`${address}/28`);
  expect(guard.findings).toEqual([]);
}

it('purges only when it is told so, and leaves nothing of itself', async () => {
  expect(await causeway('one', ['down', '--purge'])).toMatchObject({ code: 2 });
  expect(existsSync(join(folder.path, 'one', 'admin.json'))).toBe(true);
  const identity = JSON.parse(readFileSync(join(folder.path, 'one', 'instance.json'), 'utf8')) as {
    networkPool: string;
  };
  const rules = () => execFileSync('iptables', ['-w', '-S'], { encoding: 'utf8' });
  await guardAsAnAgentDoes(identity.networkPool);
  expect(rules()).toContain(`-s ${identity.networkPool} `);
  expect((await causeway('one', ['down', '--purge', '--yes'])).stdout).toContain('removed');
  expect(existsSync(join(folder.path, 'one'))).toBe(false);
  expect(await engine.docker.listContainers({ all: true })).toEqual([]);
  expect(rules()).not.toContain(`-s ${identity.networkPool} `);
});
