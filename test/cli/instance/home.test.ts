import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

import { findIdentity, openHome } from '../../../cli/instance/home.ts';
import { isLocked, takeLock } from '../../../cli/instance/lock.ts';
import { type Exit, start } from '../../support/process.ts';
import { until } from '../../support/wait.ts';

const cli = join(import.meta.dirname, '../../../cli/index.ts');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-home-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

it('makes an identity and secrets once, for their owner alone', () => {
  const path = join(folder, 'home');
  expect(findIdentity(path)).toBeUndefined();
  const first = openHome(path);
  expect(openHome(path)).toMatchObject({ identity: first.identity, secrets: first.secrets });
  for (const name of ['.', 'instance.json', 'secrets.json']) expect(statSync(join(path, name)).mode & 0o077).toBe(0);
});

it('refuses a damaged identity instead of making a new one', () => {
  const path = join(folder, 'home');
  openHome(path);
  writeFileSync(join(path, 'instance.json'), '{"layout":1,');
  expect(() => openHome(path)).toThrow(/instance\.json is damaged/);
});

it('gives a home to one supervisor at a time', async () => {
  const release = await takeLock(folder, 0);
  expect(release).toBeDefined();
  expect(isLocked(folder)).toBe(true);
  expect(await takeLock(folder, 0)).toBeUndefined();
  release?.();
  await until(() => !isLocked(folder), { what: 'the lock to be free' });
});

async function causeway(home: string, args: string[]): Promise<Exit & { output: string }> {
  const command = start(process.execPath, [cli, ...args], { env: { CAUSEWAY_HOME: home, PORT: '8787', HOST: '' } });
  const exit = await command.exited;
  return { ...exit, output: command.output() };
}

it('takes whoever holds the lock of a home for a supervisor only when it is one', { timeout: 120_000 }, async () => {
  const home = openHome(join(folder, 'home'));
  await using stranger = start('sleep', ['1000']);
  const left = {
    pid: stranger.pid, // the supervisor's once, and since a reboot another's
    startedAtMs: 1,
    phase: 'running',
    url: 'http://127.0.0.1:8787',
    instance: home.identity.id,
    agent: { id: 'agt_1', connected: true },
    parts: [],
    versions: { causeway: '0', node: '0', workerd: '0' },
  };
  writeFileSync(home.at('run', 'state.json'), JSON.stringify(left));
  // As a backup, a restore or a start does that is under way.
  const release = await takeLock(home.path, 0);
  try {
    expect(await causeway(home.path, ['status'])).toMatchObject({ code: 3 });
    const up = await causeway(home.path, ['up', '--detach']);
    expect(up.code, up.output).toBe(1);
    const down = await causeway(home.path, ['down']);
    expect(down, down.output).toMatchObject({ code: 1 });
    expect(down.output).toContain('another command is at work');
    expect(stranger.exit).toBeUndefined();
  } finally {
    release?.();
  }
  await until(() => !isLocked(home.path), { what: 'the lock to be free' });
  expect(await causeway(home.path, ['down'])).toMatchObject({ code: 0 });
});
