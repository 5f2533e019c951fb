/** Debian's jupyter-server with kernels in containers of the same engine: what people use to reach a kernel from elsewhere. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Dockerd } from '../../support/dockerd.ts';
import { freePort } from '../../support/free-port.ts';
import { type Started, runToEnd, start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';

const token = 'bench';
const boxed = join(import.meta.dirname, 'boxed-kernel.ts');

export interface JupyterServer {
  /** Starts a kernel; returns the address of its channels. */
  startKernel(): Promise<string>;
  stop(): Promise<void>;
}

/** Starts it inside of the engine's namespace, where its kernels' ports are. Nothing of it limits what a kernel may say. */
export async function startJupyterServer(engine: Dockerd): Promise<JupyterServer> {
  const dir = tmpDir('jps');
  const spec = join(dir.path, 'share/kernels/boxed');
  mkdirSync(spec, { recursive: true });
  for (const name of ['runtime', 'root']) mkdirSync(join(dir.path, name));
  const argv = [process.execPath, boxed, engine.socket, '{connection_file}'];
  writeFileSync(join(spec, 'kernel.json'), JSON.stringify({ argv, display_name: 'Boxed', language: 'python' }));
  const port = await freePort();
  const server: Started = start(
    '/usr/bin/jupyter-server',
    [
      '--allow-root',
      '--no-browser',
      '--ip=127.0.0.1',
      `--port=${port}`,
      '--ServerApp.port_retries=0',
      `--ServerApp.root_dir=${join(dir.path, 'root')}`,
      `--IdentityProvider.token=${token}`,
      '--ZMQChannelsWebsocketConnection.limit_rate=False',
      `--ServerApp.tornado_settings={"websocket_max_message_size": ${64 * 1024 * 1024}}`,
    ],
    {
      name: 'jupyter-server',
      netns: engine.netns,
      env: {
        HOME: dir.path,
        JUPYTER_PATH: join(dir.path, 'share'),
        JUPYTER_RUNTIME_DIR: join(dir.path, 'runtime'),
        JUPYTER_CONFIG_DIR: join(dir.path, 'config'),
      },
    },
  );
  const kernels: string[] = [];
  /** From within its namespace: nobody else reaches it. */
  const ask = (method: string, path: string, body?: object): Promise<string> =>
    runToEnd(
      'curl',
      [
        '-sS',
        '--fail-with-body',
        '-X',
        method,
        '-H',
        `authorization: token ${token}`,
        ...(body === undefined ? [] : ['-d', JSON.stringify(body)]),
        `http://127.0.0.1:${port}${path}`,
      ],
      { netns: engine.netns },
    );
  const stop = async (): Promise<void> => {
    for (const id of kernels) await ask('DELETE', `/api/kernels/${id}`).catch(() => undefined);
    await server.stop();
    dir.remove();
  };
  try {
    await until(() => ask('GET', '/api/status'), {
      what: 'jupyter-server to answer',
      timeoutMs: 120_000,
      everyMs: 500,
      giveUp: () => (server.exit === undefined ? undefined : `${server.output()}\ninstall Debian's jupyter-server`),
    });
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    startKernel: async () => {
      const { id } = JSON.parse(await ask('POST', '/api/kernels', { name: 'boxed' })) as { id: string };
      kernels.push(id);
      return `ws://127.0.0.1:${port}/api/kernels/${id}/channels?token=${token}&session_id=bench`;
    },
    stop,
  };
}
