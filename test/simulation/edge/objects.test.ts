/** What the runtime promises of objects, and the simulator must keep: whoever waits for something is not hibernated. */
import { expect, it } from 'vitest';
import type { Timers } from '../../../schema/ports.ts';
import { Chance } from '../chance.ts';
import { VirtualTime } from '../clock.ts';
import type { Life } from '../life.ts';
import { Sometimes } from '../sometimes.ts';
import { clear } from '../weather.ts';
import { Cell } from './objects.ts';

it('an object that waits for a timer, or for the answer of another, is not idle', async () => {
  const time = new VirtualTime();
  const chance = new Chance(1);
  const sometimes = new Sometimes();
  const world = { time, chance, weather: { ...clear, loseRequest: 1 }, sometimes, nowMs: () => time.nowMs };
  let life!: Life;
  let timers!: Timers;
  const cell = new Cell('one', { ...world, asked: () => undefined, answered: () => undefined }, (waking) => {
    ({ life, timers } = waking);
    return { rpc: {} };
  });
  cell.instance();
  expect(cell.isIdle).toBe(true);
  const cancel = timers.after(1000, () => undefined);
  timers.after(10, () => undefined);
  expect(cell.isIdle).toBe(false);
  cancel();
  expect(cell.isIdle).toBe(false);
  await time.runUntil(10);
  expect(cell.isIdle).toBe(true);
  const lost = cell.call(life, 'anything', []).catch(() => 'lost');
  expect(cell.isIdle).toBe(false);
  await time.runUntilQuiescent();
  expect(await lost).toBe('lost');
  expect(cell.isIdle).toBe(true);
});
