import { appendFileSync, mkdtempSync, readdirSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { systemClock } from '../../../agent-daemon/platform.ts';
import type { Gap } from '../../../agent-daemon/output/record.ts';
import { StreamReader } from '../../../agent-daemon/output/stream-reader.ts';
import { SimDisk } from '../../simulation/host/disk.ts';
import { ManualTimers } from '../ports.ts';
import { Bench, bytesFrom, dir, readAll } from './log-bench.ts';

it('gives back every byte from any offset, over restarts and torn tails of any length', async () => {
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ put: fc.oneof(fc.nat(300), fc.nat(40_000)) }) },
    { weight: 1, arbitrary: fc.record({ gap: fc.integer({ min: 1, max: 5000 }) }) },
    { weight: 1, arbitrary: fc.record({ restart: fc.constant(true) }) },
    { weight: 1, arbitrary: fc.record({ tear: fc.nat(3000) }) },
    { weight: 1, arbitrary: fc.record({ garbage: fc.uint8Array({ minLength: 1, maxLength: 200 }) }) },
    { weight: 2, arbitrary: fc.record({ readFrom: fc.nat(300_000) }) },
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), fc.constantFrom(64, 256), async (steps, spoolKiB) => {
      const bench = new Bench({ spoolBytes: spoolKiB * 1024 });
      let log = await bench.open();
      const missing: Gap[] = [];
      for (const each of steps) {
        if ('put' in each) await bench.put(each.put);
        if ('gap' in each) {
          missing.push({ from: log.end, to: log.end + each.gap, reason: 'ring-full' });
          await log.appendGap(log.end + each.gap, 'ring-full');
        }
        if ('restart' in each || 'tear' in each || 'garbage' in each) {
          const before = log.end;
          await log.close();
          const last = readdirSync(bench.path).toSorted().at(-1);
          if (last !== undefined && 'tear' in each) tear(join(bench.path, last), each.tear);
          if (last !== undefined && 'garbage' in each) appendFileSync(join(bench.path, last), each.garbage);
          log = await bench.open();
          if ('tear' in each) expect(log.end).toBeLessThanOrEqual(before);
          else expect(log.end).toBe(before);
          while ((missing.at(-1)?.to ?? 0) > log.end) missing.pop();
        }
        if ('readFrom' in each) await readAll(log, each.readFrom);
      }
      const { gaps } = await readAll(log);
      const kept = log.keptFrom();
      expect(gaps.filter((gap) => gap.reason === 'ring-full')).toEqual(
        missing
          .filter((gap) => gap.from >= kept || gaps.some((each) => each.from === gap.from))
          .filter((gap) => gap.to > kept || gaps.some((each) => each.to === gap.to && each.reason === 'ring-full')),
      );
      expect(log.missing).toBe(gaps.reduce((sum, gap) => sum + gap.to - gap.from, 0));
      expect(log.end - log.missing).toBeLessThanOrEqual(spoolKiB * 1024);
      await log.close();
    }),
    { numRuns: 60 },
  );
});

