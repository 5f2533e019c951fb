import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { SpawnSpec } from '../../agent-daemon/init/messages.ts';
import { newProcessId } from '../agent-daemon/init/harness.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { busyboxImage, emptyImage, importBusybox, importEmpty, importMusl, muslImage } from '../support/images.ts';
import { runToEnd } from '../support/process.ts';
import { tmpDir, type TmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';
import { folder, startContainer } from './init-container.ts';

let engine: Dockerd;
let scratch: TmpDir;
let probe: string;

beforeAll(async () => {
  scratch = tmpDir('probe');
  probe = `${scratch.path}/probe`;
  await runToEnd('musl-gcc', ['-static', '-Os', folder('init-probe.c'), '-o', probe]);
  engine = await startDockerd();
  await importBusybox(engine.docker);
  await importEmpty(engine.docker);
  await importMusl(engine.docker);
});

afterAll(async () => {
  await engine?.stop();
  scratch.remove();
});

const mebibyte = 1024 * 1024;
const users = { root: '0:0', 'a user': '1000:1000' };
const busybox: Record<string, string> = {
  [busyboxImage]: '/bin/busybox',
  [emptyImage]: '/busybox',
  [muslImage]: '/bin/busybox',
};

/** A script for the busybox of an image, with its applets whether they are linked or not. */
const script = (image: string, text: string, more: Partial<SpawnSpec> = {}): SpawnSpec => ({
  processId: newProcessId(),
  argv: [busybox[image] ?? '', 'sh', '-c', text],
  env: { PATH: '/bin:/usr/bin', BB: busybox[image] ?? '' },
  ...more,
});

const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');

describe.each(Object.keys(users) as (keyof typeof users)[])('as %s with all capabilities dropped', (who) => {
  const user = users[who];
  const uid = user.split(':')[0] ?? '';

  it.each([
    ['busybox', busyboxImage],
    ['empty', emptyImage],
    ['musl', muslImage],
  ])('[I3] [I11] [I13] runs in the image %s, read-only, with pipes and terminals', async (_, image) => {
    await using it = await startContainer(engine.docker, { image, user });
    const { session } = it;
    const { exit, out, err } = await session.run(
      script(
        image,
        '$BB id -u; echo out > /dev/stdout; echo err > /dev/stderr; $BB touch /x 2>/dev/null || echo read-only; exit 9',
      ),
    );
    expect(exit).toMatchObject({ kind: 'code', value: 9 });
    expect(out).toBe(`${uid}\nout\nread-only\n`);
    expect(err).toBe('err\n');
    const terminal = await session.run(
      script(image, '$BB stty size </dev/tty; $BB tty', { tty: { rows: 21, cols: 43 } }),
    );
    expect(terminal.out).toBe('21 43\r\n/dev/pts/0\r\n');
    const missing = await session.run({ processId: newProcessId(), argv: ['/bin/bash'], env: {} });
    expect(missing.exit).toMatchObject({ kind: 'failed', value: 127, errno: 2 });
    if (image === muslImage) expect((await session.run(script(image, 'hello'))).out).toBe('hello from musl\n');
  });

  it('[I3] [I6] gives the tenant nothing of the init, and no way to its socket', async () => {
    await using it = await startContainer(engine.docker, { image: busyboxImage, user, files: { '/probe': probe } });
    const { session } = it;
    const { out, err } = await session.run({ processId: newProcessId(), argv: ['/probe', '1'], env: {} });
    // To root belong the files of a process that can not be dumped: it may choose who goes when its own memory is short.
    expect(out).toBe(who === 'root' ? 'score\n' : '');
    expect(err).toMatch(/attach: Operation not permitted/);
    const own = await session.run(script(busyboxImage, 'sleep 60 & /probe $!; kill -9 $!'));
    expect(own.out).toContain('attach'); // the probe works where it may
    const socket = await session.run(
      script(
        busyboxImage,
        'ls /causeway/run; chmod 777 /causeway/run; touch /causeway/run/x; rm /causeway/run/agent.sock; true',
      ),
    );
    expect(socket.out).toBe('');
    expect(socket.err.match(/Permission denied|Read-only file system|No such file/g)).toHaveLength(4);
  });

  it('[I17] [I19] ends with `docker stop`, with all its output', async () => {
    await using it = await startContainer(engine.docker, { image: busyboxImage, user });
    const { session, container } = it;
    const spec = script(busyboxImage, 'trap "echo bye; exit 3" TERM; echo ready; while :; do sleep 0.1; done');
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'ready');
    const stopped = container.stop({ t: 60 });
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'code', value: 3 });
    expect(session.record.text(spec.processId)).toBe('ready\nbye\n');
    await session.link.release(spec.processId);
    await stopped;
    expect((await container.inspect()).State).toMatchObject({ Status: 'exited', ExitCode: 0 });
  });
});

