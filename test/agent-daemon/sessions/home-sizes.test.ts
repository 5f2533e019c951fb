import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Loops } from '../../../agent-daemon/loops.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { HomeSizes } from '../../../agent-daemon/sessions/home-sizes.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { ManualTimers, keptLog } from '../ports.ts';
import { measureTree } from '../../../agent-daemon/host.ts';

const MiB = 1024 * 1024;

it('tells once which homes are too large, follows no link out of them, and takes it back when they shrank', async () => {
  using dir = tmpDir('home');
  const root = join(dir.path, 'homes');
  for (const home of ['ses_big', 'ses_small', '.staging', 'ses_link']) mkdirSync(join(root, home), { recursive: true });
  writeFileSync(join(dir.path, 'outside'), Buffer.alloc(4 * MiB, 1));
  writeFileSync(join(root, 'ses_big', 'data'), Buffer.alloc(2 * MiB, 1));
  writeFileSync(join(root, 'ses_small', 'data'), Buffer.alloc(MiB / 2, 1));
  writeFileSync(join(root, '.staging', 'data'), Buffer.alloc(2 * MiB, 1));
  writeFileSync(join(root, 'ses_gone.ended'), '1 0');
  symlinkSync(join(dir.path, 'outside'), join(root, 'ses_link', 'data'));
  const [timers, log] = [new ManualTimers(), keptLog()];
  const loops = new Loops({ clock: systemClock, timers, log });
  let changes = 0;
  const sizes = new HomeSizes({
    root,
    limitBytes: MiB,
    disk: systemDisk,
    measureTree,
    loops,
    log,
    onChange: () => void changes++,
  });
  sizes.start();
  await until(() => changes === 1, { what: 'the first look' });
  expect(sizes.oversized).toEqual([{ sessionId: 'ses_big', sizeBytes: expect.any(Number) as number }]);
  expect(sizes.oversized[0]!.sizeBytes).toBeGreaterThanOrEqual(2 * MiB);
  rmSync(join(root, 'ses_big', 'data'));
  await until(() => (timers.fire(), changes === 2), { what: 'the second look' });
  expect(sizes.oversized).toEqual([]);
  expect(log.lines).toEqual([
    expect.objectContaining({ level: 'warn', message: 'a home is larger than it should be' }),
  ]);
  sizes.stop();
});