it('over a disk that fails says of each byte once whether it is there, and loses none that was stored', async () => {
  const refused = fc.constantFrom<readonly string[]>(
    [],
    ['open'],
    ['write'],
    ['truncate'],
    ['open', 'write'],
    ['sync'],
  );
  const step = fc.record({
    what: fc.oneof(
      { weight: 6, arbitrary: fc.record({ put: fc.integer({ min: 1, max: 40_000 }) }) },
      { weight: 1, arbitrary: fc.record({ gap: fc.integer({ min: 1, max: 5000 }) }) },
      { weight: 1, arbitrary: fc.record({ killed: fc.constant(true) }) },
    ),
    refused,
    refusesHoles: fc.boolean(),
    passedMs: fc.constantFrom(0, 1000),
    /** The first is less than after which output is given up. */
    failsMs: fc.constantFrom(4000, 600_000),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
      let failing: readonly string[] = [];
      let mendedAtMs = 0;
      const fails = (op: string) => (failing.includes(op) && bench.nowMs < mendedAtMs ? 'EIO' : undefined);
      const disk = new SimDisk({ clock: systemClock, timers: new ManualTimers(), fails });
      await disk.mkdir('/log', { recursive: true });
      const bench = new Bench({ spoolBytes: 8 * 1024 * 1024 }, '/log', disk);
      bench.hurries = true;
      let log = await bench.open();
      // What is not stored comes again, as from an init.
      const insist = async (to: number, send: (from: number) => Promise<void> | undefined) => {
        for (let tries = 0; log.end < to; tries++) {
          if (tries === 3) {
            failing = [];
            bench.refusesHoles = false;
          }
          await send(log.end)?.catch(() => undefined);
        }
        expect(log.end).toBe(to);
      };
      for (const each of steps) {
        failing = each.refused;
        bench.refusesHoles = each.refusesHoles;
        bench.nowMs += each.passedMs;
        mendedAtMs = bench.nowMs + each.failsMs;
        const { what } = each;
        const { end, missing } = log;
        const isPatient = bench.hole === undefined && each.failsMs === 4000;
        if ('put' in what)
          await insist(end + what.put, (from) => log.append(from, 1, bytesFrom(from, end + what.put - from)));
        if ('put' in what && isPatient) expect(log.missing).toBe(missing);
        if ('gap' in what) await insist(end + what.gap, () => log.appendGap(end + what.gap, 'ring-full'));
        if ('killed' in what) {
          failing = [];
          log = await bench.open();
          expect(log.end).toBe(end);
        }
      }
      failing = [];
      await readAll(log);
      log = await bench.open();
      await readAll(log);
    }),
    { numRuns: 200 },
  );
});

it('tries a write again for five seconds before it gives anything up, and then each second', async () => {
  let tries = 0;
  let failing = Number.POSITIVE_INFINITY;
  const fails = (op: string) => (op === 'write' && tries < failing && ++tries > 0 ? 'ENOSPC' : undefined);
  const disk = new SimDisk({ clock: systemClock, timers: new ManualTimers(), fails });
  await disk.mkdir('/log', { recursive: true });
  const bench = new Bench({}, '/log', disk);
  bench.hurries = true;
  const log = await bench.open();
  await bench.put(100);
  expect([bench.nowMs, tries]).toEqual([5000, 21]);
  expect(bench.hole).toEqual({ from: 0, to: 100, reason: 'disk-full' });
  await bench.put(100);
  expect([bench.nowMs, tries], 'what comes right after it').toEqual([5000, 21]);
  failing = 0;
  bench.nowMs += 1000;
  await bench.put(100);
  failing = tries + 20;
  await bench.put(100);
  expect(bench.nowMs, 'five seconds less one try').toBe(6000 + 20 * 250);
  expect(await readAll(log)).toEqual({ gaps: [{ from: 0, to: 200, reason: 'disk-full' }], bytes: 200, end: 400 });
});

it('at its end leaves what can not be written to come again, and waits for nothing', async () => {
  let isBroken = true;
  const fails = (op: string) => (op === 'write' && isBroken ? 'EIO' : undefined);
  const disk = new SimDisk({ clock: systemClock, timers: new ManualTimers(), fails });
  await disk.mkdir('/log', { recursive: true });
  const bench = new Bench({}, '/log', disk);
  const log = await bench.open();
  const put = expect(bench.put(100)).rejects.toThrow('EIO');
  await new Promise((resolve) => setTimeout(resolve, 5));
  await log.close();
  await put;
  expect([log.end, bench.hole, bench.stored]).toEqual([0, undefined, []]);
  isBroken = false;
  await bench.open();
  await bench.put(100);
  expect(await readAll(bench.stream)).toEqual({ gaps: [], bytes: 100, end: 100 });
});

function tear(path: string, bytes: number): void {
  const { size } = statSync(path);
  truncateSync(path, Math.max(0, size - bytes));
}

