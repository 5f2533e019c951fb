import { expect, it } from 'vitest';

import { judge } from '../../edge/serve/watch.ts';

const before = { state: 'S', cpuTicks: 100, ioCalls: 1000 };

it.each([
  ['one missed answer', 1, { state: 'T', cpuTicks: 0, ioCalls: 0 }, true, 'wait'],
  ['three, stopped', 3, { state: 'T', cpuTicks: 500, ioCalls: 9000 }, true, 'kill'],
  ['three, asleep without work', 3, { state: 'S', cpuTicks: 101, ioCalls: 1000 }, true, 'kill'],
  ['three, but working', 3, { state: 'R', cpuTicks: 400, ioCalls: 1000 }, true, 'wait'],
  ['half a minute of work without an answer', 15, { state: 'R', cpuTicks: 3000, ioCalls: 1010 }, true, 'kill'],
  ['half a minute of serving others', 15, { state: 'R', cpuTicks: 3000, ioCalls: 9000 }, true, 'wait'],
  ['three minutes of serving others', 90, { state: 'R', cpuTicks: 18_000, ioCalls: 90_000 }, true, 'kill'],
  ['three, of one that is being started', 3, { state: 'S', cpuTicks: 101, ioCalls: 1000 }, false, 'wait'],
  ['half a minute, of one that never started', 15, { state: 'S', cpuTicks: 101, ioCalls: 1000 }, false, 'kill'],
  ['three, and no process', 3, undefined, true, 'wait'],
  ['ten, and still no process', 10, undefined, true, 'gone'],
] as const)('a workerd that does not answer: %s -> judged', (_, missed, now, answered, verdict) => {
  expect(judge(missed, before, now, answered)).toBe(verdict);
});