describe('with little memory', () => {
  it('[I20] passes megabytes through a container of 16 MiB, with a ring of one', async () => {
    const memoryBytes = 16 * mebibyte;
    await using it = await startContainer(engine.docker, { image: busyboxImage, user: users['a user'], memoryBytes });
    const { session } = it;
    expect(session.record.status?.ringBytes).toBe(mebibyte); // read from the cgroup inside
    const spec = script(busyboxImage, 'seq 1 3000000');
    await session.run(spec);
    const lines = Array.from({ length: 3_000_000 }, (_, i) => `${i + 1}\n`).join('');
    expect(sha256(session.record.bytes(spec.processId))).toBe(sha256(lines));
  });

  it('[I20] keeps a full ring in it while the agent is away', async () => {
    const memoryBytes = 16 * mebibyte;
    await using it = await startContainer(engine.docker, { image: busyboxImage, user: users['a user'], memoryBytes });
    const { session } = it;
    const specs = Array.from({ length: 20 }, () => script(busyboxImage, 'seq 1 100000'));
    session.acknowledges = false;
    await Promise.all(specs.map((spec) => session.link.spawn(spec)));
    await session.replaceAgent();
    session.acknowledges = true;
    await session.replaceAgent();
    for (const { processId } of specs)
      for (const stream of [1, 2] as const)
        session.link.ack(processId, stream, session.record.reached(processId, stream));
    for (const spec of specs) await session.finished(spec.processId);
    const lines = Array.from({ length: 100_000 }, (_, i) => `${i + 1}\n`).join('');
    for (const spec of specs) expect(sha256(session.record.bytes(spec.processId))).toBe(sha256(lines));
  });

  it('[I11] survives a tenant that takes all the memory', async () => {
    const memoryBytes = 32 * mebibyte;
    await using it = await startContainer(engine.docker, { image: busyboxImage, user: users['a user'], memoryBytes });
    const { session } = it;
    const greedy = script(busyboxImage, 'exec tail -c 100000000 /dev/zero'); // tail keeps it all
    await session.link.spawn(greedy);
    expect(await session.finished(greedy.processId)).toMatchObject({ kind: 'signal', value: 9 });
    expect((await session.run(script(busyboxImage, 'echo well'))).out).toBe('well\n');
  });
});

it('[I10] [I14] holds 1,000 processes in one container', async () => {
  await using it = await startContainer(engine.docker, { image: busyboxImage, user: users['a user'], pids: 1100 });
  const { session } = it;
  const specs = Array.from({ length: 1000 }, (_, i) =>
    script(busyboxImage, `echo ${i}; read word; echo $word`, { stdin: 'open' }),
  );
  await Promise.all(specs.map((spec) => session.link.spawn(spec)));
  await until(() => specs.every((spec) => session.record.text(spec.processId) !== ''), { what: 'all to talk' });
  const more = Array.from({ length: 200 }, () => script(busyboxImage, 'read word', { stdin: 'open' }));
  const born = await Promise.allSettled(more.map((spec) => session.link.spawn(spec)));
  expect(born.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { refusal: 'resources' } });
  await Promise.all(specs.map((spec) => session.link.writeStdin(spec.processId, 0, Buffer.from('bye\n'))));
  for (const [i, spec] of specs.entries()) {
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe(`${i}\nbye\n`);
  }
});

it('[I21] loses nothing at full speed while dockerd is killed and comes back', async () => {
  await using it = await startContainer(engine.docker, { image: busyboxImage, user: users['a user'] });
  const { session } = it;
  const spec = script(busyboxImage, 'seq 1 8000000');
  const size = (): number => session.record.reached(spec.processId);
  await session.link.spawn(spec);
  for (let kill = 0; kill < 2; kill++) {
    const before = size();
    await until(() => size() > before + mebibyte || session.record.exits.has(spec.processId), { what: 'output' });
    await engine.kill9();
    await engine.restart();
  }
  await session.finished(spec.processId);
  const hash = createHash('sha256');
  for (let from = 1; from <= 8_000_000; from += 100_000)
    hash.update(Array.from({ length: 100_000 }, (_, i) => `${from + i}\n`).join(''));
  expect(sha256(session.record.bytes(spec.processId))).toBe(hash.digest('hex'));
  expect(session.record.connects).toBe(1);
});
