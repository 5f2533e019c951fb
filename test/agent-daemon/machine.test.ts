/** By what a machine is told apart from a copy of its disk. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readHardwareId } from '../../agent-daemon/host.ts';
import { requireSameMachine } from '../../agent-daemon/machine.ts';
import { systemDisk } from '../../agent-daemon/platform.ts';
import { tmpDir } from '../support/tmp.ts';
import { keptLog } from './ports.ts';

it('goes on where it joined, refuses to on other hardware in words, and obeys when it is told that the disk moved', async () => {
  using folder = tmpDir('mch');
  const kept = join(folder.path, 'machine.json');
  const startOn = (hardwareId: string | undefined) =>
    requireSameMachine(folder.path, { disk: systemDisk, log: keptLog(), hardwareId });
  await startOn('ad2edbe8');
  expect(statSync(kept).mode & 0o777).toBe(0o600);
  expect(readFileSync(kept, 'utf8')).not.toContain('ad2edbe8');
  await startOn('ad2edbe8');
  await startOn(undefined);
  await expect(startOn('another')).rejects.toThrow(`remove ${kept} and start again`);
  await expect(startOn('another')).rejects.toThrow(
    `move ${folder.path} away and join anew: causeway agent token create`,
  );
  rmSync(kept);
  await startOn('another');
  await expect(startOn('ad2edbe8')).rejects.toThrow('copied, or moved here');
  writeFileSync(kept, '{"mach');
  await startOn('ad2edbe8');
});

it('takes the first word of the hardware that names it, and none that firmware has for everybody', async () => {
  using folder = tmpDir('mch');
  const file = (name: string, text: string) => {
    writeFileSync(join(folder.path, name), text);
    return join(folder.path, name);
  };
  const board = file('serial-number', '10000000a2b4c6d8\0');
  expect(await readHardwareId([join(folder.path, 'none'), board])).toBe('10000000a2b4c6d8');
  for (const nobody of [
    '00000000-0000-0000-0000-000000000000\n',
    'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF\n',
    '03000200-0400-0500-0006-000700080009\n',
    '\n',
  ])
    expect(await readHardwareId([file('product_uuid', nobody)])).toBeUndefined();
  const uuid = file('product_uuid', '4c4c4544-0042-3510-8051-b6c04f4e5832\n');
  expect(await readHardwareId([uuid, board])).toBe('4c4c4544-0042-3510-8051-b6c04f4e5832');
});
