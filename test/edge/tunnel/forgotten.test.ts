/** A way between agent and edge that forgets one socket, as a NAT does: the hub's end stays open, and nobody is there. */
import { expect, it } from 'vitest';
import { closeCodes, limits } from '../../../schema/protocol/limits.ts';
import { frameTypes } from '../../../schema/protocol/frame.ts';
import { world } from './hub-world.ts';

it('[S12] who waits on the socket that is gone is sent to the one that the agent has dialled instead', () => {
  const { dialsIn, follows, resets, pass } = world();
  const gone = dialsIn();
  const before = follows();
  pass(5_000);
  const other = dialsIn();
  pass(limits.silentMs, other.seen);
  expect(gone.seen.closedWith).toBe(closeCodes.goingAway);
  expect(resets(before.seen.sent)).toEqual(['tunnel_closed']);
  expect(other.seen.closedWith).toBe(0);
  follows();
  expect(other.seen.sent.map(({ type }) => type)).toContain(frameTypes.open);
});

it('[S12] a socket that answers stays beside another one of its agent, with its streams', () => {
  const { dialsIn, follows, resets, pass } = world();
  const one = dialsIn();
  const { seen } = follows();
  const two = dialsIn();
  pass(4 * limits.silentMs, one.seen, two.seen);
  expect([one.seen.closedWith, two.seen.closedWith, resets(seen.sent)]).toEqual([0, 0, []]);
});
