/** A container whose PID 1 is causeway-init, as restricted as those of sessions, with a link to it. */
import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import type Docker from 'dockerode';
import { initBinary, TestSession } from '../agent-daemon/init/harness.ts';

export interface ContainerOptions {
  image: string;
  /** `uid:gid`. */
  user: string;
  readOnly?: boolean;
  memoryBytes?: number;
  pids?: number;
  /** Files of the host by their place inside, read-only. */
  files?: Record<string, string>;
  /** Talks over stdin and stdout instead of the socket. */
  stdio?: boolean;
}

export interface InitContainer extends AsyncDisposable {
  session: TestSession;
  container: Docker.Container;
}

/** Creates and starts the container; the init is connected unless it speaks over `stdio`. */
export async function startContainer(docker: Docker, options: ContainerOptions): Promise<InitContainer> {
  const { image, user, readOnly = true, memoryBytes = 0, pids = 256, files = {}, stdio = false } = options;
  const session = new TestSession();
  chmodSync(session.root.path, 0o755);
  if (!stdio) await session.link.listen();
  const mounts = { '/causeway/init': initBinary, '/causeway/run': session.dir, ...files };
  const container = await docker.createContainer({
    Image: image,
    User: user,
    Entrypoint: ['/causeway/init', stdio ? '--stdio' : '/causeway/run/agent.sock'],
    Cmd: [],
    OpenStdin: stdio,
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      ReadonlyRootfs: readOnly,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges=true'],
      NetworkMode: 'none',
      Memory: memoryBytes,
      MemorySwap: memoryBytes,
      PidsLimit: pids,
      LogConfig: { Type: 'none', Config: {} },
      Mounts: Object.entries(mounts).map(([Target, Source]) => ({ Type: 'bind', Source, Target, ReadOnly: true })),
    },
  });
  await container.start();
  if (!stdio) await session.link.ready();
  return {
    session,
    container,
    [Symbol.asyncDispose]: async () => {
      await session.link.close();
      await container.remove({ force: true });
      session.root.remove();
    },
  };
}

export const folder = (file: string): string => join(import.meta.dirname, file);
