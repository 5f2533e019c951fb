import { expect, it } from 'vitest';
import { minutesUntilUpgrade, UpgradePolicy } from '../../schema/api/upgrade.ts';

const at = (time: string) => Date.parse(`2026-11-24T${time}:30Z`);
const window = (from: string, to: string) => ({ mode: 'window' as const, from, to });

it.each([
  ['02:00-04:00', window('02:00', '04:00'), '01:59', 1],
  ['02:00-04:00', window('02:00', '04:00'), '02:00', 0],
  ['02:00-04:00', window('02:00', '04:00'), '03:59', 0],
  ['02:00-04:00', window('02:00', '04:00'), '04:00', 22 * 60],
  ['past midnight', window('23:00', '01:00'), '23:30', 0],
  ['past midnight', window('23:00', '01:00'), '00:30', 0],
  ['past midnight', window('23:00', '01:00'), '01:00', 22 * 60],
  ['a whole day', window('02:00', '02:00'), '01:59', 0],
  ['a whole day', window('02:00', '02:00'), '02:00', 0],
  ['auto', { mode: 'auto' as const }, '12:00', 0],
  ['manual', { mode: 'manual' as const }, '12:00', undefined],
  ['pinned', { mode: 'pinned' as const }, '12:00', undefined],
])('%s: %o at %s waits %s minutes', (_, policy, time, minutes) => {
  expect(minutesUntilUpgrade(policy, at(time))).toBe(minutes);
});

it('takes no time of day that is none', () => {
  for (const from of ['24:00', '2:00', '02:60', ''])
    expect(UpgradePolicy.safeParse(window(from, '04:00')).success, from).toBe(false);
});
