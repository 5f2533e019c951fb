/** A herd comes back one by one: exactly, in virtual time. */
import { expect, it } from 'vitest';
import { Appointments } from '../../../edge/http/appointments.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

function world(limits: { burst?: number; farthestMs?: number; mostKnown?: number } = {}) {
  const time = new VirtualTime(0);
  const all = { burst: 2, farthestMs: 60_000, leastEachMs: 2_000, mostEachMs: 4_000, mostKnown: 100, ...limits };
  const appointments = new Appointments(all, {
    clock: time,
    random: { fraction: () => 0.5, bytes: () => new Uint8Array() },
  });
  const take = (name: string) => appointments.take(name);
  const through = (everyMs: number, times: number, othersWait = true): void => {
    for (let count = 0; count < times; count++) {
      time.advance(everyMs);
      appointments.through(othersWait);
    }
  };
  return { take, through, advance: (ms: number) => time.advance(ms) };
}

it('each gets the moment behind the one before, and may come at it', () => {
  const { take, advance } = world();
  expect(['a', 'b', 'c', 'd', 'e'].map(take)).toEqual([0, 0, 2_000, 4_000, 6_000]);
  // Whole seconds make some come a little early; too early is the same moment again.
  expect(take('d')).toBe(4_000);
  advance(3_000);
  expect(take('c')).toBe(0);
  expect(take('d')).toBe(0);
  expect(take('e')).toBe(3_000);
  // Who was let in and comes once more stands behind all.
  expect(take('c')).toBe(5_000);
  advance(3_000);
  expect(take('e')).toBe(0);
});

it('after a calm so many come at once', () => {
  const { take, advance } = world();
  for (const name of ['a', 'b', 'c']) take(name);
  advance(30_000);
  expect(['v', 'w', 'x'].map(take)).toEqual([0, 0, 2_000]);
});

it('nobody is sent away for longer than is bearable, and memory is bounded', () => {
  const far = world({ farthestMs: 5_000 });
  expect(['a', 'b', 'c', 'd', 'e'].map(far.take)).toEqual([0, 0, 2_000, 4_000, 2_501]);
  const few = world({ mostKnown: 1 });
  expect(['a', 'b', 'c', 'd'].map(few.take)).toEqual([0, 0, 2_000, 30_001]);
  few.advance(62_000);
  expect(['e', 'f', 'g'].map(few.take)).toEqual([0, 0, 2_000]);
});

it('the moments are as far apart as one gets through behind another', () => {
  const apart = (happens: (around: ReturnType<typeof world>) => void): number => {
    const around = world();
    happens(around);
    const [first = 0, second = 0] = ['a', 'b', 'c', 'd', 'e'].map(around.take).slice(3);
    return Math.round(second - first);
  };
  expect(apart(({ through }) => through(3_000, 300))).toBe(3_000);
  expect(apart(({ through }) => through(1_000, 300))).toBe(2_000);
  expect(apart(({ through }) => through(60_000, 300))).toBe(4_000);
  expect(
    apart(({ through }) => through(3_000, 300, false)),
    'a calm says nothing',
  ).toBe(2_000);
});
