/** Which of an agent's sockets an SSH connection rides. */
import { expect, it } from 'vitest';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { dialClient, dialData, ids } from './peers.ts';

it('[S14] [S16] is bulk when it says that files go by it, and the agent is not told', async () => {
  const agentId = ids.agent();
  const interactive = await dialData(agentId, { agentId, purpose: 'interactive', epoch: 1 });
  const bulk = await dialData(agentId, { agentId, purpose: 'bulk', epoch: 1 });
  const client = await dialClient(agentId, { agentId, ops: ['ssh'] });
  const publicKey = `ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI${'A'.repeat(43)}`;
  client.json(frameTypes.open, 1, { op: 'ssh', publicKey });
  client.json(frameTypes.open, 2, { op: 'ssh', publicKey, bulk: true });
  for (const socket of [interactive, bulk]) {
    const { value } = await socket.until('OPEN', () => socket.jsonOf(frameTypes.open)[0]);
    // An agent of before would not know the word.
    expect(value['open']).toEqual({ op: 'ssh', publicKey });
    expect(socket.jsonOf(frameTypes.open)).toHaveLength(1);
  }
  client.socket.close(1000, 'done');
});
