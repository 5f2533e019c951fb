/** Several clients of one kernel, and one that has no name, as jupyter-server treats them; and what is lost on the way to them. */
import { expect, it } from 'vitest';
import { call } from '../client.ts';
import { message, request, stream, until } from './gateway.ts';
import { sees, useKernelPages } from './kernel-page.ts';

const pages = useKernelPages();

it('a client hears answers and questions to what it asked itself alone, and what all are shown', async () => {
  const client = await pages.connect({ session: 'page-1' });
  const kernel = (await pages.gateway.stream()).accept().begin(1, 0);
  const dialling = pages.connect();
  const second = (await pages.gateway.stream()).accept().begin(1, 0);
  const unknown = await dialling;
  const answers = [
    message('shell', 'execute_reply', {}, { parent: request('theirs', 'page-2') }),
    message('stdin', 'input_request', {}, { parent: request('theirs', 'page-2') }),
    message('control', 'interrupt_reply', {}, { parent: request('theirs', 'page-2') }),
    stream('a', 'theirs'),
    message('shell', 'execute_reply', {}, { parent: request('mine', 'page-1') }),
  ];
  kernel.say(...answers);
  await sees(client, 2);
  expect(client.seen).toEqual(['iopub stream theirs a', 'shell execute_reply mine']);
  // Who has not said anything may have come back for an answer; by its words it is known.
  second.say(...answers);
  await sees(unknown, 5);
  unknown.say(message('shell', 'kernel_info_request', {}, { session: 'page-2' }));
  await until('its words', () => second.said.length === 1);
  second.say(...answers);
  await sees(unknown, 9);
  expect(unknown.seen.slice(5).join(', ')).not.toContain('mine');
});

it('a kernel that is said to begin once more, or behind its words, is gone on with where it was, and nothing is said twice', async () => {
  const client = await pages.connect({ session: 'page-1' });
  const kernel = (await pages.gateway.stream()).accept().begin(1, 0).say(stream('a', 'r'));
  await sees(client, 1);
  const { offset } = kernel;
  kernel.begin(1, 0);
  const again = await pages.gateway.stream();
  expect(again.open.after).toEqual({ starts: 1, offset });
  again.accept().offset = offset;
  again.say(stream('b', 'r')).begin(1, offset);
  const last = await pages.gateway.stream();
  expect(last.open.after).toEqual({ starts: 1, offset });
  last.accept().begin(1, offset).say(stream('b', 'r'));
  await sees(client, 2);
  expect(client.seen).toEqual(['iopub stream r a', 'iopub stream r b']);
});

it('a client without a session_id is taken when its kernel answers, as at jupyter-server', async () => {
  let isTaken = false;
  const dialling = pages.connect().then((client) => {
    isTaken = true;
    return client;
  });
  const kernel = (await pages.gateway.stream()).accept().tell({ kind: 'begun', starts: 1, from: 0 });
  kernel.tell({ kind: 'state', state: 'starting' });
  expect((await call('GET', '/jupyter/api', { token: pages.gateway.token })).status).toBe(200);
  expect(isTaken).toBe(false);
  kernel.tell({ kind: 'state', state: 'idle' }).say(stream('a', 'r'));
  const client = await dialling;
  await sees(client, 1);
  expect(client.seen).toEqual(['iopub stream r a']);
});

it('a kernel of which something was lost on the way is asked for it again, and only then is over', async () => {
  const client = await pages.connect({ session: 'page-1' });
  const kernel = (await pages.gateway.stream()).accept().begin(1, 0);
  kernel.say(stream('a', 'r'));
  const { offset } = kernel;
  // Of what follows one record never comes, then nothing of the last.
  kernel.offset += 100;
  kernel.say(stream('c', 'r'));
  const again = await pages.gateway.stream();
  expect(again.open.after).toEqual({ starts: 1, offset });
  again.accept().begin(1, offset).say(stream('b', 'r'));
  const end = again.offset + 50;
  again.tell({ kind: 'ended', end, reason: 'exited', exitCode: 1, restarts: false }).end();
  const last = await pages.gateway.stream();
  expect(last.open.after).toEqual({ starts: 1, offset: again.offset });
  last.accept().begin(1, again.offset).say(stream('c', 'r'));
  last.tell({ kind: 'ended', end: last.offset, reason: 'exited', exitCode: 1, restarts: false }).end();
  await sees(client, 5);
  expect(client.seen).toEqual([
    'iopub stream r a',
    'iopub stream r b',
    'iopub stream r c',
    'iopub stream [causeway: the kernel has ended (exited)]\n',
    'iopub status dead',
  ]);
});
