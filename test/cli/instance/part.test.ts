import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

import { backoffMs } from '../../../cli/instance/backoff.ts';
import { LogFile } from '../../../cli/instance/log-file.ts';
import { Part } from '../../../cli/instance/part.ts';
import { until } from '../../support/wait.ts';

let folder: string;
const parts: Part[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-part-'));
});
afterEach(async () => {
  for (const part of parts.splice(0)) await part.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A part that runs this program text. */
function partOf(source: string, graceMs = 10_000): Part {
  const file = join(folder, 'program.mjs');
  writeFileSync(file, source);
  const log = new LogFile(join(folder, 'part.log'));
  const command = async () => ({ args: [file], env: { GIVEN: 'yes' } });
  const part = new Part({ name: 'sample', readyLine: 'ready', graceMs, command }, log, () => {});
  parts.push(part);
  return part;
}

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
};

const serve = `console.log(JSON.stringify({ msg: 'ready', given: process.env.GIVEN })); setInterval(() => {}, 1000);`;

it('is running from its ready line on, logs what it said, and stops', async () => {
  const part = partOf(serve);
  expect(await part.start()).toEqual({ msg: 'ready', given: 'yes' });
  const { pid = 0, state, restarts } = part.view;
  expect({ state, restarts }).toEqual({ state: 'running', restarts: 0 });
  await part.stop();
  expect(isAlive(pid)).toBe(false);
  expect(part.view.state).toBe('stopped');
  expect(readFileSync(join(folder, 'part.log'), 'utf8')).toContain('"msg":"ready"');
});

it('is started again when it is killed, and says how it ended', async () => {
  const part = partOf(serve);
  await part.start();
  const before = part.view.pid ?? 0;
  process.kill(before, 'SIGKILL');
  await until(() => part.view.state === 'running' && part.view.pid !== before, { what: 'the part to be back' });
  expect(part.view).toMatchObject({ restarts: 1, lastExit: { how: 'SIGKILL' } });
});

it('tells what a program that does not start said last, and keeps trying', async () => {
  const part = partOf(
    `console.log(JSON.stringify({ msg: 'could not start', error: 'no such thing' })); process.exit(70);`,
  );
  await expect(part.start()).rejects.toThrow('exit 70: could not start: no such thing');
  await until(() => part.view.restarts >= 1, { what: 'another try' });
});

it('kills a program that ignores the signal to stop, after its grace', async () => {
  const part = partOf(`process.on('SIGTERM', () => {}); ${serve}`, 300);
  await part.start();
  const { pid = 0 } = part.view;
  await part.stop();
  expect(isAlive(pid)).toBe(false);
});

it('waits longer after each failure in a row, at most half a minute', () => {
  expect([1, 2, 3, 7, 50].map(backoffMs)).toEqual([500, 1_000, 2_000, 30_000, 30_000]);
});

it('keeps a log of bounded size', () => {
  const log = new LogFile(join(folder, 'big.log'));
  const line = 'x'.repeat(1024 * 1024);
  for (let n = 0; n < 40; n += 1) log.write(line);
  log.close();
  const sizes = ['big.log', 'big.log.1'].map((name) => readFileSync(join(folder, name)).length);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(16 * 1024 * 1024);
});
