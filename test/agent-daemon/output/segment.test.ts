/** What is found of a stream after a loss of power, which may have torn any of its files. */
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';

import { encodeGap, headerBytes, writeHeader } from '../../../agent-daemon/output/record.ts';
import { recoverSegments, segmentPath } from '../../../agent-daemon/output/segment.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { tmpDir } from '../../support/tmp.ts';
import { keptLog, ManualTimers } from '../ports.ts';

function record(offset: number, bytes: number): Buffer {
  const whole = Buffer.alloc(headerBytes + bytes, 7);
  writeHeader(whole, 0, offset, 1, whole.subarray(headerBytes));
  return whole;
}

const ranges = async (dir: string) =>
  (
    await recoverSegments(
      { disk: systemDisk, clock: systemClock, timers: new ManualTimers(), log: keptLog() },
      dir,
      'stdout',
    )
  ).map(({ start, end }) => [start, end]);

it('keeps where the log stood when its last file and the tail of the one before are torn', async () => {
  using dir = tmpDir('seg');
  const [first, last] = [segmentPath(dir.path, 'stdout', 0), segmentPath(dir.path, 'stdout', 200)];
  writeFileSync(first, Buffer.concat([record(0, 100), record(100, 100)]));
  writeFileSync(last, record(200, 50));
  truncateSync(first, headerBytes + 100 + 10);
  for (const torn of [Buffer.alloc(0), Buffer.alloc(headerBytes + 50), record(200, 50).subarray(0, 40)]) {
    writeFileSync(last, torn);
    for (const _ of ['at once', 'and after another crash'])
      expect(await ranges(dir.path)).toEqual([
        [0, 200],
        [200, 200],
      ]);
  }
});

it('takes no gap that ends before it begins, or beyond what a number can tell', async () => {
  using dir = tmpDir('seg');
  const path = segmentPath(dir.path, 'stdout', 100);
  for (const to of [50, 2 ** 60]) {
    writeFileSync(path, encodeGap({ from: 100, to, reason: 'ring-full' }, 1));
    expect(await ranges(dir.path)).toEqual([[100, 100]]);
  }
  expect(readdirSync(dir.path).filter((name) => join(dir.path, name) === path)).toHaveLength(1);
});
