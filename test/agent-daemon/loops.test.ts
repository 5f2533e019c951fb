/** Loops that can not die silently. */
import { describe, expect, it } from 'vitest';
import type { LoopState } from '../../agent-daemon/loops.ts';
import { until } from '../support/wait.ts';
import { LoopWorld } from './loop-world.ts';

const hourMs = 3_600_000;

describe('loops', () => {
  it.each<[string, () => void | Promise<void>]>([
    [
      'throws',
      () => {
        throw new Error('injected');
      },
    ],
    ['rejects', () => Promise.reject(new Error('injected'))],
  ])('go on after a run that %s, tell it, and tell when it is over', async (_, fail) => {
    const world = new LoopWorld();
    let runs = 0;
    let broken = true;
    world.loops.every('a loop', 1000, () => {
      runs++;
      return broken ? fail() : undefined;
    });
    await world.pass(0);
    await world.pass(1000);
    expect(runs).toBeGreaterThanOrEqual(2);
    const told: LoopState[] = world.loops.troubled();
    expect(told).toEqual([{ name: 'a loop', failures: runs, error: 'Error: injected' }]);
    expect(world.log.lines).toContainEqual(
      expect.objectContaining({ level: 'error', message: 'a loop failed and goes on' }),
    );
    broken = false;
    await world.pass(1000);
    expect(world.loops.troubled()).toEqual([{ name: 'a loop', failures: told[0]!.failures }]);
  });

  it('tell of a run that does not end, and never start a second one beside it', async () => {
    const world = new LoopWorld();
    const hanging = Promise.withResolvers<void>();
    let runs = 0;
    const loop = world.loops.every('a loop', 1000, () => {
      runs++;
      return runs === 1 ? hanging.promise : undefined;
    });
    loop.soon();
    await world.pass(hourMs);
    expect([runs, world.loops.troubled()]).toEqual([1, [{ name: 'a loop', failures: 0, stuck: true }]]);
    hanging.resolve();
    await until(() => runs === 2, { what: 'the run that was asked for meanwhile' });
    expect(world.loops.troubled()).toEqual([]);
  });

  it('stop when they are told to', async () => {
    const world = new LoopWorld();
    let runs = 0;
    const loop = world.loops.every('a loop', 1000, () => void runs++);
    await loop.stop();
    loop.soon();
    await world.pass(5000);
    expect(runs).toBe(1);
  });
});
