/** A herd is attended to in turn: exactly, in virtual time. */
import { expect, it } from 'vitest';
import { Newcomers } from '../../../edge/tunnel/newcomers.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

/** Newcomers, their clock, and the sockets that were let in. */
function world() {
  const time = new VirtualTime(0);
  const newcomers = new Newcomers({ atOnce: 2, quietMs: 1_000, mostWaitMs: 3_000 }, { clock: time, timers: time });
  const sockets: { agentId: string; openedAtMs: number; phase: 'greeting' | 'live' }[] = [];
  const come = (agentId: string) =>
    newcomers.open(() => {
      const state = { agentId, openedAtMs: time.nowMs(), phase: 'greeting' as const };
      sockets.push(state);
      return { state };
    });
  const inside = () => sockets.map(({ agentId }) => agentId);
  return { come, inside, sockets, pass: (ms: number) => time.pass(ms) };
}

it('so many are let in at once, and the next when one was welcomed', async () => {
  const { come, inside, sockets, pass } = world();
  for (const name of ['a', 'b', 'c', 'd']) void come(name);
  await pass(500);
  expect(inside()).toEqual(['a', 'b']);
  sockets[0]!.phase = 'live';
  await pass(100);
  expect(inside()).toEqual(['a', 'b', 'c']);
  await pass(100);
  expect(inside()).toHaveLength(3);
});

it('those who say nothing do not hold up the rest', async () => {
  const { come, inside, pass } = world();
  for (const name of ['a', 'b', 'c', 'd']) void come(name);
  await pass(999);
  expect(inside()).toEqual(['a', 'b']);
  await pass(21);
  expect(inside()).toEqual(['a', 'b', 'c', 'd']);
});

it('an agent that dials again and again takes one place', async () => {
  const { come, inside, pass } = world();
  for (const name of ['a', 'a', 'a', 'a', 'b', 'c']) void come(name);
  await pass(500);
  expect(inside()).toEqual(['a', 'a', 'a', 'a', 'b']);
});

it('nobody waits longer than is bearable', async () => {
  const { come, inside, pass } = world();
  const always = async () => {
    for (let ms = 0; ms < 4_000; ms += 500) {
      void come(`x${ms}`);
      void come(`y${ms}`);
      await pass(500);
    }
  };
  const busy = always();
  void come('z');
  await busy;
  expect(inside()).toContain('z');
});
