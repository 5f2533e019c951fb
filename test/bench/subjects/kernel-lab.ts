/**
 * A kernel of Jupyter in a container, reached in three ways: through edge and tunnel, by ZeroMQ on the same machine, and
 * behind a Jupyter server. The same client program, image and limits on all of them.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { toJupyterKernelId } from '../../../schema/api/jupyter.ts';
import type { Kernel } from '../../../schema/api/kernel-parts.ts';
import { newId } from '../../../schema/ids.ts';
import { freePort } from '../../support/free-port.ts';
import { importPython, pythonImage } from '../../support/python-image.ts';
import type { Stack } from '../../support/stack.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { kernelLimits, startBoxedKernel, writeConnection } from '../peers/boxed-kernel.ts';
import { startJupyterServer } from '../peers/jupyter-server.ts';
import { KernelClient } from '../peers/kernel-client.ts';
import { endSessions, startSession } from './session.ts';

/** Cells before anything is measured: until the compilers of all processes have seen them. */
const warmUpCells = 100;

export interface KernelLab {
  ours: KernelClient;
  zmq: KernelClient;
  server: KernelClient;
  stop(): Promise<void>;
}

/** What a session of a kernel is: the image and the limits of the peers' containers. */
export const kernelSession = {
  image: pythonImage,
  resources: { cpu: kernelLimits.cpu, mem: `${kernelLimits.memMiB}m` },
} as const;

/** Brings the image to the stack's engine, and waits until the edge knows that it is there. */
export async function bringImage(stack: Stack): Promise<void> {
  const { engine } = stack.agents[0]!;
  await importPython(engine.docker, engine.socket);
  await until(async () => JSON.stringify(await stack.client.api('GET', '/v1/images')).includes(pythonImage), {
    what: 'the agent to tell of its image',
    timeoutMs: 120_000,
    everyMs: 500,
  });
}

/** Starts a Jupyter kernel in a session; returns its id. */
export async function startKernel(stack: Stack, sessionId: string): Promise<string> {
  const path = `/v1/sessions/${sessionId}/kernels`;
  const id = newId('kernel', Date.now(), randomBytes(10));
  await until(
    // The same again is harmless where the answer came too late.
    async () => ((await stack.client.api('POST', path, { id, spec: 'python3' })) as Kernel).state === 'idle',
    { what: 'the kernel to be idle', timeoutMs: 120_000, everyMs: 200 },
  );
  return id;
}

/** Address of the gateway's channels of a kernel. `client`: its `session_id`. */
export function channelsUrl(
  stack: Stack,
  {
    sessionId,
    kernelId,
    client,
    token = stack.client.token!,
  }: Record<'sessionId' | 'kernelId' | 'client', string> & { token?: string },
): string {
  const base = stack.url.replace(/^http/, 'ws');
  const id = toJupyterKernelId(sessionId, kernelId);
  return `${base}/v1/sessions/${sessionId}/jupyter/api/kernels/${id}/channels?session_id=${client}&token=${token}`;
}

export async function startKernelLab(stack: Stack): Promise<KernelLab> {
  await bringImage(stack);
  const { engine } = stack.agents[0]!;
  const { id: sessionId } = await startSession(stack, kernelSession);
  const kernelId = await startKernel(stack, sessionId);
  const dir = tmpDir('box');
  const file = join(dir.path, 'kernel.json');
  writeConnection(file, '127.0.0.1', await freePort());
  const boxed = await startBoxedKernel(engine.docker, file);
  const server = await startJupyterServer(engine);
  const clients = {
    ours: new KernelClient('ws'),
    zmq: new KernelClient('zmq', engine.netns),
    server: new KernelClient('ws', engine.netns),
  };
  const stop = async (): Promise<void> => {
    for (const client of Object.values(clients)) await client.stop();
    await server.stop();
    await boxed.remove({ force: true });
    dir.remove();
    await endSessions(stack, [sessionId]);
  };
  try {
    await clients.ours.connect({ url: channelsUrl(stack, { sessionId, kernelId, client: 'bench' }) });
    await clients.zmq.connect({ file });
    await clients.server.connect({ url: await server.startKernel() });
    for (const client of Object.values(clients)) await client.times('1', warmUpCells);
  } catch (error) {
    await stop();
    throw error;
  }
  return { ...clients, stop };
}
