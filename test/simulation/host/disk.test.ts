import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Disk, type OpenFlags, replaceDurably, writeFully } from '../../../agent-daemon/disk.ts';
import { systemDisk } from '../../../agent-daemon/platform.ts';
import { seededRandom } from '../../support/random.ts';
import { byTier } from '../../support/tier.ts';
import { tmpDir } from '../../support/tmp.ts';
import { VirtualTime } from '../clock.ts';
import { SimDisk, type SimDiskOptions } from './disk.ts';

const clock = { nowMs: () => 0, bootMs: () => 0 };
const newDisk = (options: Partial<SimDiskOptions> = {}): SimDisk =>
  new SimDisk({ clock, timers: new VirtualTime(), ...options });
const randomOf = (seed: number) => {
  const rng = seededRandom(seed);
  return { bytes: (count: number) => rng.bytes(count), fraction: () => rng.next() };
};

type Call =
  | { op: 'mkdir' | 'readdir' | 'readFile' | 'unlink' | 'rm' | 'rmdir' | 'rmTree' | 'stat' | 'sync'; path: string }
  | { op: 'writeFile'; path: string; text: string }
  | { op: 'rename'; path: string; to: string }
  | { op: 'write'; path: string; flags: OpenFlags; at: number; text: string }
  | { op: 'truncate'; path: string; size: number }
  | { op: 'read'; path: string; at: number; length: number };

const path = fc.constantFrom('/a', '/b', '/a/x', '/a/y', '/b/x', '/a/x/z');
const text = fc.string({ maxLength: 30 });
const small = fc.nat(60);
const call: fc.Arbitrary<Call> = fc.oneof(
  fc.record({
    op: fc.constantFrom('mkdir', 'mkdir', 'readdir', 'readFile', 'unlink', 'rm', 'rmdir', 'rmTree', 'stat', 'sync'),
    path,
  }),
  fc.record({ op: fc.constant('writeFile'), path, text }),
  fc.record({ op: fc.constant('rename'), path, to: path }),
  fc.record({
    op: fc.constant('write'),
    path,
    flags: fc.constantFrom('r+', 'w', 'w+', 'wx+', 'create'),
    at: small,
    text,
  }),
  fc.record({ op: fc.constant('truncate'), path, size: small }),
  fc.record({ op: fc.constant('read'), path, at: small, length: fc.integer({ min: 1, max: 60 }) }),
);

/** What a process sees of one call: the answer, or the code of the error. */
async function answer(disk: Disk, root: string, one: Call): Promise<unknown> {
  const at = root + one.path;
  const file = async (flags: OpenFlags, use: (opened: Awaited<ReturnType<Disk['open']>>) => Promise<unknown>) => {
    const opened = await disk.open(at, flags, 0o600);
    try {
      return await use(opened);
    } finally {
      await opened.close();
    }
  };
  switch (one.op) {
    case 'mkdir':
      return (await disk.mkdir(at, { recursive: true }))?.slice(root.length);
    case 'readdir':
      return (await disk.readdir(at)).toSorted();
    case 'readFile':
      return (await disk.readFile(at)).toString();
    case 'unlink':
      return disk.unlink(at);
    case 'rm':
      return disk.rm(at, { force: true });
    case 'rmdir':
      return disk.rmdir(at);
    case 'rmTree':
      return disk.rm(at, { recursive: true, force: true });
    case 'stat':
      return file('r', async (opened) => (await opened.stat()).size).catch(() => 'none');
    case 'sync':
      return file('r', (opened) => opened.sync());
    case 'writeFile':
      return disk.writeFile(at, one.text);
    case 'rename':
      return disk.rename(at, root + one.to);
    case 'write':
      return file(one.flags, (opened) => writeFully(opened, Buffer.from(one.text), one.at));
    case 'truncate':
      return file('r+', (opened) => opened.truncate(one.size));
    case 'read':
      return file('r', async (opened) => {
        const { bytesRead, buffer } = await opened.read(Buffer.alloc(one.length), 0, one.length, one.at);
        return buffer.subarray(0, bytesRead).toString();
      });
  }
}

async function seen(disk: Disk, root: string, one: Call): Promise<unknown> {
  try {
    return (await answer(disk, root, one)) ?? 'done';
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    // Which of two reasons a call that can not be names is the system's choice.
    return `refused ${/^(ENOTDIR|EISDIR|ERR_FS_EISDIR|EPERM|EINVAL|ENOENT)$/.test(code) ? 'path' : code}`;
  }
}

