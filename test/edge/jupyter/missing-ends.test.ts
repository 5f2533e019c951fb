/** What a client of a kernel waits for ends, also where its end is among messages that are missing. */
import { expect, it } from 'vitest';
import { type Client, jsonOf, type KernelStream, message, request, status, stream, summary, until } from './gateway.ts';
import { sees, useKernelPages } from './kernel-page.ts';

const session = 'page-1';
const pages = useKernelPages();

const ask = (client: Client, ...ids: string[]) => {
  for (const id of ids) client.say(message('shell', 'execute_request', {}, { id, session }));
};
const reply = (id: string) => message('shell', 'execute_reply', {}, { parent: request(id, session) });
const lose = (kernel: KernelStream, to: number) => {
  kernel.tell({ kind: 'gap', stream: 'stdout', from: kernel.offset, to, reason: 'spool-full' });
  kernel.offset = to;
};
/** The question that the gateway asks the kernel behind what the client asked; its answers. */
async function questionAt(kernel: KernelStream, at: number) {
  await until('the question', () => kernel.said.length > at);
  expect(summary(kernel.said[at]!)).toBe('shell kernel_info_request');
  const parent = jsonOf(kernel.said[at]!.parts[0]);
  const state = (execution_state: string) => message('iopub', 'status', { execution_state }, { parent });
  return { reply: message('shell', 'kernel_info_reply', {}, { parent }), busy: state('busy'), idle: state('idle') };
}
const ended = (id: string) => [`iopub error ${id}`, `shell execute_reply ${id}`, `iopub status ${id} idle`];

it('ends where its end is missing: when the kernel answers what it is asked behind it, and not before', async () => {
  const { client, kernel } = await pages.connected({ session });
  ask(client, 'one', 'two', 'three');
  await until('the requests', () => kernel.said.length === 3);
  kernel.say(status('busy', 'one', session));
  lose(kernel, 10_000);
  const question = await questionAt(kernel, 3);
  ask(client, 'four');
  await until('another request', () => kernel.said.length === 5);
  // The end of `two` is there, but for its reply; `three` says nothing of itself.
  kernel.say(status('idle', 'two', session), question.busy, question.reply, question.idle);
  kernel.say(status('busy', 'four', session));
  await until('the news', () => client.seen.includes('iopub status four busy'));
  expect(client.seen).toEqual([
    'iopub status one busy',
    expect.stringMatching(/^iopub stream one \[causeway: \d+ bytes of the kernel's messages are missing/),
    'iopub status two idle',
    ...ended('one'),
    ...ended('two').slice(0, 2),
    ...ended('three'),
    'iopub status four busy',
  ]);
  const error = client.received.find((each) => summary(each) === 'shell execute_reply one')!;
  expect(jsonOf(error.parts[3])).toMatchObject({ status: 'error', ename: 'OutputMissing', execution_count: null });
  expect(jsonOf(error.parts[1])).toMatchObject({ msg_id: 'one', session });
});

it('ends at once where what was asked for behind it is under way, and is asked for in vain no more', async () => {
  const { client, kernel } = await pages.connected({ session });
  ask(client, 'one', 'two');
  await until('the requests', () => kernel.said.length === 2);
  lose(kernel, 10_000);
  const question = await questionAt(kernel, 2);
  kernel.say(message('iopub', 'stream', { text: 'out' }, { parent: request('two', session) }));
  await sees(client, 5);
  expect(client.seen.slice(1)).toEqual([...ended('one'), 'iopub stream two out']);
  kernel.say(status('idle', 'two', session), reply('two'), question.busy, question.idle, question.reply);
  lose(kernel, 20_000);
  kernel.say(stream('other', 'else'));
  await until('the rest', () => client.seen.at(-1)?.endsWith('other') === true);
  expect(client.seen.slice(5, 7)).toEqual(['iopub status two idle', 'shell execute_reply two']);
  expect(client.seen).toHaveLength(9);
  expect(kernel.said).toHaveLength(3);
});

it('is asked for when it comes back to a log whose begin is gone, though it was sent before', async () => {
  const { client, kernel } = await pages.connected({ session });
  ask(client, 'one');
  await until('the request', () => kernel.said.length === 1);
  kernel.say(status('busy', 'one', session), status('idle', 'one', session), reply('one'));
  await sees(client, 3);
  client.socket.close(1000);
  const back = await pages.connect({ session });
  const again = await pages.gateway.stream();
  expect(again.open.after).toEqual({ starts: 1, offset: 0 });
  again.accept().begin(1, 10_000);
  const question = await questionAt(again, 0);
  again.say(question.busy, question.reply, question.idle);
  await until('its end', () => back.seen.includes('iopub status one idle'));
  expect(back.seen.slice(-3)).toEqual(ended('one'));
});
