import { mkdirSync, mkdtempSync, readFileSync, readlinkSync, symlinkSync, writeFileSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pack } from 'tar-stream';
import { beforeEach, expect, it } from 'vitest';
import { packPath, unpackTo } from '../../cli/files/local-tar.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'causeway-tar-'));
});

function archiveOf(
  entries: { name: string; type?: 'file' | 'symlink' | 'directory'; linkname?: string; body?: string }[],
): Readable {
  const archive = pack();
  for (const { name, type = 'file', linkname, body = '' } of entries)
    archive.entry({ name, type, ...(linkname === undefined ? {} : { linkname }) }, body);
  archive.finalize();
  return Readable.from(archive);
}

it('brings a folder over whole: names, bytes, links within', async () => {
  mkdirSync(join(folder, 'from/deep'), { recursive: true });
  writeFileSync(join(folder, 'from/deep/data.bin'), Buffer.alloc(100_000, 7));
  writeFileSync(join(folder, 'from/empty'), '');
  symlinkSync('deep/data.bin', join(folder, 'from/link'));
  expect(await unpackTo(packPath(join(folder, 'from'), 'from'), join(folder, 'to'))).toBe(5);
  expect(readFileSync(join(folder, 'to/deep/data.bin'))).toEqual(Buffer.alloc(100_000, 7));
  expect(readlinkSync(join(folder, 'to/link'))).toBe('deep/data.bin');
});

it('puts all of a home into a folder that is to be', async () => {
  const target = join(folder, 'to');
  const entries = [
    { name: 'a', body: '1' },
    { name: 'b', body: '2' },
  ];
  expect(await unpackTo(archiveOf(entries), target, { intoFolder: true })).toBe(2);
  expect(['a', 'b'].map((name) => readFileSync(join(target, name), 'utf8'))).toEqual(['1', '2']);
});

it('brings a link over again, and into a folder that a link leads to', async () => {
  const target = join(folder, 'to');
  mkdirSync(target);
  symlinkSync('to', join(folder, 'there'));
  for (const linkname of ['ckpt-1', 'ckpt-2']) {
    await unpackTo(archiveOf([{ name: 'latest', type: 'symlink', linkname }]), join(folder, 'there'));
    expect(readlinkSync(join(target, 'latest'))).toBe(linkname);
  }
  mkdirSync(join(target, 'run'));
  const link = archiveOf([{ name: 'run', type: 'symlink', linkname: 'latest' }]);
  await expect(unpackTo(link, target)).rejects.toThrow('is a folder here');
});

it('never writes outside of the target', async () => {
  mkdirSync(join(folder, 'to'));
  const target = join(folder, 'to');
  await expect(unpackTo(archiveOf([{ name: '../evil', body: 'x' }]), target)).rejects.toThrow('unsafe');
  await unpackTo(archiveOf([{ name: '/etc/evil', body: 'x' }]), target);
  expect(existsSync(join(target, 'etc/evil'))).toBe(true);
  symlinkSync(folder, join(target, 'out'));
  await expect(unpackTo(archiveOf([{ name: 'out/evil', body: 'x' }]), target)).rejects.toThrow('leaves the target');
  await unpackTo(archiveOf([{ name: 'up', type: 'symlink', linkname: '../..' }]), target);
  expect(existsSync(join(target, 'up'))).toBe(false);
  expect(existsSync(join(folder, 'evil'))).toBe(false);
});
