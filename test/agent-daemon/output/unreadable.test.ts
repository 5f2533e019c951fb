/** Output that the disk does not give: for a moment, or for good. */
import { expect, it } from 'vitest';
import { systemClock } from '../../../agent-daemon/platform.ts';
import { StreamReader } from '../../../agent-daemon/output/stream-reader.ts';
import { SimDisk } from '../../simulation/host/disk.ts';
import { ManualTimers } from '../ports.ts';
import { Bench, readAll } from './log-bench.ts';

/** A disk whose file `broken` can not be read, so many times. */
async function badDisk() {
  const bad = { broken: '', times: Number.POSITIVE_INFINITY };
  const fails = (op: string, path: string) => {
    const isBroken = bad.broken !== '' && path.endsWith(bad.broken) && (op === 'read' || op === 'open');
    return isBroken && bad.times-- > 0 ? 'EIO' : undefined;
  };
  const disk = new SimDisk({ clock: systemClock, timers: new ManualTimers(), fails });
  await disk.mkdir('/log', { recursive: true });
  const bench = new Bench({ spoolBytes: 64 * 1024 }, '/log', disk);
  const log = await bench.open();
  for (let count = 0; count < 5; count++) await bench.put(8192);
  bench.hurries = true;
  return { bad, bench, log };
}

it('tells what the disk does not give for five seconds as damaged, exactly, and goes on behind it', async () => {
  const { bad, bench, log } = await badDisk();
  bad.broken = '-0000000000008192';
  expect(await readAll(log)).toEqual({
    gaps: [{ from: 8192, to: 16_384, reason: 'damaged' }],
    bytes: 32_768,
    end: 40_960,
  });
  expect(bench.nowMs).toBeGreaterThanOrEqual(5_000);
  expect(bench.log.lines.filter(({ message }) => message.includes('can not be read'))).toHaveLength(1);
});

it('reads again what the disk does not give at first, and loses nothing of it', async () => {
  const { bad, bench, log } = await badDisk();
  bad.broken = '-0000000000008192';
  bad.times = 10;
  expect(await readAll(log)).toEqual({ gaps: [], bytes: 40_960, end: 40_960 });
  expect(bench.log.lines).toEqual([]);
});

it('opens a log of which one file can not be read, and tells of that file alone', async () => {
  const { bad, bench } = await badDisk();
  bad.broken = '-0000000000000000';
  const again = await bench.open();
  expect(bench.log.lines).toMatchObject([{ level: 'warn', fields: { path: '/log/stdout-0000000000000000' } }]);
  expect(await readAll(again)).toEqual({
    gaps: [{ from: 0, to: 8192, reason: 'damaged' }],
    bytes: 32_768,
    end: 40_960,
  });
  // And has all of it when the disk gives it after all.
  bad.broken = '';
  expect(await readAll(again)).toEqual({ gaps: [], bytes: 40_960, end: 40_960 });
});

it('does not open a log of which the last file can not be read: where it stood is not known', async () => {
  const { bad, bench } = await badDisk();
  bad.broken = '-0000000000032768';
  await expect(bench.open()).rejects.toThrow('EIO');
});

it('ends at once where its reader is closed while it tries again', async () => {
  const { bad, bench, log } = await badDisk();
  bench.hurries = false;
  bad.broken = '-0000000000000000';
  const reader = new StreamReader(log, 0, { live: false });
  const reading = expect(reader.next()).rejects.toThrow('EIO');
  await new Promise((resolve) => setTimeout(resolve, 5));
  await reader.close();
  await reading;
});
