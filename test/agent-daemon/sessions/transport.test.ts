/** Which way to its init the agent takes for new containers, and sessions over the second way, stdin and stdout. */
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { TransportProbe, type TransportProbeOptions } from '../../../agent-daemon/sessions/transport-probe.ts';
import { systemClock, systemDisk, systemRandom, systemSoon, systemTimers } from '../../../agent-daemon/platform.ts';
import { DockerRuntime } from '../../../agent-daemon/runtime/docker.ts';
import { Demultiplexer } from '../../../agent-daemon/runtime/attach.ts';
import { type Dockerd, startDockerd } from '../../support/dockerd.ts';
import { importBusybox } from '../../support/images.ts';
import { tier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import { keptLog } from '../ports.ts';
import { agentId } from '../support.ts';
import { CoreBench, freshSessionId } from './bench.ts';
import { unixDoor } from '../../../agent-daemon/init/door.ts';

const dir = tmpDir('way');
let engine: Dockerd;
let core: CoreBench;

beforeAll(async () => {
  engine = await startDockerd();
  await importBusybox(engine.docker);
  core = new CoreBench(engine.socket, join(dir.path, 'a'));
  core.transport = 'stdio';
  await core.start();
});
afterAll(async () => {
  await core?.stop();
  await engine?.stop();
  dir.remove();
});

const sh = (script: string) => ['sh', '-c', script];

async function probeWith(stateDir: string, changes: Partial<TransportProbeOptions> = {}): Promise<TransportProbe> {
  mkdirSync(stateDir, { recursive: true });
  const log = keptLog();
  const runtime = new DockerRuntime(engine.socket);
  const info = await runtime.info();
  return new TransportProbe({
    runtime,
    log,
    agentId,
    stateDir,
    disk: systemDisk,
    door: unixDoor,
    soon: systemSoon,
    clock: systemClock,
    random: systemRandom,
    timers: systemTimers(log),
    runRoot: join(stateDir, 'run'),
    initPath: initBinary,
    configured: 'auto',
    engine: () => info,
    ...changes,
  });
}

/** An engine whose containers see something else where the socket is. */
function blindRuntime(empty: string): DockerRuntime {
  mkdirSync(empty, { recursive: true });
  return new (class extends DockerRuntime {
    override createContainer(options: Parameters<DockerRuntime['createContainer']>[0]): Promise<string> {
      const mounts = options.HostConfig?.Mounts ?? [];
      for (const mount of mounts) if (mount.Target === '/causeway/run') mount.Source = empty;
      return super.createContainer(options);
    }
  })(engine.socket);
}

it('finds that containers reach the socket, leaves nothing, and does not ask again on the same host', async () => {
  const stateDir = join(dir.path, 'probe');
  const probe = await probeWith(stateDir);
  expect(await probe.transport()).toBe('socket');
  const containers = await engine.docker.listContainers({ all: true });
  expect(containers.filter(({ Names }) => Names[0]?.includes('probe'))).toEqual([]);
  expect((await engine.docker.listImages()).flatMap(({ RepoTags }) => RepoTags ?? [])).not.toContain(
    'causeway-probe:empty',
  );
  expect(readdirSync(join(stateDir, 'run'))).toEqual([]);

  const again = await probeWith(stateDir, { runtime: blindRuntime(join(dir.path, 'empty')) });
  expect(await again.transport()).toBe('socket');
});

it.skipIf(tier === 'daily')(
  'takes stdin and stdout where a container can not reach the socket, and as the owner of the host says',
  async () => {
    const runtime = blindRuntime(join(dir.path, 'empty'));
    expect(await (await probeWith(join(dir.path, 'blind'), { runtime })).transport()).toBe('stdio');
    expect(await (await probeWith(join(dir.path, 'set'), { configured: 'stdio' })).transport()).toBe('stdio');
  },
);

it('takes the socket, and asks again, when the engine does not answer', async () => {
  const probe = await probeWith(join(dir.path, 'silent'), { engine: () => undefined });
  expect([await probe.transport(), probe.found]).toEqual(['socket', undefined]);
});

it('[I9] runs a session over stdin and stdout, with all its output and its exit code', async () => {
  const id = freshSessionId();
  await core.create(id, { command: sh('seq 100000; echo err >&2; exit 7') });
  expect(await core.event(id, 'ended')).toMatchObject({ reason: 'exited', exitCode: 7 });
  const { stdout, stderr } = await core.output(id);
  expect([stdout, stderr]).toEqual([Array.from({ length: 100_000 }, (_, n) => `${n + 1}\n`).join(''), 'err\n']);
  const filters = { label: [`causeway.session=${id}`] };
  await until(async () => (await engine.docker.listContainers({ all: true, filters })).length === 0, {
    what: 'the container to be gone',
  });
  await core.remove(id);
});

it('[I9] goes on over stdin and stdout after the death of the agent and of the engine, without a line lost or doubled', async () => {
  const id = freshSessionId();
  await core.create(id, { command: sh('i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); usleep 1000; done') });
  const grown = (from: number) =>
    until(async () => (await core.output(id)).stdout.length > from, { what: 'more output', timeoutMs: 60_000 });
  await grown(0);
  await core.restart();
  const before = (await core.output(id)).stdout.length;
  await grown(before);
  await engine.kill9();
  await engine.restart();
  expect(await core.event(id, 'ended')).toMatchObject({ reason: 'exited', exitCode: 0 });
  const lines = (await core.output(id)).stdout.split('\n').slice(0, -1);
  expect(lines).toEqual(Array.from({ length: 3000 }, (_, n) => String(n)));
  expect(core.kindsOf(id)).toEqual(['pulled', 'creating', 'running', 'ended']);
  await core.remove(id);
});

it('takes the frames of `attach` apart wherever they are cut, and drops what is not stdout', () => {
  const frame = (stream: number, text: string) => {
    const header = Buffer.alloc(8);
    header[0] = stream;
    header.writeUInt32BE(text.length, 4);
    return Buffer.concat([header, Buffer.from(text)]);
  };
  const bytes = Buffer.concat([frame(1, 'one '), frame(2, 'noise'), frame(1, ''), frame(1, 'two')]);
  for (let size = 1; size <= bytes.length; size++) {
    const frames = new Demultiplexer();
    let out = '';
    for (let at = 0; at < bytes.length; at += size) {
      for (const piece of frames.push(bytes.subarray(at, at + size))) out += piece.toString();
    }
    expect(out).toBe('one two');
  }
});
