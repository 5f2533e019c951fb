/** The access of a client is counted from the request that opened its socket, however long that took. */
import { env } from 'cloudflare:workers';
import { expect, it } from 'vitest';
import { shardOf } from '../../../edge/http/shards.ts';
import { accessObject } from '../../../edge/platform/objects.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { limits } from '../../../schema/protocol/limits.ts';
import { clientClaim, dialClient, dialData, ids } from './peers.ts';

it('[S11] asks before the first byte when the check of the request is too old', async () => {
  const agentId = ids.agent();
  const agent = await dialData(agentId, { agentId, purpose: 'bulk', epoch: 1 });
  const claim = clientClaim({ agentId, checkedAtMs: Date.now() - 2 * limits.accessCheckMs });
  const { userId, tokenId } = claim.principal;
  await accessObject(env, shardOf(userId)).finish('test', tokenId, 'revoked');
  const client = await dialClient(agentId, claim);
  client.json(frameTypes.open, 1, { op: 'echo' });
  expect(await client.closed).toMatchObject({ code: 4401 });
  expect(agent.jsonOf(frameTypes.open)).toEqual([]);
});
