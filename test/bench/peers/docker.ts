/** The engine used directly, as people do without us: what session starts, exec and logs are compared with. */
import type { Readable } from 'node:stream';
import type Docker from 'dockerode';
import { busyboxImage } from '../../support/images.ts';

/** A network as the agent makes one for a session: a bridge `peer-NUMBER` with a small subnet of its own. */
export async function createNetwork(docker: Docker, number: number): Promise<Docker.Network> {
  const Subnet = `10.199.${number >> 4}.${(number & 15) << 4}/28`;
  return docker.createNetwork({
    Name: `peer-${number}`,
    Driver: 'bridge',
    IPAM: { Driver: 'default', Config: [{ Subnet }] },
  });
}

export interface PeerContainer {
  container: Docker.Container;
  network: Docker.Network;
}

/** Limits that both sides of a row give to a container. A share of a processor slows the start itself: the runtime runs inside. */
export interface Limits {
  cpu: number;
  memMiB: number;
}

/** Network, create, connect, start: until the container runs. `number` is unique among those alive, at most 4095. */
export async function startContainer(docker: Docker, number: number, { cpu, memMiB }: Limits): Promise<PeerContainer> {
  const network = await createNetwork(docker, number);
  const container = await docker.createContainer({
    Image: busyboxImage,
    Cmd: ['sleep', '3600'],
    User: '1000:1000',
    HostConfig: {
      NetworkMode: `peer-${number}`,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges'],
      NanoCpus: cpu * 1e9,
      Memory: memMiB * 1024 * 1024,
      MemorySwap: memMiB * 1024 * 1024,
      PidsLimit: 1024,
    },
  });
  await container.start();
  return { container, network };
}

export async function removeContainer({ container, network }: PeerContainer): Promise<void> {
  await container.remove({ force: true });
  await network.remove();
}

/** `docker exec` through the API: create, start, read to the end, ask for the exit code. */
export async function exec(container: Docker.Container, argv: string[]): Promise<number> {
  const created = await container.exec({ Cmd: argv, AttachStdout: true, AttachStderr: true });
  const stream = await created.start({ hijack: true, stdin: false });
  await new Promise((resolve, reject) => void stream.resume().once('end', resolve).once('error', reject));
  return (await created.inspect()).ExitCode ?? -1;
}

/** Runs a command whose output is followed by `docker logs -f` (driver local, nothing rotated away); returns MB/s until the last byte came. */
export async function followLogs(docker: Docker, command: string, expectedBytes: number): Promise<number> {
  const container = await docker.createContainer({
    Image: busyboxImage,
    Cmd: ['sh', '-c', command],
    HostConfig: { NetworkMode: 'none', LogConfig: { Type: 'local', Config: { 'max-size': '8g', compress: 'false' } } },
  });
  const startedMs = performance.now();
  await container.start();
  const stream = (await container.logs({ follow: true, stdout: true, stderr: false })) as unknown as Readable;
  const bytes = await countFramed(stream);
  const seconds = (performance.now() - startedMs) / 1000;
  await container.remove({ force: true, v: true });
  if (bytes !== expectedBytes) throw new Error(`docker logs -f gave ${bytes} bytes, not ${expectedBytes}`);
  return bytes / 1e6 / seconds;
}

/** Payload bytes of the engine's frames: eight bytes of header, the last four of them the length. */
async function countFramed(stream: Readable): Promise<number> {
  let total = 0;
  let left = 0;
  let header = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    let at = 0;
    while (at < chunk.length) {
      if (left === 0) {
        const need = 8 - header.length;
        header = Buffer.concat([header, chunk.subarray(at, at + need)]);
        at += Math.min(need, chunk.length - at);
        if (header.length < 8) break;
        left = header.readUInt32BE(4);
        header = Buffer.alloc(0);
      }
      const here = Math.min(left, chunk.length - at);
      total += here;
      left -= here;
      at += here;
    }
  }
  return total;
}
