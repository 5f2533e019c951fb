import { expect, it } from 'vitest';
import { describeCall } from '../../../agent-daemon/status/describe.ts';
import { RecentErrors } from '../../../agent-daemon/status/recent-errors.ts';
import { callShapes } from '../../../schema/protocol/calls.ts';
import { keptLog } from '../ports.ts';

it('keeps the last twenty warnings and errors as lines, the newest first, and passes everything on', () => {
  const log = keptLog();
  let nowMs = 0;
  const errors = new RecentErrors(log, { nowMs: () => (nowMs += 1) });
  errors.log.info('not kept');
  for (let n = 0; n < 25; n++) errors.log.warn(`warning ${n}`, { n, why: 'x'.repeat(1_000) });
  errors.log.error('the worst', { code: 'gone' });
  const kept = errors.list();
  expect(kept).toHaveLength(20);
  expect(kept[0]).toEqual({ atMs: 26, level: 'error', text: 'the worst  code=gone' });
  expect(kept[1]?.text).toMatch(/^warning 24 {2}n=24 {2}why=x+$/);
  expect(kept.every(({ text }) => text.length <= 400)).toBe(true);
});

it('answers in the shape of the call, measured for the one who asks', async () => {
  let bootMs = 1_000;
  const report = { used: { cpu: 1 }, health: 'degraded' as const, problems: [], sessions: 0, atMs: 5 };
  const describe = describeCall({
    clock: { nowMs: () => 77, bootMs: () => bootMs },
    runtimeVersion: 'Node.js 24',
    diagnose: () => Promise.resolve({ report, disks: [], inAdvance: { ready: 1, kernels: 1, most: 4 } }),
    route: () => ({ proxy: 'http://proxy:3128', trust: 'pinned' }),
    pingMs: () => 1.5,
    errors: () => [],
    loops: () => [{ name: 'networks', failures: 3, error: 'no room', stuck: true }],
  });
  bootMs = 3_500;
  const answer = callShapes.describe.result.parse(await describe({}, new AbortController().signal));
  expect(answer).toMatchObject({
    nowMs: 77,
    upMs: 2_500,
    report,
    route: { proxy: 'http://proxy:3128', trust: 'pinned' },
    inAdvance: { ready: 1, kernels: 1, most: 4 },
    pingMs: 1.5,
    loops: ['networks: failed 3 times, now by no room, hangs'],
  });
});