it('drops the oldest with its exact range when the policy is drop, and keeps at most spoolBytes', async () => {
  const bench = new Bench({ onFull: 'drop', spoolBytes: 64 * 1024 });
  const log = await bench.open();
  for (let count = 0; count < 100; count++) await bench.put(10_000);
  expect(log.end).toBe(1_000_000);
  const { gaps, bytes } = await readAll(log);
  expect(gaps).toEqual([{ from: 0, to: log.keptFrom(), reason: 'spool-full' }]);
  expect(bytes).toBe(1_000_000 - log.keptFrom());
  expect(bytes).toBeLessThanOrEqual(64 * 1024);
  expect(bytes).toBeGreaterThan(48 * 1024);
  expect(bench.budget.used).toBe(log.sizeBytes);
  expect(bench.stored.at(-1)).toBe(1_000_000);
});

it('keeps everything when the output is exactly spoolBytes', async () => {
  const bench = new Bench({ onFull: 'block', spoolBytes: 256 * 1024 });
  const log = await bench.open();
  for (let count = 0; count < 64; count++) await bench.put(4096);
  expect(log.keptFrom()).toBe(0);
  expect(await readAll(log)).toEqual({ gaps: [], bytes: 256 * 1024, end: 256 * 1024 });
});

it('blocks a full log until a reader has taken the oldest away, and says where to continue', async () => {
  const bench = new Bench({ onFull: 'block', spoolBytes: 64 * 1024 });
  const log = await bench.open();
  await bench.put(64 * 1024);
  await bench.put(1);
  expect([log.end, bench.room]).toEqual([64 * 1024, []]);
  expect(log.append(log.end, 0, bytesFrom(log.end, 10))).toBeUndefined();
  const reader = new StreamReader(log, 0, { live: true });
  while (bench.room.length === 0) expect((await reader.next())?.kind).toBe('bytes');
  expect(bench.room).toEqual([64 * 1024]);
  await bench.put(1);
  expect(log.end).toBe(64 * 1024 + 1);
  await reader.close();
});

it('goes on when a reader comes back that has all of a full log already', async () => {
  const bench = new Bench({ onFull: 'block', spoolBytes: 64 * 1024 });
  const log = await bench.open();
  await bench.put(64 * 1024);
  await bench.put(1);
  expect([log.isBlocked, bench.room]).toEqual([true, []]);
  const reader = new StreamReader(log, log.end, { live: true });
  expect([log.isBlocked, bench.room]).toEqual([false, [64 * 1024]]);
  await bench.put(1);
  expect((await reader.next())?.kind).toBe('bytes');
  await reader.close();
});

it('lets nothing go that one who holds it has not passed, whatever the policy, and lets nothing go for its sake', async () => {
  const holder = { position: 0, holds: true, wanted: 0 };
  const follower = {
    holds: true,
    get position() {
      return holder.position;
    },
    wanted: () => void holder.wanted++,
  };
  for (const onFull of ['drop', 'block'] as const) {
    const bench = new Bench({ onFull, spoolBytes: 64 * 1024 });
    const log = await bench.open();
    Object.assign(holder, { position: 0, wanted: 0 });
    log.follow(follower);
    for (let at = 0; at < 128 * 1024; at += 4096) void log.append(at, 1, bytesFrom(at, 4096));
    await log.settled();
    expect([log.isBlocked, holder.wanted]).toEqual([true, 1]);
    expect(log.keptFrom()).toBe(0);
    holder.position = log.end;
    log.followerMoved();
    expect(log.isBlocked).toBe(onFull === 'block');
  }
});

it('lets the oldest go after all when nobody read for blockMs', async () => {
  const bench = new Bench({ onFull: 'block', blockMs: 0, spoolBytes: 64 * 1024 });
  const log = await bench.open();
  await bench.put(64 * 1024);
  await bench.put(1);
  bench.timers.fire();
  expect(bench.room).toEqual([64 * 1024]);
  await bench.put(100_000);
  expect(log.end).toBe(64 * 1024 + 100_000);
  expect((await readAll(log)).gaps).toEqual([{ from: 0, to: log.keptFrom(), reason: 'spool-full' }]);
});

