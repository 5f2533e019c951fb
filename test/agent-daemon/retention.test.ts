/** What has ended is kept for its time, that no change of the wall clock touches, and no longer, whatever the disk does. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { Disk } from '../../agent-daemon/disk.ts';
import { Spools } from '../../agent-daemon/output/spools.ts';
import { systemDisk } from '../../agent-daemon/platform.ts';
import { Homes } from '../../agent-daemon/sessions/homes.ts';
import { tmpDir } from '../support/tmp.ts';
import { until } from '../support/wait.ts';
import { LoopWorld } from './loop-world.ts';
import { processRecord } from './output/process-record.ts';
import { noFailpoints } from './ports.ts';

const dir = tmpDir('kept');
afterAll(() => dir.remove());

const hourMs = 3_600_000;
const record = processRecord(1024 * 1024);

describe('what has ended', () => {
  async function homesOf(world: LoopWorld, root: string): Promise<Homes> {
    const homes = new Homes(root, world);
    await homes.start();
    return homes;
  }

  it('leaves its home for 24 hours, over a restart and over any change of the wall clock', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'homes');
    let homes = await homesOf(world, root);
    await homes.ensure('ses_a');
    await homes.ensure('ses_live');
    writeFileSync(join(root, 'ses_a', 'file'), 'kept');
    await homes.sessionEnded('ses_a');
    // A year ahead, and back beyond the beginning: neither is time that passed.
    for (const jumpMs of [365 * 24 * hourMs, -730 * 24 * hourMs]) {
      world.wall += jumpMs;
      await world.pass(600_000);
      expect(existsSync(join(root, 'ses_a', 'file'))).toBe(true);
    }
    await world.pass(20 * hourMs);
    await homes.stop();
    homes = await homesOf(world, root);
    await world.pass(1000);
    expect(existsSync(join(root, 'ses_a', 'file'))).toBe(true);
    await world.pass(4 * hourMs);
    await until(() => !existsSync(join(root, 'ses_a')), { what: 'the end of the home' });
    expect(existsSync(join(root, 'ses_live'))).toBe(true);
    await homes.stop();
  });

  it('is kept from the beginning again when another generation comes', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'again');
    const homes = await homesOf(world, root);
    await homes.ensure('ses_a');
    await homes.sessionEnded('ses_a');
    await world.pass(23 * hourMs);
    await homes.ensure('ses_a');
    await world.pass(100 * hourMs);
    expect(existsSync(join(root, 'ses_a'))).toBe(true);
    await homes.stop();
  });

  it('leaves its output for 7 days, whatever the wall clock says', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'output');
    const generation = join(root, 'ses_a', 'g1');
    mkdirSync(join(generation, 'prc_a'), { recursive: true });
    writeFileSync(join(generation, 'prc_a', 'stdout-0000000000000000'), 'x');
    const { clock, timers, loops, log } = world;
    const spools = new Spools({
      root,
      totalBytes: 1e9,
      disk: systemDisk,
      clock,
      timers,
      loops,
      log,
      failpoints: noFailpoints,
    });
    await spools.start();
    await spools.generationEnded('ses_a', 1);
    world.wall += 30 * 24 * hourMs;
    await world.pass(hourMs);
    expect(existsSync(generation)).toBe(true);
    await world.pass(8 * 24 * hourMs);
    await until(() => !existsSync(generation), { what: 'the end of the output' });
    await spools.stop();
  });

  it('is removed also where another home can not be, and that is told', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'stuck');
    const broken = Object.assign(new Error('i/o error'), { code: 'EIO' });
    world.disk = {
      ...systemDisk,
      rm: (path, how) => (path.endsWith('ses_a') ? Promise.reject(broken) : systemDisk.rm(path, how)),
    };
    const homes = await homesOf(world, root);
    for (const id of ['ses_a', 'ses_b', 'ses_c']) {
      await homes.ensure(id);
      await homes.sessionEnded(id);
    }
    await world.pass(25 * hourMs);
    await until(() => !existsSync(join(root, 'ses_b')) && !existsSync(join(root, 'ses_c')), { what: 'both to go' });
    expect(existsSync(join(root, 'ses_a'))).toBe(true);
    await until(() => world.loops.troubled().length > 0, { what: 'it to be told' });
    expect(world.loops.troubled()).toMatchObject([{ name: 'sweep of homes', error: 'Error: i/o error' }]);
    await homes.stop();
  });

  it('does not begin its time anew where the disk takes no note of it', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'full');
    const full = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    let isFull = false;
    const write = () => Promise.reject(full);
    world.disk = {
      ...systemDisk,
      // As of a file system that frees what is cut, and has given it to another before it is written.
      writeFile: async (path, ...how) => systemDisk.writeFile(path, isFull ? '' : how[0], how[1]),
      open: async (path, ...how) => {
        const file = await systemDisk.open(path, ...how);
        return isFull ? Object.assign(file, { write }) : file;
      },
    };
    const homes = await homesOf(world, root);
    await homes.ensure('ses_a');
    await homes.sessionEnded('ses_a');
    await world.pass(20 * hourMs);
    isFull = true;
    await world.pass(hourMs);
    await world.pass(5 * hourMs);
    await until(() => !existsSync(join(root, 'ses_a')), { what: 'the end of the home' });
    await homes.stop();
  });

  it('makes room also where other output can not be removed, or looked at', async () => {
    const world = new LoopWorld();
    const root = join(dir.path, 'room');
    const { clock, timers, loops, log } = world;
    const broken = Object.assign(new Error('i/o error'), { code: 'EIO' });
    const disk: Disk = {
      ...systemDisk,
      rm: (path, how) => (path.includes('ses_a') ? Promise.reject(broken) : systemDisk.rm(path, how)),
      readdir: (path) => (path.endsWith('ses_b') ? Promise.reject(broken) : systemDisk.readdir(path)),
    };
    const spools = new Spools({ root, totalBytes: 2000, disk, clock, timers, loops, log, failpoints: noFailpoints });
    for (const id of ['ses_a', 'ses_b', 'ses_c']) {
      const process = join(root, id, 'g1', 'prc_a');
      mkdirSync(process, { recursive: true });
      writeFileSync(join(process, 'stdout-0000000000000000'), Buffer.alloc(900));
      writeFileSync(join(root, id, 'g1', 'ended'), '1 0');
    }
    let isStarted = false;
    const started = spools.start().then(() => (isStarted = true));
    await until(async () => (await world.pass(1000), isStarted), { what: 'the start' });
    await started;
    expect((await spools.generations()).map(({ sessionId }) => sessionId).toSorted()).toEqual(['ses_a', 'ses_c']);
    const spool = await spools.create({ sessionId: 'ses_d', generation: 1, processId: 'prc_a' }, record);
    await spool.log('stdout').append(0, 1, Buffer.alloc(900));
    await until(() => !existsSync(join(root, 'ses_c')), { what: 'room to be made' });
    expect(spools.usedBytes).toBeLessThanOrEqual(2000);
    await spools.stop();
  });
});
