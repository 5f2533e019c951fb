import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { Loops } from '../../../agent-daemon/loops.ts';
import { type AgentStatus, StatusFile, statusFileName } from '../../../agent-daemon/status/status-file.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { ManualTimers, keptLog } from '../ports.ts';
import { systemDisk } from '../../../agent-daemon/platform.ts';

const dir = tmpDir('stat');
afterAll(() => dir.remove());

/** A loop arms its timer behind its run. */
const settled = () => new Promise((resolve) => void setImmediate(resolve));

it('writes what changed, keeps it readable at any moment, and says the last word at the end', async () => {
  const status: AgentStatus = {
    version: '0.1.0',
    agentId: 'agt_1',
    url: 'http://127.0.0.1:1',
    tunnel: { state: 'connecting' },
    host: { hostname: 'h', os: 'o', kernel: 'k', arch: 'x86_64', engine: 'e' },
    capacity: { cpu: 2000, mem: 1 },
    report: undefined,
    sessions: [],
    outputBytes: 0,
    transport: 'socket',
    loops: [],
    limits: [],
  };
  let nowMs = 1000;
  const timers = new ManualTimers();
  const clock = { nowMs: () => nowMs, bootMs: () => nowMs };
  const log = keptLog();
  const ports = { clock, disk: systemDisk, host: { pid: process.pid }, log, loops: new Loops({ clock, timers, log }) };
  const file = new StatusFile(dir.path, ports, () => status);
  const read = () => JSON.parse(readFileSync(join(dir.path, statusFileName), 'utf8')) as Record<string, unknown>;
  file.start();
  await until(() => read()['atMs'] === 1000, { what: 'the first status' });
  expect(read()).toMatchObject({ pid: process.pid, tunnel: { state: 'connecting' }, capacity: { cpu: 2000 } });
  expect(statSync(join(dir.path, statusFileName)).mode & 0o777).toBe(0o600);
  await settled();
  nowMs = 5000;
  timers.fire();
  await settled();
  status.tunnel = { state: 'connected', epoch: 7 };
  nowMs = 6000;
  timers.fire();
  await until(() => read()['atMs'] === 6000, { what: 'the change' });
  expect(read()).toMatchObject({ tunnel: { state: 'connected', epoch: 7 } });
  await settled();
  nowMs = 70_000;
  timers.fire();
  await until(() => read()['atMs'] === 70_000, { what: 'a sign of life' });
  status.tunnel = { state: 'stopped' };
  await file.stop();
  expect(read()).toMatchObject({ tunnel: { state: 'stopped' } });
});
