/** Several sockets of one agent at its hub, and what comes late: each stream stays on its own. */
import { expect, it } from 'vitest';
import { channels } from '../../../schema/protocol/frame.ts';
import { closeCodes, limits } from '../../../schema/protocol/limits.ts';
import { world } from './hub-world.ts';

it('a hub that wakes finds each stream on the socket that it is on', async () => {
  const { dialsIn, follows, says, texts, wake } = world();
  const sockets = [dialsIn()];
  const clients = [follows()];
  sockets.push(dialsIn());
  clients.push(follows());
  wake();
  // Both are the first of their socket.
  says(sockets[0]!, 1, channels.stdout, 'of one');
  says(sockets[1]!, 1, channels.stdout, 'of two');
  await new Promise((resolve) => setTimeout(resolve, 0));
  expect(clients.map(texts)).toEqual([['of one'], ['of two']]);
});

it('[S13] a socket that comes behind the fence of its epoch is closed', () => {
  const { dialsIn, fence } = world();
  fence(1);
  expect(dialsIn().seen.closedWith).toBe(closeCodes.moved);
});

it('[S11] a client is not blamed for what its agent says while its access is checked', () => {
  const { dialsIn, follows, says, pass } = world({ checkAccess: () => new Promise(() => undefined) });
  const agent = dialsIn();
  const client = follows();
  pass(limits.accessCheckMs, agent.seen);
  for (let n = 0; n < 70; n++) says(agent, 1, channels.stdout, 'x');
  says(client, 1, channels.input, 'c');
  expect(client.seen.closedWith).toBe(0);
  for (let n = 0; n < 64; n++) says(client, 1, channels.input, 'c');
  expect(client.seen.closedWith).toBe(closeCodes.policy);
});
