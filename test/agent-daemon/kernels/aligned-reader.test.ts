/** What a reader of a Jupyter kernel's log is told of missing bytes while nothing comes behind them. */
import { expect, it } from 'vitest';
import { AlignedReader } from '../../../agent-daemon/kernels/aligned-reader.ts';
import type { StreamLog } from '../../../agent-daemon/output/stream-log.ts';

/** A log whose end was lost: what its kernel said last did not fit onto the disk. */
class LostEnd {
  readonly stream = 'stdout';
  readonly segments = [];
  readonly from: number;
  end: number;
  isFinal = false;

  constructor(from: number, end: number) {
    this.from = from;
    this.end = end;
  }

  get hole() {
    return { from: this.from, to: this.end, reason: 'disk-full' as const };
  }
  follow() {
    return () => undefined;
  }
  followerMoved() {
    return undefined;
  }
}

const gap = (from: number, to: number) => ({
  kind: 'gap',
  stream: 'stdout',
  gap: { from, to, reason: 'disk-full' },
});

it('[S17] tells at once what is missing for certain, and later what else is', async () => {
  const log = new LostEnd(100, 300);
  const reader = new AlignedReader(log as unknown as StreamLog, 100, { live: false });
  expect(await reader.next()).toEqual(gap(100, 300));
  expect(await reader.next()).toBeUndefined();
  log.end = 450;
  expect(await reader.next()).toEqual(gap(300, 450));
  expect(await reader.next()).toBeUndefined();
  log.isFinal = true;
  expect(await reader.next()).toBeUndefined();
  expect(reader.isAtEnd).toBe(true);
});
