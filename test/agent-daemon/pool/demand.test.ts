import { expect, it } from 'vitest';
import { Demand } from '../../../agent-daemon/pool/demand.ts';

const minuteMs = 60_000;
const counts = (demand: Demand<string>, most: number, nowMs: number) =>
  Object.fromEntries([...demand.wanted(most, nowMs)].map(([key, { count }]) => [key, count]));

it('wants as many as were started of late, the most started first, within what there may be', () => {
  const demand = new Demand<string>();
  expect(counts(demand, 4, 0)).toEqual({});
  for (const [key, atMs] of [
    ['a', 1],
    ['b', 2],
    ['b', 3],
    ['c', 4],
    ['b', 5],
  ] as const)
    demand.started(key, key, atMs);
  expect(counts(demand, 8, 10)).toEqual({ b: 3, c: 1, a: 1 });
  expect(counts(demand, 4, 10)).toEqual({ b: 3, c: 1 });
  expect(counts(demand, 2, 10)).toEqual({ b: 2 });
  expect(counts(demand, 0, 10)).toEqual({});
});

it('forgets what was not started for a quarter of an hour', () => {
  const demand = new Demand<string>();
  demand.started('a', 'a', 0);
  demand.started('b', 'b', 10 * minuteMs);
  expect(counts(demand, 8, 15 * minuteMs - 1)).toEqual({ a: 1, b: 1 });
  expect(counts(demand, 8, 15 * minuteMs)).toEqual({ b: 1 });
  expect(counts(demand, 8, 25 * minuteMs)).toEqual({});
});

it('is bounded, whatever is started', () => {
  const demand = new Demand<string>();
  for (let at = 0; at < 1000; at++) demand.started(`kind ${at}`, '', at);
  for (let at = 0; at < 1000; at++) demand.started('often', '', 2000 + at);
  const wanted = counts(demand, 1e6, 3000);
  expect(Object.keys(wanted)).toHaveLength(64);
  expect(wanted['often']).toBe(16);
});
