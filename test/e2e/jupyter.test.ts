/** Kernels of Jupyter over the real stack and a real ipykernel: messages, cuts of every part, input, interrupts and deaths. */
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Kernel, Kernelspec } from '../../schema/api/kernel-parts.ts';
import { ChannelsClient } from '../support/channels-client.ts';
import { Cli } from '../support/cli.ts';
import { ClientSocket } from '../support/client-socket.ts';
import { printed, request } from '../support/jupyter-messages.ts';
import { importPython } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

describe.runIf(tier === 'full')('a kernel of Jupyter in a session', () => {
  let stack: Stack;
  let path: string;
  const clients: ChannelsClient[] = [];
  const kernels = async () => ((await stack.client.api('GET', `${path}/kernels`)) as { items: Kernel[] }).items;
  const act = async (method: string, way: string, body?: object) =>
    (await stack.client.api(method, `${path}${way}`, body)) as Kernel;
  const start = async (more: object = {}) => {
    const kernel = await act('POST', '/kernels', { spec: 'python3', ...more });
    await until(async () => (await kernels()).find(({ id }) => id === kernel.id)?.state === 'idle', {
      what: 'the kernel to be idle',
    });
    return kernel.id;
  };
  const client = (kernelId: string, more: { after?: { starts: number; offset: number }; writer?: string } = {}) => {
    const dial = () => ClientSocket.dial(stack.url, `${path}/execute`, stack.client.token!);
    const made = new ChannelsClient(dial, { kernelId, writer: 'test', after: { starts: 1, offset: 0 }, ...more });
    clients.push(made);
    return made;
  };

  beforeAll(async () => {
    stack = await startStack();
    const cli = new Cli(stack.url, stack.client.token!, stack.dir, {});
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    expect(await cli.run(['run', '-d', '--name', 'lab', '--image', 'causeway/python'])).toMatchObject({ status: 0 });
    await until(async () => (await cli.run(['ps', '--json'])).stdout.includes('"state":"RUNNING"'), {
      what: 'the session to run',
    });
    const page = (await stack.client.api('GET', '/v1/sessions?name=lab')) as { items: { id: string }[] };
    path = `/v1/sessions/${page.items[0]!.id}`;
  });
  afterAll(async () => {
    await Promise.all(clients.map((each) => each.stop()));
    await stack?.stop();
  });

  it('is found by its kernelspec, runs code, asks for a line, and is interrupted', async () => {
    const { items } = (await stack.client.api('GET', `${path}/kernelspecs`)) as { items: Kernelspec[] };
    expect(items).toContainEqual(
      expect.objectContaining({ name: 'python3', language: 'python', interruptMode: 'signal' }),
    );
    const id = await start();
    const talk = client(id);
    expect(await talk.whenDone(talk.ask('x = 20\nprint("out", 2 * x + 2)'))).toBe('out 42\n');
    const asking = talk.ask('print("hi " + input("name? "))');
    await until(() => talk.messages.some(({ channel }) => channel === 'stdin'), { what: 'the question' });
    talk.say(request('input_reply', { value: 'Ada', status: 'ok' }, { channel: 'stdin' }).record);
    expect(await talk.whenDone(asking)).toBe('hi Ada\n');
    const sleeping = talk.ask('import time\nprint("begun")\ntime.sleep(1000)');
    await until(() => printed(talk.messages, sleeping) === 'begun\n', { what: 'the cell to sleep' });
    expect(await act('POST', `/kernels/${id}/interrupt`)).toMatchObject({ state: 'busy' });
    await talk.whenDone(sleeping);
    const reply = talk.messages.find(({ channel, parent }) => channel === 'shell' && parent['msg_id'] === sleeping);
    expect(reply?.content).toMatchObject({ status: 'error', ename: 'KeyboardInterrupt' });
    // One that does not heed it is ended by a restart, and knows nothing of before.
    const deaf = talk.ask(
      'import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint("deaf")\nwhile True: pass',
    );
    await until(() => printed(talk.messages, deaf) === 'deaf\n', { what: 'the loop' });
    await act('POST', `/kernels/${id}/interrupt`);
    expect(await act('POST', `/kernels/${id}/restart`, { starts: 1 })).toMatchObject({ starts: 2 });
    expect(await talk.whenDone(talk.ask('print("x" in globals())'))).toBe('False\n');
    expect(talk.all('ended')).toMatchObject([{ restarts: true }]);
    await act('DELETE', `/kernels/${id}`);
  });

  it(
    'loses nothing of 64 MiB over the deaths of agent and edge, and runs nothing twice',
    { timeout: 300_000 },
    async () => {
      const id = await start();
      const talk = client(id);
      const chunk = '0123456789abcdef'.repeat(4096);
      const asked = talk.ask(
        `n = globals().get("n", 0) + 1\nimport sys, time\nfor i in range(1024):\n    sys.stdout.write("0123456789abcdef" * 4096)\n    if i % 64 == 0: time.sleep(0.2)`,
      );
      const some = (bytes: number) =>
        until(() => printed(talk.messages, asked).length > bytes, {
          what: `${bytes} bytes (${talk.last})`,
          timeoutMs: 120_000,
        });
      await some(4 << 20);
      await stack.agents[0]!.kill9();
      await stack.agents[0]!.start();
      await some(16 << 20);
      stack.edge.killWorkerd9();
      await some(32 << 20);
      talk.cut();
      const text = await talk.whenDone(asked, 240_000);
      expect(text.length).toBe(64 << 20);
      expect(createHash('sha256').update(text).digest('hex')).toBe(
        createHash('sha256').update(chunk.repeat(1024)).digest('hex'),
      );
      expect(talk.all('gap')).toEqual([]);
      expect(talk.reconnects).toBeGreaterThanOrEqual(3);
      expect(await talk.whenDone(talk.ask('print(n)'))).toBe('1\n');
      await act('DELETE', `/kernels/${id}`);
    },
  );

  it(
    'dies for lack of memory with that reason, starts anew, and gives up at its limit',
    { timeout: 180_000 },
    async () => {
      const id = await start({ restarts: { perMinute: 1 } });
      const talk = client(id);
      talk.ask('print("eating")\nb"x" * (4 << 30)');
      await until(() => talk.all('ended').length === 1, { what: 'the first death', timeoutMs: 60_000 });
      expect(talk.all('ended')[0]).toMatchObject({ reason: 'oom', signal: 'SIGKILL', restarts: true });
      expect(await talk.whenDone(talk.ask('print("anew")'))).toBe('anew\n');
      talk.ask('import os\nprint("end", flush=True)\nos._exit(7)');
      await until(() => talk.all('ended').length === 2, { what: 'the second death' });
      expect(talk.all('ended')[1]).toMatchObject({ exitCode: 7, restarts: false });
      const [dead] = (await kernels()).filter((each) => each.id === id);
      expect(dead).toMatchObject({ state: 'dead', starts: 2, death: { exitCode: 7 } });
      expect(dead?.death?.lastOutput).toContain('end');
    },
  );
});
