/** Kernels of Jupyter that wait in containers for whoever asks for one: with a real engine and a real ipykernel. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentShown } from '../../schema/api/agent.ts';
import { type JupyterKernel, type JupyterKernelspecs, parseJupyterKernelId } from '../../schema/api/jupyter.ts';
import type { Kernel } from '../../schema/api/kernel-parts.ts';
import { ChannelsClient } from '../support/channels-client.ts';
import { Cli } from '../support/cli.ts';
import { ClientSocket } from '../support/client-socket.ts';
import { importPython } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

describe.runIf(tier === 'full')('a kernel that waits in a container', () => {
  let stack: Stack;
  let cli: Cli;
  const clients: ChannelsClient[] = [];
  const waiting = async () => {
    const { diagnosis } = (await stack.client.api('GET', `/v1/agents/${stack.agents[0]!.agentId}`)) as AgentShown;
    return diagnosis?.inAdvance?.kernels ?? 0;
  };
  const whenOneWaits = () =>
    until(async () => (await waiting()) > 0, { what: 'a kernel in advance', timeoutMs: 90_000, everyMs: 200 });
  /** Starts a session and a kernel in it, and answers both. */
  async function session(name: string, ...options: string[]) {
    const made = await cli.run(['run', '-d', '--name', name, '--image', 'causeway/python', ...options]);
    expect(made).toMatchObject({ status: 0 });
    await until(async () => (await cli.run(['inspect', name])).stdout.includes('"RUNNING"'), {
      what: `${name} to run`,
    });
    const page = (await stack.client.api('GET', `/v1/sessions?name=${name}`)) as { items: { id: string }[] };
    return `/v1/sessions/${page.items[0]!.id}`;
  }
  const end = async (path: string) => {
    await stack.client.api('DELETE', path);
    await stack.client.waitForState(path.split('/').at(-1)!, ['TERMINATED'], 60_000);
  };
  const find = async (path: string, kernelId: string) =>
    ((await stack.client.api('GET', `${path}/kernels`)) as { items: Kernel[] }).items.find(({ id }) => id === kernelId);
  async function kernelOf(path: string) {
    const { id } = (await stack.client.api('POST', `${path}/kernels`, { spec: 'python3' })) as Kernel;
    await until(async () => (await find(path, id))?.state === 'idle', { what: 'the kernel to be idle' });
    const kernel = await find(path, id);
    const dial = () => ClientSocket.dial(stack.url, `${path}/execute`, stack.client.token!);
    const client = new ChannelsClient(dial, { kernelId: id, writer: 'test', after: { starts: 1, offset: 0 } });
    clients.push(client);
    return { kernel, say: (code: string) => client.whenDone(client.ask(code)) };
  }

  beforeAll(async () => {
    stack = await startStack({ agentEnv: { CAUSEWAY_WARM_CONTAINERS: '1' } });
    cli = new Cli(stack.url, stack.client.token!, stack.dir, {});
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
  });
  afterAll(async () => {
    await Promise.all(clients.map((each) => each.stop()));
    await stack?.stop();
  });

  it('is the session’s at once, with its variables and nothing of anybody before', { timeout: 300_000 }, async () => {
    const first = await session('first', '--env', 'SECRET=one');
    const cold = await kernelOf(first);
    expect(cold.kernel?.inAdvance).toBeUndefined();
    await cold.say('open("/home/work/left", "w").write("left"); open("/tmp/left", "w").write("left")');
    await whenOneWaits();
    const second = await session('second', '--env', 'MINE=two');
    const warm = await kernelOf(second);
    expect(warm.kernel).toMatchObject({ inAdvance: true, starts: 1, state: 'idle' });
    const code =
      'import os\nprint(os.environ.get("SECRET"), os.environ["MINE"], os.environ["BACKENDAI_SESSION_NAME"], os.getcwd())';
    expect(await warm.say(code)).toBe('None two second /home/work\n');
    // Neither in files nor in what any of its processes can see.
    const traces = 'grep -rls "SECRET=one\\|^left" /tmp /home/work /dev/shm /proc/[0-9]*/environ; echo end';
    expect(await warm.say(`print(os.popen(${JSON.stringify(traces)}).read(), end="")`)).toBe('end\n');
    // A second one of it, and a restart, are started as ever.
    expect((await kernelOf(second)).kernel?.inAdvance).toBeUndefined();
    await stack.client.api('POST', `${second}/kernels/${warm.kernel!.id}/restart`, { starts: 1 });
    const again = await find(second, warm.kernel!.id);
    expect(again).toMatchObject({ starts: 2 });
    expect(again?.inAdvance).toBeUndefined();
    for (const path of [first, second]) await end(path);
  });

  it(
    'goes on over the death of its agent, and is not taken where it would be another',
    { timeout: 300_000 },
    async () => {
      await whenOneWaits();
      const path = await session('third');
      const { kernel, say } = await kernelOf(path);
      expect(kernel?.inAdvance).toBe(true);
      expect(await say('x = 41')).toBe('');
      await stack.agents[0]!.kill9();
      await stack.agents[0]!.start();
      expect(await say('print(x + 1)')).toBe('42\n');
      await end(path);
      // What is asked for here is not known over its death.
      const plain = await session('fourth');
      expect((await kernelOf(plain)).kernel?.inAdvance).toBeUndefined();
      await end(plain);
      await whenOneWaits();
      const other = await session('fifth', '--env', 'PYTHONPATH=/home/work/own');
      const { kernel: own, say: ask } = await kernelOf(other);
      expect(own?.inAdvance).toBeUndefined();
      expect(await ask('import sys\nprint("/home/work/own" in sys.path)')).toBe('True\n');
    },
  );

  it(
    'or one that is started then, is there before anybody connects in a session that the gateway made for it',
    { timeout: 300_000 },
    async () => {
      // As the sessions of before, and as none was.
      await stack.client.api('PUT', '/v1/resource-presets/usual', { resources: {} });
      await stack.client.api('PUT', '/v1/resource-presets/own', { resources: { cpu: 0.5, mem: '300m' } });
      const { kernelspecs } = (await stack.client.api('GET', '/jupyter/api/kernelspecs')) as JupyterKernelspecs;
      for (const [preset, inAdvance] of [
        ['usual', true],
        ['own', undefined],
      ] as const) {
        const name = Object.keys(kernelspecs).find((each) => each.endsWith(`.${preset}`));
        if (inAdvance) await whenOneWaits();
        const { id } = (await stack.client.api('POST', '/jupyter/api/kernels', { name })) as JupyterKernel;
        const { sessionId, kernelId } = parseJupyterKernelId(id)!;
        const path = `/v1/sessions/${sessionId}`;
        await stack.client.waitForState(sessionId, ['RUNNING']);
        await until(async () => (await find(path, kernelId))?.state === 'idle', { what: 'its kernel to be idle' });
        expect(await find(path, kernelId)).toMatchObject({ spec: 'python3', starts: 1 });
        expect((await find(path, kernelId))?.inAdvance).toBe(inAdvance);
        await end(path);
      }
    },
  );
});
