/**
 * Kernels of Jupyter as people use them: JupyterLab's own client at the gateway, and behind Debian's jupyter-server that
 * takes the gateway for its kernels; over the real stack, with ipykernel in a container.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Agent } from '../../schema/api/agent.ts';
import { mainKernelOf, toJupyterKernelId } from '../../schema/api/jupyter.ts';
import type { Kernel } from '../../schema/api/kernel-parts.ts';
import { isTerminal } from '../../schema/api/session-parts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { freePort } from '../support/free-port.ts';
import { type Lab, openLab, runCell, type Server, startCell } from '../support/jupyter-client.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

describe.runIf(tier === 'full')('a kernel of Jupyter', () => {
  let stack: Stack;
  let jupyter: ChildProcess | undefined;
  const servers = new Map<string, Server>();
  const labs: Lab[] = [];

  beforeAll(async () => {
    stack = await startStack();
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    await until(async () => JSON.stringify(await stack.client.api('GET', '/v1/images')).includes('causeway/python'), {
      what: 'the agent to tell of its image',
      timeoutMs: 120_000,
    });
    const token = stack.client.token!;
    await stack.client.api('PUT', '/v1/resource-presets/tiny', { resources: { cpu: 0.2, mem: '256m' } });
    for (const name of ['small', 'large', 'gpu']) await stack.client.api('DELETE', `/v1/resource-presets/${name}`);
    servers.set('the gateway', { url: `${stack.url}/jupyter/`, token });
    const port = await freePort();
    const home = join(stack.dir, 'jupyter');
    mkdirSync(home);
    const log = openSync(join(home, 'server.log'), 'a');
    jupyter = spawn(
      'jupyter-server',
      [
        '--allow-root',
        '--no-browser',
        `--port=${port}`,
        '--IdentityProvider.token=local',
        `--gateway-url=${stack.url}/jupyter`,
      ],
      {
        cwd: home,
        env: { ...process.env, HOME: home, JUPYTER_GATEWAY_AUTH_TOKEN: token },
        stdio: ['ignore', log, log],
      },
    );
    closeSync(log);
    let failed: string | undefined;
    jupyter.on('error', (error) => (failed = `${error.message}: install Debian's jupyter-server`));
    servers.set('jupyter-server', { url: `http://127.0.0.1:${port}/`, token: 'local' });
    await until(async () => (await fetch(`http://127.0.0.1:${port}/api`).catch(() => undefined))?.ok === true, {
      what: 'jupyter-server to answer',
      timeoutMs: 120_000,
      giveUp: () => failed,
    });
  });
  afterAll(async () => {
    for (const lab of labs) lab.stop();
    jupyter?.kill('SIGKILL');
    await stack?.stop();
  });

  function lab(name: string): Lab {
    const opened = openLab(servers.get(name)!);
    labs.push(opened);
    return opened;
  }

  it.each(['the gateway', 'jupyter-server'])('at %s runs code, asks, is interrupted and restarted', async (name) => {
    const { kernels, sessions, specs } = lab(name);
    await specs.ready;
    expect(Object.values(specs.specs!.kernelspecs).map((spec) => spec!.display_name)).toEqual([
      'Python - 0.2 CPU - 0.3 GB',
    ]);
    const session = await sessions.startNew({
      path: `${name}.ipynb`,
      name: 'n',
      type: 'notebook',
      kernel: { name: specs.specs!.default },
    });
    const kernel = session.kernel!;
    expect((await kernel.info).language_info.name).toBe('python');
    expect(await runCell(kernel, 'x = 20\nprint("out")\n2 * x + 2')).toEqual({
      outputs: ['out\n', '42'],
      status: 'ok',
    });
    expect(await runCell(kernel, '1 / 0')).toEqual({
      outputs: ['ZeroDivisionError: division by zero'],
      status: 'error',
    });
    expect(await runCell(kernel, 'print("hi " + input("name? "))', 'Ada')).toMatchObject({ outputs: ['hi Ada\n'] });
    const large = await runCell(kernel, 'from IPython.display import display\nprint("x" * 5_000_000)');
    expect(large.outputs[0]).toHaveLength(5_000_001);
    const loop = startCell(kernel, 'print("on")\nwhile True: pass');
    await until(() => loop.cell.outputs.length > 0, { what: 'the loop to run' });
    await kernel.interrupt();
    expect(await loop.done).toMatchObject({ outputs: ['on\n', 'KeyboardInterrupt: '], status: 'error' });
    await kernel.restart();
    expect(await runCell(kernel, 'x')).toMatchObject({ outputs: ["NameError: name 'x' is not defined"] });
    await session.shutdown();
    await until(async () => (await stack.client.sessions()).every(({ state }) => state === 'TERMINATED'), {
      what: 'the session to end',
    });
    await kernels.refreshRunning();
    expect([...kernels.running()]).toEqual([]);
  });

  it('goes on over the death of workerd and of the agent, and a client that comes back sees each line once', async () => {
    const { kernels } = lab('the gateway');
    const kernel = await kernels.startNew({ name: 'python3' });
    const lines = 300;
    const code = `import time\nfor i in range(${lines}):\n    print(i)\n    time.sleep(0.03)\n"end"`;
    const counting = startCell(kernel, code);
    const sees = (text: string) =>
      until(() => counting.cell.outputs.join('').includes(text), { what: text, timeoutMs: 60_000 });
    await sees('\n20\n');
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
    await sees('\n90\n');
    stack.edge.killWorkerd9();
    await sees('\n200\n');
    const all = Array.from({ length: lines }, (_, i) => `${i}\n`).join('');
    expect(await counting.done).toEqual({ outputs: [all, "'end'"], status: 'ok' });
    await kernel.shutdown();
  });

  it('ends each cell of a page that was away while the log could not hold all that they said', async () => {
    const { id } = await stack.client.createSession({
      type: 'interactive',
      image: pythonImage,
      resources: { cpu: 0.2, mem: '256m' },
      output: { onFull: 'drop', spoolBytes: 64 * 1024 },
    });
    await stack.client.waitForState(id, ['RUNNING']);
    const proxy = await startFaultProxy({ target: { port: Number(new URL(stack.url).port) } });
    const url = `http://127.0.0.1:${proxy.port}/v1/sessions/${id}/jupyter/`;
    const far = openLab({ url, token: stack.client.token! });
    labs.push(far);
    try {
      const kernel = await far.kernels.startNew({ name: 'python3' });
      await kernel.info;
      const running = startCell(kernel, 'import time\nprint("here")\ntime.sleep(3)');
      const behind = startCell(kernel, '"also gone"');
      const loud = startCell(kernel, 'for _ in range(200):\n    print("x" * 999, flush=True)\n    time.sleep(0.01)');
      const last = startCell(kernel, '"here again"');
      await until(() => running.cell.outputs.length > 0, { what: 'the first cell to run' });
      proxy.set('both', { blackhole: true });
      proxy.reset();
      const log = async () => (await stack.client.api('GET', `/v1/sessions/${id}/kernels`)) as { items: Kernel[] };
      await until(async () => (await log()).items[0]?.state === 'idle', {
        what: 'all cells to end',
        timeoutMs: 60_000,
      });
      proxy.heal();
      proxy.reset();
      expect((await running.done).status).toBe('error');
      expect(running.cell.outputs.join('')).toMatch(
        /^here\n.*bytes of the kernel's messages are missing.*OutputMissing/s,
      );
      expect((await behind.done).status).toBe('error');
      await loud.done;
      expect(await last.done).toEqual({ outputs: ["'here again'"], status: 'ok' });
      expect(await runCell(kernel, '6 * 7')).toMatchObject({ outputs: ['42'], status: 'ok' });
      await kernel.shutdown();
    } finally {
      await proxy.stop();
    }
  });

  it('that dies is started anew, and says so', async () => {
    const { kernels } = lab('the gateway');
    const kernel = await kernels.startNew({ name: 'python3' });
    const states: string[] = [];
    kernel.statusChanged.connect((_, state) => void states.push(state));
    const first = await runCell(kernel, '6 * 7').catch((error: unknown) => `${String(error)} ${states.join(', ')}`);
    expect(first).toMatchObject({ outputs: ['42'] });
    startCell(kernel, 'import os; os._exit(3)').done.catch(() => undefined);
    await until(() => states.includes('autorestarting'), {
      what: `the restart, not ${states.join(', ')}`,
      timeoutMs: 60_000,
    });
    await until(() => states.at(-1) === 'idle', { what: 'the new start', timeoutMs: 60_000 });
    expect(await runCell(kernel, '6 * 7')).toMatchObject({ outputs: ['42'] });
    await kernel.shutdown();
  });

  it('that waits for its place is given up, or found again, also when its page has gone away meanwhile', async () => {
    const { client } = stack;
    const running = () => client.sessions().then((all) => all.filter(({ state }) => !isTerminal(state)));
    for (const { id } of await running()) {
      await client.api('DELETE', `/v1/sessions/${id}?force=true`);
      await client.waitForState(id, ['TERMINATED', 'CANCELLED']);
    }
    const [agent] = ((await client.api('GET', '/v1/agents')) as { items: Agent[] }).items;
    const all = { cpu: agent!.approved['cpu']! / 1000, mem: '256m' };
    const filler = await client.createSession({ type: 'interactive', image: pythonImage, resources: all });
    await client.waitForState(filler.id, ['RUNNING']);
    const { hostname, port } = new URL(stack.url);
    const leave = async (path: string, body: object) => {
      const text = JSON.stringify(body);
      const socket = connect(Number(port), hostname, () => {
        const head = ['content-type: application/json', `content-length: ${Buffer.byteLength(text)}`, 'host: edge'];
        const lines = [`POST /jupyter/api/${path} HTTP/1.1`, `authorization: Bearer ${client.token!}`, ...head];
        socket.write(`${lines.join('\r\n')}\r\n\r\n${text}`);
      });
      const isPending = async () => (await running()).some(({ state }) => state === 'PENDING');
      await until(isPending, { what: 'it to wait' });
      socket.resetAndDestroy();
      const left = (await running()).filter(({ id }) => id !== filler.id);
      expect(left).toMatchObject([{ state: 'PENDING' }]);
      return left[0]!.id;
    };
    const env = { KERNEL_LAUNCH_TIMEOUT: '14' };
    const given = await leave('kernels', { name: 'python3', env });
    await client.waitForState(given, ['CANCELLED']);
    const model = { path: 'left.ipynb', name: 'left', type: 'notebook', kernel: { name: 'python3' } };
    const found = await leave('sessions', model);
    await client.api('DELETE', `/v1/sessions/${filler.id}?force=true`);
    await client.waitForState(found, ['RUNNING']);
    const rows = (await client.api('GET', '/jupyter/api/sessions')) as { path: string; kernel: { id: string } }[];
    expect(rows).toMatchObject([{ path: 'left.ipynb', kernel: { id: toJupyterKernelId(found, mainKernelOf(found)) } }]);
  });
});
