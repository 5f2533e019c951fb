import { writeFileSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { ProcessSpool } from '../../../agent-daemon/output/process-spool.ts';
import { Spools, type SpoolRef } from '../../../agent-daemon/output/spools.ts';
import { StreamReader } from '../../../agent-daemon/output/stream-reader.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { tmpDir } from '../../support/tmp.ts';
import { ManualTimers, keptLog, noFailpoints } from '../ports.ts';
import { processRecord } from './process-record.ts';

const ref: SpoolRef = { sessionId: 'ses_x', generation: 1, processId: 'prc_x' };
const record = processRecord(1024 * 1024);
const opened: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0)) await close();
});

it('[S9] gives a reader that came before the writer what is written later, after a restart of the agent', async () => {
  const dir = tmpDir('spools');
  const before = await start(dir.path);
  await (await before.create(ref, record)).log('stdout').append(0, 1, Buffer.from('before '));
  await before.stop();

  const after = await start(dir.path);
  const [read, writer, again] = await Promise.all([after.read(ref), after.openLive(ref), after.read(ref)]);
  const reader = new StreamReader(read!.spool.log('stdout'), 0, { live: true });
  expect(await text(reader)).toBe('before ');
  const more = reader.log.whenBeyond(reader.position, AbortSignal.timeout(10_000));
  await writer!.log('stdout').append(7, 2, Buffer.from('after'));
  await more;
  expect(await text(reader)).toBe('after');
  expect(again!.spool).toBe(writer);
  expect(await after.create(ref, record)).toBe(writer);
  await reader.close();
});

it('lets each reader of an ended process have a spool of its own, and closes it', async () => {
  const dir = tmpDir('spools');
  const spools = await start(dir.path);
  const spool = await spools.create(ref, record);
  await spool.log('stdout').append(0, 1, Buffer.from('all'));
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 2 });
  await spools.close(ref);
  const [one, two] = await Promise.all([spools.read(ref), spools.read(ref)]);
  expect(one!.spool).not.toBe(two!.spool);
  for (const each of [one!, two!]) {
    expect(await text(new StreamReader(each.spool.log('stdout'), 0, { live: false }))).toBe('all');
    await each.done();
  }
});

it('records the end of a process, also where the disk fails at first', async () => {
  const dir = tmpDir('spools');
  let fails = false;
  const open: typeof systemDisk.open = async (path, ...how) => {
    const file = await systemDisk.open(path, ...how);
    if (!path.endsWith('/process')) return file;
    const write = file.write.bind(file);
    const torn = async ([bytes, from, , at]: Parameters<typeof write>) => {
      await write(bytes, from, 100, at);
      throw Object.assign(new Error('i/o error'), { code: 'EIO' });
    };
    return Object.assign(file, { write: (...what: Parameters<typeof write>) => (fails ? torn(what) : write(...what)) });
  };
  const before = await start(dir.path, { ...systemDisk, open });
  const spool = await before.create(ref, record);
  const exit = { exitCode: 3, reason: 'exited', atMs: 2 };
  fails = true;
  for (const _ of ['once', 'twice']) await expect(spool.exited(exit)).rejects.toMatchObject({ code: 'EIO' });
  // What was there before is there still.
  expect((await ProcessSpool.peek(systemDisk, spool.dir))?.argv).toEqual(record.argv);
  fails = false;
  await spool.exited(exit);
  await before.stop();

  const read = await (await start(dir.path)).read(ref);
  expect(read!.spool.record.exit).toEqual(exit);
  await read!.done();
});

it('ends what has no end, and passes over a file that is none of its own', async () => {
  const dir = tmpDir('spools');
  const spools = await start(dir.path);
  await spools.create(ref, record);
  writeFileSync(`${dir.path}/ses_x/g1/notes`, 'of somebody');
  await spools.endAll('ses_x', 1, { reason: 'host-lost', atMs: 2 });
  const read = await spools.read(ref);
  expect(read!.spool.record.exit).toMatchObject({ reason: 'host-lost' });
  await read!.done();
});

it('lets go of a process that has ended, also where its output can not be synced', async () => {
  const dir = tmpDir('spools');
  const open: typeof systemDisk.open = async (path, ...how) => {
    const file = await systemDisk.open(path, ...how);
    const datasync = () => Promise.reject(Object.assign(new Error('i/o error'), { code: 'EIO' }));
    return path.endsWith('/process') ? file : Object.assign(file, { datasync });
  };
  const spools = await start(dir.path, { ...systemDisk, open });
  const spool = await spools.create(ref, record);
  await spool.log('stdout').append(0, 1, Buffer.from('all'));
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 2 });
  await spools.close(ref);
  const read = await spools.read(ref);
  expect(read!.spool).not.toBe(spool);
  expect(await text(new StreamReader(read!.spool.log('stdout'), 0, { live: false }))).toBe('all');
  await read!.done();
});

it('forgets processes of a session while others are made in it', async () => {
  const dir = tmpDir('spools');
  const spools = await start(dir.path);
  const live = async (worker: number) => {
    for (let round = 0; round < 200; round++) {
      const mine = { ...ref, processId: `prc_${worker}_${round}` };
      const spool = await spools.create(mine, record);
      await spool.log('stdout').append(0, 1, Buffer.from('kept'));
      expect(await text(new StreamReader(spool.log('stdout'), 0, { live: false }))).toBe('kept');
      await spool.exited({ exitCode: 0, reason: 'exited', atMs: 2 });
      await spools.forget(mine);
    }
  };
  await Promise.all(Array.from({ length: 2 }, (_, worker) => live(worker)));
  expect(spools.usedBytes).toBe(0);
});

it('holds no file open of a process whose output can not be opened', async () => {
  const dir = tmpDir('spools');
  const held = new Set<object>();
  let isRefused = false;
  const open: typeof systemDisk.open = async (path, ...how) => {
    if (isRefused && path.includes('/stdout-')) throw Object.assign(new Error('refused'), { code: 'EACCES' });
    const file = await systemDisk.open(path, ...how);
    held.add(file);
    const close = file.close.bind(file);
    return Object.assign(file, { close: () => (held.delete(file), close()) });
  };
  const spools = await start(dir.path, { ...systemDisk, open });
  const spool = await spools.create(ref, record);
  await spool.log('stdout').append(0, 1, Buffer.from('all'));
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 2 });
  await spools.close(ref);
  expect(held.size).toBe(0);
  isRefused = true;
  await expect(spools.read(ref)).rejects.toThrow('refused');
  expect(held.size).toBe(0);
});

async function start(root: string, disk = systemDisk): Promise<Spools> {
  const ports = {
    disk,
    clock: systemClock,
    timers: new ManualTimers(),
    log: keptLog(),
    failpoints: noFailpoints,
  };
  const spools = new Spools({ root, totalBytes: 1e9, ...ports, loops: new Loops(ports) });
  await spools.start();
  opened.push(() => spools.stop());
  return spools;
}

/** What is stored and not yet read. */
async function text(reader: StreamReader): Promise<string> {
  let said = '';
  for (let item = await reader.next(); item !== undefined; item = await reader.next()) {
    if (item.kind === 'bytes') said += item.bytes.toString();
  }
  return said;
}
