/** What an agent says again and again becomes few calls of its ledger, and none is lost. */
import { expect, it } from 'vitest';
import { Gathered, Pace } from '../../../edge/tunnel/gathered.ts';

/** Calls that take `callMs` each, in virtual time. */
function world(callMs: number) {
  let nowMs = 0;
  const rests: number[] = [];
  const calls: number[][] = [];
  const pace = new Pace({
    clock: { nowMs: () => nowMs, bootMs: () => nowMs },
    timers: {
      after: (ms, task) => {
        rests.push(ms);
        nowMs += ms;
        queueMicrotask(task);
        return () => undefined;
      },
    },
  });
  const ended: (() => void)[] = [];
  const gathered = new Gathered<number>(pace, async (items) => {
    calls.push(items);
    await new Promise<void>((resolve) => ended.push(resolve));
  });
  /** Ends the call that is under way. */
  const end = async (): Promise<void> => {
    nowMs += callMs;
    ended.shift()?.();
    for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  };
  return { gathered, calls, rests, end };
}

it('what comes while a call is under way goes together in the next, in order', async () => {
  const { gathered, calls, rests, end } = world(10);
  for (let item = 0; item < 5; item++) gathered.add(item);
  expect(calls).toEqual([[0]]);
  await end();
  gathered.add(5);
  await end();
  await end();
  expect(calls).toEqual([[0], [1, 2, 3, 4], [5]]);
  expect(rests).toEqual([]);
});

it('calls that follow each other without end rest, each a while; what comes meanwhile is not lost', async () => {
  const { gathered, calls, rests, end } = world(100);
  for (let item = 0; item < 20; item++) {
    gathered.add(item);
    await end();
  }
  // 400 ms are owed for each, of which 100 have passed: the seventh owes 2,000 and more.
  expect(rests.length).toBeGreaterThan(10);
  expect(Math.max(...rests)).toBe(250);
  expect(rests.slice(0, 2)).toEqual([100, 250]);
  expect(calls.flat()).toEqual(Array.from({ length: 20 }, (_, item) => item));
});
