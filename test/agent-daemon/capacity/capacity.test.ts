import { totalmem } from 'node:os';
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { Loops } from '../../../agent-daemon/loops.ts';
import { Report, Slots } from '../../../schema/protocol/messages.ts';
import { capacityOf, memoryOf, memoryReserveBytes } from '../../../agent-daemon/capacity/capacity.ts';
import { findProblems, isBelowFloor } from '../../../agent-daemon/capacity/problems.ts';
import { Reporter } from '../../../agent-daemon/capacity/reporter.ts';
import type { EngineInfo } from '../../../agent-daemon/runtime/runtime.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { until } from '../../support/wait.ts';
import { ManualTimers, keptLog } from '../ports.ts';

const gib = 1024 ** 3;
const engine: EngineInfo = {
  version: '26.1.5',
  description: 'Docker 26.1.5',
  runcVersion: '1.3.3',
  kernel: '6.18',
  os: 'Debian',
  cpus: 8,
  memoryBytes: 64 * gib,
  liveRestore: true,
  seccomp: true,
  dataRoot: '/',
};

it('offers whole base units, less what the host itself needs, never more than it has', () => {
  fc.assert(
    fc.property(fc.nat(512), fc.nat(2 ** 42), fc.option(fc.nat(2 ** 42), { nil: undefined }), (cpus, bytes, limit) => {
      const offered = capacityOf({ cpus, memoryBytes: bytes }, limit === undefined ? {} : { mem: limit, cpu: limit });
      expect(Slots.parse(offered)).toEqual(offered);
      expect(offered['cpu']).toBeLessThanOrEqual(cpus * 1000);
      expect(offered['mem']).toBeLessThanOrEqual(Math.max(0, bytes - memoryReserveBytes(bytes)));
      if (limit !== undefined) expect(offered['mem']).toBeLessThanOrEqual(limit);
    }),
  );
  expect(capacityOf(engine)).toEqual({ cpu: 8000, mem: 64 * gib - memoryReserveBytes(64 * gib) });
});

it.each([
  ['1.1.15', true],
  ['1.1.15+ds1', true],
  ['1.2.7', true],
  ['1.2.8', false],
  ['1.3.2', true],
  ['1.3.3', false],
  ['1.4.0', false],
  ['2.0.0', false],
  ['v1.2.6', true],
  ['unknown', false],
])('knows whether runc %s has the holes of 2025: %s', (version, isBelow) => {
  expect(isBelowFloor(version)).toBe(isBelow);
});

it('finds nothing wrong with a good host, and says in words what is wrong with another', () => {
  const good = { engine, engineError: undefined, disks: [{ what: 'x', path: '/', freeBytes: 50, totalBytes: 100 }] };
  expect(findProblems(good)).toEqual([]);
  const bad = findProblems({
    engine: { ...engine, liveRestore: false, seccomp: false, runcVersion: '1.1.5' },
    engineError: 'it does not answer',
    disks: [{ what: 'the agent', path: '/var', freeBytes: 1, totalBytes: 100 }],
  });
  expect(bad.map(({ code, degrades }) => [code, degrades])).toEqual([
    ['engine_unavailable', true],
    ['disk_low', true],
    ['runc_insecure', false],
    ['seccomp_off', false],
    ['live_restore_off', false],
  ]);
});

it('reports use and health in the shape of the tunnel, at once when something changed', async () => {
  const reports: Report[] = [];
  const timers = new ManualTimers();
  let error: string | undefined;
  const reporter = new Reporter({
    clock: systemClock,
    disk: systemDisk,
    loops: new Loops({ clock: systemClock, timers, log: keptLog() }),
    stateDir: '/',
    engine: () => ({ info: engine, error, transport: 'stdio' }),
    homes: () => [{ sessionId: 'ses_a', sizeBytes: 3 * 1024 ** 2 }],
    work: () => ({ used: { cpu: 500 }, sessions: 1 }),
    report: (report) => void reports.push(Report.parse(report)),
  });
  reporter.start();
  await until(() => reports.length === 1, { what: 'the first report' });
  expect(reports[0]).toMatchObject({
    used: { cpu: 500 },
    sessions: 1,
    health: 'ok',
    problems: [{ code: 'home_too_large' }, { code: 'init_over_stdio' }],
  });
  error = 'gone';
  reporter.poke();
  await until(() => reports.length === 2, { what: 'the second report' });
  expect(reports[1]).toMatchObject({
    health: 'degraded',
    problems: [{ code: 'engine_unavailable' }, { code: 'home_too_large' }, { code: 'init_over_stdio' }],
  });
  reporter.stop();
  expect(reporter.latest).toEqual(reports[1]);
});

it('reads what memory of this host is free', async () => {
  const memory = await memoryOf(systemDisk);
  expect(memory?.totalBytes).toBe(totalmem());
  expect(memory?.freeBytes).toBeGreaterThan(0);
  expect(memory?.freeBytes).toBeLessThan(totalmem());
});
