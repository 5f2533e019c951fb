import { createHash } from 'node:crypto';
import { Duplex, PassThrough } from 'node:stream';
import type Docker from 'dockerode';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { newProcessId, type TestSession } from '../agent-daemon/init/harness.ts';
import { startDockerd, type Dockerd } from '../support/dockerd.ts';
import { busyboxImage, importBusybox } from '../support/images.ts';
import { until } from '../support/wait.ts';
import { startContainer } from './init-container.ts';

let engine: Dockerd;
beforeAll(async () => {
  engine = await startDockerd();
  await importBusybox(engine.docker);
});
afterAll(async () => {
  await engine?.stop();
});

/** The container's stdin and stdout through the engine's API, as one stream of bytes. */
async function attach(container: Docker.Container): Promise<Duplex> {
  const raw = await container.attach({ stream: true, hijack: true, stdin: true, stdout: true, stderr: false });
  const output = new PassThrough();
  container.modem.demuxStream(raw, output, new PassThrough().resume());
  raw.on('close', () => output.destroy());
  raw.on('error', () => output.destroy());
  const both = Duplex.from({ readable: output, writable: raw });
  both.on('close', () => raw.end());
  return both;
}

async function connect(session: TestSession, container: Docker.Container): Promise<void> {
  const link = session.openLink();
  link.attach(await attach(container));
  await link.ready();
}

it('[I9] [I21] talks through `attach`, over a change of the agent and the death of dockerd, and loses nothing', async () => {
  await using it = await startContainer(engine.docker, { image: busyboxImage, user: '1000:1000', stdio: true });
  const { session, container } = it;
  await connect(session, container);
  const spec = {
    processId: newProcessId(),
    argv: ['/bin/sh', '-c', 'seq 1 500000; read word; echo $word'],
    env: {},
    stdin: 'open' as const,
  };
  await session.link.spawn(spec);
  await until(() => session.record.reached(spec.processId) > 100_000, { what: 'output' });
  await session.link.close();
  await connect(session, container);
  await until(() => session.record.reached(spec.processId) > 500_000, { what: 'more output' });
  await engine.kill9();
  await engine.restart();
  await session.link.close();
  await connect(session, container);
  await session.link.writeStdin(spec.processId, 0, Buffer.from('end\n'));
  expect(await session.finished(spec.processId)).toMatchObject({ kind: 'code', value: 0 });
  const lines = `${Array.from({ length: 500_000 }, (_, i) => `${i + 1}\n`).join('')}end\n`;
  const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
  expect(sha256(session.record.bytes(spec.processId))).toBe(sha256(lines));
});
