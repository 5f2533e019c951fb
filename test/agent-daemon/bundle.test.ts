/** The agent runs as one bundled file with a small heap, built once for the same sources. */
import { spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { bundleOf } from '../../agent-daemon/bundle/bundle.ts';
import { tmpDir } from '../support/tmp.ts';

const root = join(import.meta.dirname, '../..');

describe('the bundle of the agent', () => {
  it('is built once for the same sources, and anew when one of them changes', async () => {
    using dir = tmpDir('bundle');
    const checkout = join(dir.path, 'checkout');
    mkdirSync(checkout);
    for (const folder of ['agent-daemon', 'schema', 'wire'])
      cpSync(join(root, folder), join(checkout, folder), { recursive: true });
    copyFileSync(join(root, 'package-lock.json'), join(checkout, 'package-lock.json'));
    symlinkSync(join(root, 'node_modules'), join(checkout, 'node_modules'));
    const cache = join(dir.path, 'cache');

    const first = await bundleOf(checkout, cache);
    const builtAtMs = statSync(first).mtimeMs;
    expect(await bundleOf(checkout, cache)).toBe(first);
    expect(statSync(first).mtimeMs).toBe(builtAtMs);

    writeFileSync(join(checkout, 'agent-daemon/version.ts'), "export const agentVersion = '9.9.9';\n");
    const second = await bundleOf(checkout, cache);
    expect(second).not.toBe(first);
    // Somebody may be about to run the old one; an hour later nobody is.
    expect(readdirSync(cache)).toHaveLength(2);
    utimesSync(first, 0, 0);
    writeFileSync(join(checkout, 'agent-daemon/version.ts'), "export const agentVersion = '9.9.10';\n");
    await bundleOf(checkout, cache);
    expect(readdirSync(cache)).toHaveLength(2);

    // What was kept of a checkout that has another place now would start what lies in the old one.
    const moved = join(dir.path, 'moved');
    renameSync(checkout, moved);
    const third = await bundleOf(moved, cache);
    expect(readFileSync(third, 'utf8')).toContain(join(moved, 'agent-daemon/daemon.ts'));
    expect(readFileSync(third, 'utf8')).not.toContain(join(checkout, 'agent-daemon'));
  });

  it('says what is wrong with its settings and ends with the same status as from the sources', () => {
    using dir = tmpDir('bundle');
    const run = (file: string) =>
      spawnSync(process.execPath, [join(root, 'agent-daemon', file), '--state', dir.path], {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'] },
      });
    const bundled = run('index.ts');
    expect(bundled.status).toBe(64);
    expect(bundled.stderr).toBe(
      'causeway agent: no control plane is named: give --url https://HOST (or set CAUSEWAY_URL)\n',
    );
    expect(bundled.stderr).toBe(run('daemon.ts').stderr);
  });
});
