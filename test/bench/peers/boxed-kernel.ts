/**
 * A kernel of Jupyter in a container without us, as people start one by hand: `docker run` of the same image with the same
 * limits, its ports on the loopback of the engine's namespace. As a program it is what a kernelspec of a Jupyter server
 * names: `boxed-kernel.ts SOCKET CONNECTION_FILE` runs as long as the kernel does.
 */
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import Docker from 'dockerode';
import { pythonImage } from '../../support/python-image.ts';

/** What both sides of a row give to a kernel. */
export const kernelLimits = { cpu: 1, memMiB: 512 } as const;

export interface BoxedOptions {
  /** Default: the engine's own, without a namespace for the container. */
  network?: string;
}

/** Creates and starts the container; the kernel in it may not listen yet. */
export async function startBoxedKernel(
  docker: Docker,
  connectionFile: string,
  { network = 'host' }: BoxedOptions = {},
): Promise<Docker.Container> {
  const folder = dirname(connectionFile);
  const container = await docker.createContainer({
    Image: pythonImage,
    Entrypoint: [],
    Cmd: ['python3', '-m', 'ipykernel_launcher', '-f', connectionFile],
    User: '0:0',
    Env: ['HOME=/tmp'],
    HostConfig: {
      NetworkMode: network,
      Binds: [`${folder}:${folder}`],
      NanoCpus: kernelLimits.cpu * 1e9,
      Memory: kernelLimits.memMiB * 1024 * 1024,
      MemorySwap: kernelLimits.memMiB * 1024 * 1024,
    },
  });
  await container.start();
  return container;
}

/** Writes a connection file for a kernel that listens at `ip` on five ports from `firstPort` on. */
export function writeConnection(path: string, ip: string, firstPort: number): void {
  const ports = ['shell', 'iopub', 'stdin', 'control', 'hb'].map((name, at) => [`${name}_port`, firstPort + at]);
  const how = { ip, transport: 'tcp', signature_scheme: 'hmac-sha256', key: randomUUID() };
  writeFileSync(path, JSON.stringify({ ...how, ...(Object.fromEntries(ports) as Record<string, number>) }));
}

if (process.argv[1] === import.meta.filename) {
  const [, , socketPath = '', file = ''] = process.argv;
  const container = await startBoxedKernel(new Docker({ socketPath }), file);
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.on(signal, () => void container.remove({ force: true }).finally(() => process.exit(0)));
  await container.wait();
  await container.remove({ force: true }).catch(() => undefined);
}
