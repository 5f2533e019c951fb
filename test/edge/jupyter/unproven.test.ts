/** How much a client is sent that says nothing. */
import { describe, expect, it } from 'vitest';
import { Unproven } from '../../../edge/manager/jupyter/unproven.ts';
import { VirtualTime } from '../../support/virtual-time.ts';

const limits = { capacityBytes: 1000, refillBytesPerSecond: 10, silenceMs: 300_000 };

describe('a client that says nothing', () => {
  it('is sent a budget, then as fast as it is refilled, and is given up after five minutes', async () => {
    const time = new VirtualTime();
    const unproven = new Unproven(limits, { clock: time, timers: time });
    expect(await unproven.spend(600)).toBe(true);
    expect(await unproven.spend(600)).toBe(true);
    let went: boolean | undefined;
    void unproven.spend(1).then((went_) => (went = went_));
    await time.pass(15_000);
    expect(went).toBe(undefined);
    await time.pass(6_000);
    expect(went).toBe(true);
    void unproven.spend(5_000).then(() => unproven.spend(1).then((went_) => (went = went_)));
    await time.pass(310_000);
    expect(went).toBe(false);
  });

  it('has its whole budget again when it says something', async () => {
    const time = new VirtualTime();
    const unproven = new Unproven(limits, { clock: time, timers: time });
    expect(await unproven.spend(5_000)).toBe(true);
    const waiting = unproven.spend(100);
    unproven.heard();
    expect(await waiting).toBe(true);
    expect(await unproven.spend(899)).toBe(true);
  });
});
