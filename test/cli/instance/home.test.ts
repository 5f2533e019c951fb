import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

import { findIdentity, openHome } from '../../../cli/instance/home.ts';
import { isLocked, takeLock } from '../../../cli/instance/lock.ts';
import { until } from '../../support/wait.ts';

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
  const file = join(folder, 'run', 'lock');
  const release = await takeLock(file, 0);
  expect(release).toBeDefined();
  expect(isLocked(file)).toBe(true);
  expect(await takeLock(file, 0)).toBeUndefined();
  release?.();
  await until(() => !isLocked(file), { what: 'the lock to be free' });
});
