import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type TapeKind, tapeBytes, tapeFault, tapePiece, tapeScript } from '../chaos/tape.ts';

const kinds: TapeKind[] = ['lines', 'blocks'];

it.each(kinds)('[I5] a tape of %s is what its script prints', async (kind) => {
  const dir = mkdtempSync(join(tmpdir(), 'tape-'));
  const child = spawn('/bin/busybox', ['sh', '-c', tapeScript(kind, 1)], { cwd: dir });
  let printed = Buffer.alloc(0);
  child.stdout.on('data', (bytes: Buffer) => (printed = Buffer.concat([printed, bytes])));
  while (printed.length < 5000) await new Promise((resolve) => void child.stdout.once('data', resolve));
  child.kill('SIGKILL');
  await new Promise((resolve) => void child.once('close', resolve));
  rmSync(dir, { recursive: true });
  expect(tapeFault(kind, 0, printed)).toBeUndefined();
});

it.each(kinds)('[I5] a tape of %s is known at any offset, and one wrong byte is seen', (kind) => {
  const whole = tapeBytes(kind, 0, 5000);
  for (const [from, to] of [
    [0, 17],
    [15, 16],
    [1000, 3333],
    [4999, 5000],
  ] as const) {
    const part = Buffer.from(whole.subarray(from, to));
    expect(tapeFault(kind, from, part)).toBeUndefined();
    if (part.length > 16) expect(tapeFault(kind, from + 1, part)).toContain('[I5]');
    part[part.length - 1]! ^= 1;
    expect(tapeFault(kind, from, part)).toContain(`[I5] byte ${to - 1}`);
  }
  expect(tapePiece(kind, 4096)).toBe(kind === 'lines' ? 256 : 4);
});
