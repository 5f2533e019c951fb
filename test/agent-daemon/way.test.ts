/** What an agent remembers of who its control plane is. */
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readConfig } from '../../agent-daemon/config.ts';
import { systemDisk } from '../../agent-daemon/platform.ts';
import { wayOf } from '../../agent-daemon/way.ts';
import { tmpDir } from '../support/tmp.ts';

const url = 'https://cp.example:8787';
const [pin, other] = [`sha256:${'a'.repeat(64)}`, `sha256:${'b'.repeat(64)}`];

it('keeps the pin that it was given once, for this one address, until another is given', async () => {
  using folder = tmpDir('way');
  const stateDir = folder.path;
  const way = async (args: string[], env = {}) =>
    (await wayOf(readConfig(['--state', stateDir, ...args], env), env, systemDisk)).pins;
  expect(await way(['--url', url])).toBeUndefined();
  expect(existsSync(join(stateDir, 'pin.json'))).toBe(false);
  expect(await way(['--url', url], { CAUSEWAY_PIN: pin.toUpperCase() })).toEqual([pin]);
  expect(statSync(join(stateDir, 'pin.json')).mode & 0o777).toBe(0o600);
  expect(await way(['--url', url])).toEqual([pin]);
  expect(await way(['--url', 'https://elsewhere.example'])).toBeUndefined();
  expect(await way(['--url', url])).toEqual([pin]);
  expect(await way(['--url', url, '--pin', `${other},${pin}`])).toEqual([other, pin]);
  expect(await way(['--url', url])).toEqual([other, pin]);
});

it('refuses a pin of nothing, a wrong pin and a damaged memory, each in words', async () => {
  using folder = tmpDir('way');
  const config = (args: string[]) => readConfig(['--state', folder.path, ...args], {});
  await expect(wayOf(config(['--url', 'http://cp.example', '--pin', pin]), {}, systemDisk)).rejects.toThrow(
    /does not use TLS/,
  );
  expect(() => config(['--url', url, '--pin', 'sha256:abc'])).toThrow(/pin \(CAUSEWAY_PIN\) must look like sha256:/);
  writeFileSync(join(folder.path, 'pin.json'), readFileSync(import.meta.filename).subarray(0, 10));
  await expect(wayOf(config(['--url', url]), {}, systemDisk)).rejects.toThrow(
    /pin.json is damaged: remove it, and start .* with --pin/,
  );
});
