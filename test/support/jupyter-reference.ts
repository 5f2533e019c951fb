/** Debian's jupyter-server on this host with Debian's ipykernel: the reference of how a Jupyter server behaves. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from './free-port.ts';
import type { Server } from './jupyter-client.ts';
import { type Started, start } from './process.ts';
import { until } from './wait.ts';

export interface Reference extends Server {
  stop(): Promise<void>;
}

/** Starts it below `dir`, with a home of its own, and without its limits of what a kernel may print. */
export async function startReference(dir: string): Promise<Reference> {
  const home = join(dir, 'reference');
  mkdirSync(home);
  const port = await freePort();
  const flags = [
    '--allow-root',
    '--no-browser',
    `--port=${port}`,
    '--ServerApp.port_retries=0',
    '--IdentityProvider.token=local',
    // As the image that it is compared with; this machine has more.
    '--KernelSpecManager.allowed_kernelspecs=python3',
    // It drops what is printed faster than this; the gateway keeps it.
    '--ZMQChannelsWebsocketConnection.limit_rate=False',
  ];
  const server: Started = start('jupyter-server', flags, {
    cwd: home,
    env: {
      HOME: home,
      LANG: 'C.UTF-8',
      JUPYTER_RUNTIME_DIR: join(home, 'runtime'),
      JUPYTER_GATEWAY_URL: undefined,
      IPYTHONDIR: undefined,
    },
    logFile: join(dir, 'reference.log'),
  });
  const url = `http://127.0.0.1:${port}/`;
  await until(async () => (await fetch(`${url}api`)).ok, {
    what: 'jupyter-server to answer',
    timeoutMs: 120_000,
    giveUp: () => (server.exit === undefined ? undefined : `it ended:\n${server.output()}`),
  });
  return {
    url,
    token: 'local',
    missesStarts: true,
    // It ends its kernels itself when it is asked to.
    stop: async () => void (await server.stop(15_000)),
  };
}