describe('the disk of a simulated host', () => {
  it('answers every sequence of calls as the file system does', async () => {
    using dir = tmpDir('disk');
    await fc.assert(
      fc.asyncProperty(fc.array(call, { maxLength: 40 }), async (calls) => {
        const root = mkdtempSync(join(dir.path, 'r-'));
        const sim = newDisk();
        await sim.mkdir('/root', { recursive: true });
        for (const one of calls) {
          // A directory's own size is the file system's affair; so is what moving a directory into itself is called.
          if (one.op === 'rename' && (one.to.startsWith(`${one.path}/`) || one.path.startsWith(`${one.to}/`))) continue;
          const [real, model] = [await seen(systemDisk, root, one), await seen(sim, '/root', one)];
          if (one.op !== 'stat' || (await seen(sim, '/root', { op: 'readdir', path: one.path })) === 'refused path')
            expect(model, JSON.stringify(one)).toEqual(real);
        }
      }),
      { numRuns: byTier({ daily: 100, full: 3000 }) },
    );
  });

  it('keeps after a loss of power everything that was synced, and of the rest no more than was written', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(),
        fc.array(fc.tuple(fc.nat(300), fc.boolean()), { maxLength: 30 }),
        async (seed, writes) => {
          const disk = newDisk();
          await disk.mkdir('/d', { recursive: true });
          const file = await disk.open('/d/f', 'create');
          let [written, synced] = [0, 0];
          const bytes = Buffer.alloc(10_000, 'x');
          for (const [length, sync] of writes) {
            await writeFully(file, bytes.subarray(0, length), written);
            written += length;
            if (!sync) continue;
            await file.sync();
            synced = written;
          }
          expect(disk.peek('/d/f')?.byteLength).toBe(written);
          expect(disk.synced('/d/f')).toEqual(bytes.subarray(0, synced));
          disk.powerLoss(randomOf(seed));
          const kept = disk.peek('/d/f');
          if (synced > 0) expect(kept?.subarray(0, synced)).toEqual(bytes.subarray(0, synced));
          expect(kept?.byteLength ?? 0).toBeLessThanOrEqual(written);
        },
      ),
    );
  });

  it('has a file that was replaced durably whole after a loss of power, the old one or the new one', async () => {
    for (let seed = 0; seed < 200; seed++) {
      const disk = newDisk();
      await disk.mkdir('/d', { recursive: true });
      await replaceDurably(disk, '/d/f', 'old');
      await disk.writeFile('/d/f.new', 'half of a new o');
      if (seed % 2 === 0) await disk.rename('/d/f.new', '/d/f');
      disk.powerLoss(randomOf(seed));
      const [name, content] = [seed % 2 === 0, disk.peek('/d/f')?.toString() ?? ''];
      if (!name) expect(content).toBe('old');
      await replaceDurably(disk, '/d/f', 'new');
      disk.powerLoss(randomOf(seed));
      expect(disk.peek('/d/f')?.toString()).toBe('new');
    }
  });

  it('can show every fate of an unsynced write: kept, lost, torn, and renamed without its content', async () => {
    const fates = new Set<string>();
    for (let seed = 0; seed < 300; seed++) {
      const disk = newDisk();
      await replaceDurably(disk, '/f', 'old');
      await disk.writeFile('/n', 'new content');
      await disk.rename('/n', '/f');
      disk.powerLoss(randomOf(seed));
      const content = disk.peek('/f')?.toString() ?? 'gone';
      fates.add(content.length > 3 && content !== 'new content' ? 'torn' : content);
    }
    expect([...fates].toSorted()).toEqual(expect.arrayContaining(['', 'new content', 'old', 'torn']));
  });

  it('is full at its limit, takes what still fits, and has room again for what was removed', async () => {
    const disk = newDisk({ limitBytes: 10_000 });
    const file = await disk.open('/f', 'create');
    const { bytesWritten } = await file.write(Buffer.alloc(20_000), 0, 20_000, 0);
    expect(bytesWritten).toBeGreaterThan(9_000);
    await expect(file.write(Buffer.alloc(1), 0, 1, bytesWritten)).rejects.toMatchObject({ code: 'ENOSPC' });
    await expect(disk.open('/g', 'create')).rejects.toMatchObject({ code: 'ENOSPC' });
    // What is there already can be written over.
    expect(await file.write(Buffer.alloc(100), 0, 100, 0)).toEqual({ bytesWritten: 100 });
    expect((await disk.statfs('/')).bavail).toBe(0);
    await disk.unlink('/f');
    await disk.writeFile('/g', 'x'.repeat(5_000));
  });
});
