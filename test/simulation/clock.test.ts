import { describe, expect, it } from 'vitest';
import { VirtualTime } from './clock.ts';

describe('VirtualTime', () => {
  it('runs tasks in the order of their time, and of their making where times are equal', async () => {
    const time = new VirtualTime();
    const ran: string[] = [];
    time.at(20, () => ran.push('c'));
    time.at(10, () => ran.push('a'));
    time.at(10, () => ran.push('b'));
    time.at(5, () => void time.at(1, () => ran.push(`late at ${time.nowMs}`)));
    await time.runUntilQuiescent();
    expect(ran).toEqual(['late at 5', 'a', 'b', 'c']);
    expect(time.nowMs).toBe(20);
    expect(time.events).toBe(5);
  });

  it('lets every promise that a task woke come to rest before the next task', async () => {
    const time = new VirtualTime();
    const ran: string[] = [];
    time.at(1, () => {
      void (async () => {
        for (let turn = 0; turn < 100; turn++) await Promise.resolve();
        ran.push('promises');
        process.nextTick(() => ran.push('tick'));
      })();
    });
    time.at(1, () => ran.push('next task'));
    await time.runUntilQuiescent();
    expect(ran).toEqual(['promises', 'tick', 'next task']);
  });

  it('does not run what was cancelled, and counts only what waits', async () => {
    const time = new VirtualTime();
    const ran: string[] = [];
    const cancel = time.at(1, () => ran.push('cancelled'));
    time.at(2, () => ran.push('kept'));
    cancel();
    cancel();
    expect(time.waiting).toBe(1);
    expect(time.nextMs).toBe(2);
    await time.runUntil(50);
    expect(ran).toEqual(['kept']);
    expect(time.nowMs).toBe(50);
    expect(time.waiting).toBe(0);
  });

  it('has the same hash for the same trace, and another for another text, order or time', async () => {
    const hashOf = async (lines: [number, string][]) => {
      const time = new VirtualTime();
      for (const [ms, line] of lines) time.at(ms, () => time.trace(line));
      await time.runUntilQuiescent();
      return time.hash;
    };
    const once = await hashOf([
      [1, 'a'],
      [2, 'b'],
    ]);
    expect(
      await hashOf([
        [1, 'a'],
        [2, 'b'],
      ]),
    ).toBe(once);
    const others = [
      await hashOf([
        [1, 'a'],
        [2, 'c'],
      ]),
      await hashOf([
        [1, 'b'],
        [2, 'a'],
      ]),
      await hashOf([
        [1, 'a'],
        [3, 'b'],
      ]),
    ];
    expect(new Set([once, ...others]).size).toBe(4);
  });

  it('throws what a task throws, and says when a world does not come to rest', async () => {
    const time = new VirtualTime();
    time.at(1, () => {
      throw new Error('from the task');
    });
    await expect(time.step()).rejects.toThrow('from the task');
    const again = (): void => void time.after(1, again);
    again();
    await expect(time.runUntilQuiescent(1000)).rejects.toThrow('did not come to rest in 1000 steps');
  });
});
