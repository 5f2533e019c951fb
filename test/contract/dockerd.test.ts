import { existsSync, readFileSync, readdirSync } from 'node:fs';
import type Docker from 'dockerode';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Dockerd, type DockerdOptions, startDockerd } from '../support/dockerd.ts';
import { busyboxImage, emptyImage, importBusybox, importEmpty, importMusl, muslImage } from '../support/images.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

let engine: Dockerd;

beforeAll(async () => {
  engine = await startDockerd();
  await importBusybox(engine.docker);
}, 120_000);

afterAll(() => engine?.stop(), 60_000);

it('runs a busybox container as the work user and shows what it printed', async () => {
  const said = await runIn(busyboxImage, ['sh', '-c', 'id -un; pwd; ls -d /tmp; env | grep PATH'], { User: 'work' });
  expect(said.split('\n').slice(0, 3)).toEqual(['work', '/', '/tmp']);
});

it('gives the same image ids at every import', async () => {
  const first = await importBusybox(engine.docker);
  expect(await importBusybox(engine.docker)).toBe(first);
  expect((await engine.docker.getImage(busyboxImage).inspect()).Id).toBe(first);
});

it('runs the program of an image that holds nothing else', async () => {
  await importEmpty(engine.docker);
  expect(await runIn(emptyImage, ['/busybox', 'ls', '/busybox'])).toContain('/busybox');
});

it('runs a program linked against musl', async () => {
  await importMusl(engine.docker);
  expect(await runIn(muslImage, ['hello'])).toContain('hello from musl');
});

it('lets two containers on a user-defined network talk to each other by name', async () => {
  const network = await engine.docker.createNetwork({ Name: 'talk', Driver: 'bridge' });
  const options = { HostConfig: { NetworkMode: 'talk' } };
  const server = await create(['sh', '-c', 'echo pong | nc -l -p 7000'], { ...options, name: 'server' });
  await server.start();
  const client = [
    'sh',
    '-c',
    'for i in 1 2 3 4 5 6 7 8 9; do nc -w 2 server 7000 </dev/null && exit 0; sleep 0.3; done',
  ];
  expect(await runIn(busyboxImage, client, options)).toContain('pong');
  await server.remove({ force: true });
  await network.remove();
});

it('keeps a container running through kill -9 and restart of dockerd', async () => {
  const container = await create(['sleep', '600']);
  await container.start();
  const before = (await container.inspect()).State;
  const killed = engine.pid;
  await engine.kill9();
  await expect(engine.docker.ping()).rejects.toThrow();
  await engine.restart();
  const after = (await container.inspect()).State;
  expect(engine.pid).not.toBe(killed);
  expect([after.Running, after.Pid, after.StartedAt]).toEqual([true, before.Pid, before.StartedAt]);
  await container.remove({ force: true });
});

it('loses its containers but not its images in a power loss', async () => {
  const container = await create(['sleep', '600']);
  await container.start();
  await engine.powerLoss();
  await engine.restart();
  expect((await container.inspect()).State.Running).toBe(false);
  expect(await runIn(busyboxImage, ['echo', 'back'])).toContain('back');
});

it('leaves no process, mount, namespace, control group or file behind', async () => {
  await expectNothingLeft({});
});

// gVisor's sandboxes are in no control group of the engine's.
const hasGvisor = existsSync('/usr/bin/runsc');
it.runIf(tier === 'full' && hasGvisor)(
  'leaves nothing of gVisor behind, and lets the sandbox of another be',
  async () => {
    await using other = await startDockerd({ gvisor: true });
    await importBusybox(other.docker);
    const container = await create(['sleep', '600'], {}, other.docker);
    await container.start();
    const { Pid } = (await container.inspect()).State;
    await expectNothingLeft({ gvisor: true });
    expect(commandLine(String(Pid))).toContain('runsc-sandbox');
    expect((await container.inspect()).State.Running).toBe(true);
  },
);

async function expectNothingLeft(options: DockerdOptions): Promise<void> {
  const own = await startDockerd(options);
  await importBusybox(own.docker);
  const container = await create(['sleep', '600'], {}, own.docker);
  await container.start();
  const { Pid } = (await container.inspect()).State;
  const root = own.socket.replace('/docker.sock', '');
  expect(mounts()).toContain(root);
  await own.stop();
  expect(mounts()).not.toContain(root);
  expect(existsSync(root)).toBe(false);
  expect(existsSync(`/run/netns/${own.netns}`)).toBe(false);
  await until(() => !existsSync(`/proc/${Pid}`), { what: 'the container to be gone' });
  const left = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandLine(pid).includes(root));
  expect(left.map(commandLine)).toEqual([]);
  expect(readdirSync('/sys/fs/cgroup/memory').filter((name) => name === own.netns)).toEqual([]);
}

async function create(cmd: string[], options: Docker.ContainerCreateOptions = {}, docker = engine.docker) {
  return docker.createContainer({ Image: busyboxImage, Cmd: cmd, ...options });
}

async function runIn(image: string, cmd: string[], options: Docker.ContainerCreateOptions = {}): Promise<string> {
  const container = await create(cmd, { ...options, Image: image, Tty: true });
  await container.start();
  await container.wait();
  const said = (await container.logs({ stdout: true, stderr: true })).toString();
  await container.remove({ force: true });
  return said.replaceAll('\r', '');
}

function mounts(): string {
  return readFileSync('/proc/self/mountinfo', 'utf8');
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