it('gives output up when the disk is full, keeps the gap where no space is needed, and goes on when space is back', async () => {
  const mount = mkdtempSync(join(dir.path, 'full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k', 'cw-test', mount]);
  try {
    const bench = new Bench({ spoolBytes: 1024 * 1024 * 8 }, mount);
    bench.hurries = true;
    let log = await bench.open();
    for (let count = 0; count < 40; count++) await bench.put(16 * 1024);
    expect(log.end).toBe(40 * 16 * 1024);
    expect(bench.stored.at(-1)).toBe(log.end);
    const given = bench.hole;
    expect(given).toMatchObject({ to: log.end, reason: 'disk-full' });
    expect((await readAll(log)).gaps).toEqual([given]);
    // The agent dies and comes back, and somebody makes room.
    await log.close();
    log = await bench.open();
    expect(log.end).toBe(40 * 16 * 1024);
    execFileSync('mount', ['-o', 'remount,size=4m', mount]);
    bench.nowMs += 1000;
    await bench.put(5000);
    expect(bench.hole).toBeUndefined();
    const { gaps, bytes } = await readAll(log);
    expect(gaps).toEqual([given]);
    expect(bytes).toBe((given?.from ?? 0) + 5000);
    // Who asks from inside of the gap, or from where it begins, is told where bytes go on.
    const [from, to] = [given?.from ?? 0, given?.to ?? 0];
    expect([from - 1, from, to - 1, to].map((offset) => log.keptFrom(offset))).toEqual([from - 1, to, to, to]);
    await log.close();
  } finally {
    execFileSync('umount', ['--lazy', mount]);
  }
});

it('reads while it is written, also what is dropped under the reader, without a byte out of place', async () => {
  const bench = new Bench({ onFull: 'drop', spoolBytes: 128 * 1024 });
  const log = await bench.open();
  const reader = new StreamReader(log, 0, { live: false });
  const stop = new AbortController();
  const writing = (async () => {
    for (let count = 0; count < 300; count++) await bench.put(1 + ((count * 7919) % 9000));
    log.finish();
  })();
  let at = 0;
  while (!(log.isFinal && at === log.end)) {
    const item = await reader.next();
    if (item === undefined) {
      await log.whenBeyond(at, stop.signal);
      continue;
    }
    if (item.kind === 'gap') {
      expect([item.gap.from, item.gap.reason]).toEqual([at, 'spool-full']);
      at = item.gap.to;
      continue;
    }
    expect(item.offset).toBe(at);
    expect(Buffer.compare(item.bytes, bytesFrom(at, item.bytes.byteLength))).toBe(0);
    at += item.bytes.byteLength;
  }
  await writing;
  await reader.close();
});

it('announces a damaged record with the range that it can not vouch for', async () => {
  const bench = new Bench({ spoolBytes: 64 * 1024 });
  const log = await bench.open();
  for (let count = 0; count < 10; count++) await bench.put(1000);
  await log.close();
  const [first] = readdirSync(bench.path).toSorted();
  const path = join(bench.path, first ?? '');
  const { size } = statSync(path);
  const file = await openFile(path, 'r+');
  await file.write(Buffer.from('x'), 0, 1, size - 10);
  await file.close();
  const again = await bench.open();
  const { gaps } = await readAll(again);
  expect(gaps.map((gap) => gap.reason)).toEqual(['damaged']);
  await again.close();
});

it('does not mistake a file that is no segment for output', async () => {
  const bench = new Bench({});
  writeFileSync(join(bench.path, 'stdout-5'), 'x');
  writeFileSync(join(bench.path, 'notes'), 'x');
  expect((await bench.open()).end).toBe(0);
});
