/** Hand-over of real spools to a storage that the test keeps, with deaths and refusals on the way. */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { readdirSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { HandOver } from '../../../agent-daemon/handover/handover.ts';
import { readChunk } from '../../../agent-daemon/handover/chunker.ts';
import type { Disk } from '../../../agent-daemon/disk.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import { attendedSpawn } from '../../../agent-daemon/processes/supervisor.ts';
import type { ProcessSpool } from '../../../agent-daemon/output/process-spool.ts';
import { Spools } from '../../../agent-daemon/output/spools.ts';
import { systemClock, systemDisk, systemRandom } from '../../../agent-daemon/platform.ts';
import { mainProcessId } from '../../../agent-daemon/sessions/main-process.ts';
import { EdgeRefusal, type Upload } from '../../../agent-daemon/tunnel/edge-api.ts';
import { chunkOutputBytes, decodeChunk, HandOverEnd, parseChunkName } from '../../../schema/log/chunk.ts';
import type { Clock, Failpoints } from '../../../schema/ports.ts';
import type { AgentFailpoint } from '../../../schema/failpoints.ts';
import { seededRandom } from '../../support/random.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { processRecord } from '../output/process-record.ts';
import { keptLog, ManualTimers, noFailpoints } from '../ports.ts';

const sessionId = `ses_${'0'.repeat(26)}_1_1`;
const ref = { sessionId, generation: 1, processId: mainProcessId(sessionId, 1) };
const record = (spoolBytes = 64 * 1024 * 1024) => processRecord(spoolBytes);
const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).toReversed()) await close();
});

/** Object storage as the edge keeps it. */
class Storage {
  readonly objects = new Map<string, { raw: Buffer; sha256: string; missing: string | undefined }>();
  readonly puts: string[] = [];
  /** Asked before each put. */
  refuse: (path: string) => Error | undefined = () => undefined;
  /** Awaited in each put. */
  meanwhile: () => Promise<void> = () => Promise.resolve();

  readonly upload: Upload = async (path, headers, body) => {
    this.puts.push(path);
    const refused = this.refuse(path);
    if (refused) throw refused;
    await this.meanwhile();
    const raw = path.endsWith('/end') ? Buffer.from(body) : gunzipSync(body);
    const sha256 = headers['causeway-sha256'] ?? createHash('sha256').update(raw).digest('hex');
    const known = this.objects.get(path);
    if (known !== undefined && known.sha256 !== sha256)
      throw new EdgeRefusal(409, 'archive_chunk_conflict', undefined, undefined);
    this.objects.set(path, { raw, sha256, missing: headers['causeway-missing'] });
  };

  /** Chunks of a stream, in order. */
  chunks(stream: 'stdout' | 'stderr', process = 'main') {
    const prefix = `/agent/v1/blobs/logs/${sessionId}/1/${process}/${stream}/`;
    return [...this.objects]
      .filter(([path]) => path.startsWith(prefix))
      .map(([path, { raw, missing }]) => {
        const { from, to } = parseChunkName(path.slice(prefix.length))!;
        return { from, to, missing, bytes: Buffer.concat(decodeChunk(raw).map(({ bytes }) => bytes)) };
      })
      .sort((a, b) => a.from - b.from);
  }

  get end(): HandOverEnd | undefined {
    const found = this.objects.get(`/agent/v1/blobs/logs/${sessionId}/1/main/end`);
    return found && HandOverEnd.parse(JSON.parse(found.raw.toString()));
  }
}

interface Life {
  spools: Spools;
  handOver: HandOver;
  timers: ManualTimers;
  log: ReturnType<typeof keptLog>;
}

/** One run of an agent on a directory. */
async function live(
  root: string,
  storage: Storage,
  more: { failpoints?: Failpoints<AgentFailpoint>; disk?: Disk; clock?: Clock; everyMs?: number } = {},
): Promise<Life> {
  const timers = new ManualTimers();
  const log = keptLog();
  const ports = { disk: systemDisk, clock: systemClock, timers, log, failpoints: noFailpoints, ...more };
  const loops = new Loops(ports);
  const spools = new Spools({ root, totalBytes: 1e9, ...ports, loops });
  await spools.start();
  const gzip = (bytes: Uint8Array) => Promise.resolve(gzipSync(bytes));
  const { upload } = storage;
  const handOver = new HandOver({
    spools,
    everyMs: 60_000,
    random: systemRandom,
    ...ports,
    ...more,
    loops,
    upload,
    gzip,
  });
  closing.push(async () => {
    await handOver.stop();
    await spools.stop();
  });
  return { spools, handOver, timers, log };
}

async function put(spool: ProcessSpool, stream: 'stdout' | 'stderr', bytes: Uint8Array): Promise<void> {
  await spool.log(stream).append(spool.log(stream).end, 1000, bytes);
}

const random = seededRandom(7);
const noise = (count: number) => Buffer.from(random.bytes(count));
const joined = (chunks: readonly { bytes: Buffer }[]) => Buffer.concat(chunks.map(({ bytes }) => bytes));

it('hands all of an ended session over, in chunks, with how it ended, and never again', async () => {
  const dir = tmpDir('handover');
  const storage = new Storage();
  const first = await live(dir.path, storage);
  const [out, err] = [noise(5 * 1024 * 1024), noise(1000)];
  const spool = await first.spools.create(ref, record());
  await put(spool, 'stdout', out);
  await put(spool, 'stderr', err);
  await spool.exited({ exitCode: 3, reason: 'exited', atMs: 5 });
  await first.spools.generationEnded(sessionId, 1);
  first.handOver.start();
  await until(() => storage.end, { what: 'the end to be told' });
  expect(storage.end).toEqual({
    exit: { exitCode: 3, reason: 'exited' },
    ends: { stdout: out.byteLength, stderr: 1000 },
  });
  expect(storage.chunks('stdout')).toHaveLength(3);
  expect(storage.chunks('stdout').every(({ bytes }) => bytes.byteLength <= chunkOutputBytes)).toBe(true);
  expect(joined(storage.chunks('stdout')).equals(out)).toBe(true);
  expect(joined(storage.chunks('stderr')).equals(err)).toBe(true);
  await until(() => readdirSync(join(dir.path, sessionId, 'g1')).includes('handed-over'), { what: 'it to be noted' });
  const before = storage.puts.length;
  const second = await live(dir.path, storage);
  second.handOver.start();
  await second.handOver.stop();
  expect(storage.puts).toHaveLength(before);
});

it('hands over what is new of a session that runs, at each look', async () => {
  const storage = new Storage();
  const now = { ms: 0 };
  const clock = { ...systemClock, bootMs: () => now.ms };
  const { spools, handOver, timers } = await live(tmpDir('handover').path, storage, { clock });
  const spool = await spools.create(ref, record());
  await put(spool, 'stdout', Buffer.from('one\n'));
  handOver.start();
  await until(() => storage.chunks('stdout').length === 1, { what: 'the first chunk' });
  await put(spool, 'stdout', Buffer.from('two\n'));
  await until(
    () => {
      now.ms += 60_000;
      timers.fire();
      return storage.chunks('stdout').length === 2;
    },
    { what: 'the second chunk' },
  );
  expect(storage.chunks('stdout').map(({ from, to }) => [from, to])).toEqual([
    [0, 4],
    [4, 8],
  ]);
  expect(storage.end).toBeUndefined();
});

it('takes of a log that is being written what was there, in time, whatever is written and ends meanwhile', async () => {
  const storage = new Storage();
  const now = { ms: 0 };
  const clock = { ...systemClock, bootMs: () => now.ms };
  const { spools, handOver, timers } = await live(tmpDir('handover').path, storage, { clock });
  const spool = await spools.create(ref, record());
  const write = () => put(spool, 'stdout', Buffer.from('x\n'));
  await write();
  storage.meanwhile = write;
  handOver.start();
  await until(() => storage.chunks('stdout').length > 0, { what: 'the first chunk' });
  const other = `ses_${'1'.repeat(26)}_1_1`;
  const ended = await spools.create({ sessionId: other, generation: 1, processId: mainProcessId(other, 1) }, record());
  await ended.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  await spools.generationEnded(other, 1);
  await until(() => storage.objects.has(`/agent/v1/blobs/logs/${other}/1/main/end`), { what: 'a session that ended' });
  expect(storage.chunks('stdout').map(({ from, to }) => [from, to])).toEqual([[0, 2]]);
  await until(
    () => {
      now.ms += 60_000;
      timers.fire();
      return storage.chunks('stdout')[1];
    },
    { what: 'the next look' },
  );
  expect(storage.chunks('stdout')[1]).toMatchObject({ from: 2 });
});

describe('a death', () => {
  const places = [
    ['handover.plan', 'before'],
    ['handover.plan', 'after'],
    ['handover.put', 'before'],
    ['handover.put', 'after'],
  ] as const;

  it.each(places.flatMap(([name, phase]) => [1, 2, 3].map((nth) => [name, phase, nth] as const)))(
    'at %s (%s), chunk %i, loses and doubles nothing, though more was written meanwhile',
    async (name, phase, nth) => {
      const dir = tmpDir('handover');
      const storage = new Storage();
      let visits = 0;
      const died = Promise.withResolvers<void>();
      const die = (at: string, when: string) => {
        if (at !== name || when !== phase || ++visits !== nth) return Promise.resolve();
        died.resolve();
        // Nothing of this life goes on.
        return new Promise<void>(() => undefined);
      };
      const failpoints = {
        before: (at: string) => die(at, 'before'),
        after: (at: string) => die(at, 'after'),
        unknown: () => false,
      };
      const first = await live(dir.path, storage, { failpoints });
      const out = noise(5 * 1024 * 1024);
      const spool = await first.spools.create(ref, record());
      await put(spool, 'stdout', out);
      first.handOver.start();
      await died.promise;
      // It is dead: nobody waits for what it was about to do.
      closing.splice(-1, 1, () => first.spools.stop());
      await spool.log('stdout').sync();

      const second = await live(dir.path, storage);
      const more = noise(1024 * 1024);
      const again = (await second.spools.openLive(ref))!;
      await put(again, 'stdout', more);
      await again.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
      await second.spools.generationEnded(sessionId, 1);
      second.handOver.start();
      await until(() => storage.end, { what: 'the end to be told' });
      const chunks = storage.chunks('stdout');
      expect(joined(chunks).equals(Buffer.concat([out, more]))).toBe(true);
      expect(chunks.map(({ from }) => from)).toEqual([0, ...chunks.map(({ to }) => to)].slice(0, chunks.length));
    },
  );
});

it('tries again with back-off while the edge does not answer, and holds nothing up', async () => {
  const storage = new Storage();
  storage.refuse = () => new EdgeRefusal(503, 'edge_overloaded', undefined, 100);
  const { spools, handOver, timers, log } = await live(tmpDir('handover').path, storage);
  const spool = await spools.create(ref, record());
  await put(spool, 'stdout', Buffer.from('kept'));
  handOver.start();
  await until(() => storage.puts.length === 1, { what: 'the first try' });
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  await spools.generationEnded(sessionId, 1);
  storage.refuse = () => undefined;
  await until(
    () => {
      timers.fire();
      return storage.end;
    },
    { what: 'the end to be told' },
  );
  expect(joined(storage.chunks('stdout')).toString()).toBe('kept');
  expect(log.lines.filter(({ message }) => message.includes('could not be handed over'))).toHaveLength(1);
});

it('leaves alone what the edge does not want, and hands the rest over', async () => {
  const storage = new Storage();
  const other = `prc_${'1'.repeat(26)}`;
  storage.refuse = (path) =>
    path.includes('/main/') ? new EdgeRefusal(404, 'session_not_found', undefined, undefined) : undefined;
  const { spools, handOver } = await live(tmpDir('handover').path, storage);
  for (const processId of [ref.processId, other]) {
    const spool = await spools.create({ ...ref, processId }, record());
    await put(spool, 'stdout', Buffer.from(processId));
    await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  }
  handOver.start();
  await until(() => storage.objects.has(`/agent/v1/blobs/logs/${sessionId}/1/${other}/end`), { what: 'the other one' });
  await until(() => storage.puts.some((path) => path.includes('/main/')), { what: 'it to be offered' });
  await handOver.stop();
  expect(storage.puts.filter((path) => path.includes('/main/'))).toHaveLength(1);
});

it('hands over nothing of terminals beside the session, nor of what only passed through', async () => {
  const storage = new Storage();
  const { spools, handOver } = await live(tmpDir('handover').path, storage);
  const typed = { ...record(), tty: true };
  const pipe = { ...record(), spawn: attendedSpawn };
  for (const [digit, each] of [typed, pipe].entries()) {
    const spool = await spools.create({ ...ref, processId: `prc_${String(digit).repeat(26)}` }, each);
    await put(spool, 'stdout', Buffer.from('secret'));
    await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  }
  const main = await spools.create(ref, typed);
  await put(main, 'stdout', Buffer.from('shown'));
  await main.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  handOver.start();
  await until(() => storage.end, { what: 'the main process' });
  await handOver.stop();
  expect([...storage.objects.keys()].filter((path) => !path.includes('/main/'))).toEqual([]);
});

it('says what is missing, and never makes a chunk over it', async () => {
  const storage = new Storage();
  const { spools, handOver } = await live(tmpDir('handover').path, storage);
  const spool = await spools.create(ref, record(64 * 1024));
  const out = noise(300 * 1024);
  for (let at = 0; at < out.byteLength; at += 1024) await put(spool, 'stdout', out.subarray(at, at + 1024));
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  handOver.start();
  await until(() => storage.end, { what: 'the end to be told' });
  const [first] = storage.chunks('stdout');
  expect(first).toMatchObject({ missing: 'spool-full', to: out.byteLength });
  expect(joined(storage.chunks('stdout')).equals(out.subarray(first!.from))).toBe(true);
});

it('says why what was to be sent is missing where the log let go of it first', async () => {
  const dir = tmpDir('handover');
  const storage = new Storage();
  const died = Promise.withResolvers<void>();
  const die = (at: string) => {
    if (at !== 'handover.put') return Promise.resolve();
    died.resolve();
    return new Promise<void>(() => undefined);
  };
  const first = await live(dir.path, storage, { failpoints: { ...noFailpoints, before: die } });
  const spool = await first.spools.create(ref, record(64 * 1024));
  await put(spool, 'stdout', noise(1024));
  first.handOver.start();
  await died.promise;
  closing.splice(-1, 1, () => first.spools.stop());
  await spool.log('stdout').sync();

  const second = await live(dir.path, storage);
  const again = (await second.spools.openLive(ref))!;
  const more = noise(300 * 1024);
  for (let at = 0; at < more.byteLength; at += 1024) await put(again, 'stdout', more.subarray(at, at + 1024));
  await again.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  second.handOver.start();
  await until(() => storage.end, { what: 'the end to be told' });
  const [chunk] = storage.chunks('stdout');
  expect(chunk).toMatchObject({ missing: 'spool-full', to: 1024 + more.byteLength });
  expect(chunk!.from).toBeGreaterThan(1024);
});

it('waits when the disk is full, and goes on when it is not', async () => {
  const storage = new Storage();
  let isFull = false;
  const full = Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
  const disk: Disk = {
    ...systemDisk,
    open: (path, flags, mode) =>
      isFull && path.includes('handover.new') ? Promise.reject(full) : systemDisk.open(path, flags, mode),
  };
  const { spools, handOver, timers, log } = await live(tmpDir('handover').path, storage, { disk });
  const spool = await spools.create(ref, record());
  await put(spool, 'stdout', Buffer.from('kept'));
  await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  isFull = true;
  handOver.start();
  await until(() => log.lines.some(({ message }) => message.includes('could not be handed over')), { what: 'a try' });
  expect(storage.puts).toEqual([]);
  isFull = false;
  await until(
    () => {
      timers.fire();
      return storage.end;
    },
    { what: 'the end to be told' },
  );
  expect(joined(storage.chunks('stdout')).toString()).toBe('kept');
});

/** Of a directory's names some come before `main`, some behind. */
const others = ['0', '1', 'z'].map((digit) => `prc_${digit.repeat(26)}`);

/** Processes that have ended; of `main` the disk does not give the second file for as long as it is bad. */
async function onBadDisk(code = 'EIO') {
  const storage = new Storage();
  const now = { ms: 0, isBad: false };
  const broken = Object.assign(new Error(code), { code });
  const isBroken = (path: string) => now.isBad && path.includes(ref.processId) && /stdout-0*[1-9]/.test(path);
  const disk: Disk = {
    ...systemDisk,
    open: (path, flags, mode) => (isBroken(path) ? Promise.reject(broken) : systemDisk.open(path, flags, mode)),
  };
  const clock = { ...systemClock, bootMs: () => now.ms };
  const { spools, handOver, timers, log } = await live(tmpDir('handover').path, storage, { disk, clock });
  const out = noise(3 * 8192);
  for (const processId of [ref.processId, ...others]) {
    const spool = await spools.create({ ...ref, processId }, record(64 * 1024));
    for (let at = 0; at < out.byteLength; at += 8192) await put(spool, 'stdout', out.subarray(at, at + 8192));
    await spool.exited({ exitCode: 0, reason: 'exited', atMs: 5 });
  }
  now.isBad = true;
  handOver.start();
  const passUntil = (isDue: () => unknown, what: string, stepMs: number | (() => number)) =>
    until(
      () => {
        now.ms += typeof stepMs === 'number' ? stepMs : stepMs();
        timers.fire();
        return isDue();
      },
      { what },
    );
  return { storage, now, out, log, passUntil };
}

it.each(['EIO', 'EACCES', 'EPERM'])(
  'leaves alone what the disk does not give (%s), hands the rest over, and that too when it is there again',
  async (code) => {
    const { storage, now, out, log, passUntil } = await onBadDisk(code);
    for (const other of others) {
      const isThere = () => storage.objects.has(`/agent/v1/blobs/logs/${sessionId}/1/${other}/end`);
      await passUntil(isThere, 'another one', 500);
      expect(joined(storage.chunks('stdout', other)).equals(out)).toBe(true);
    }
    await passUntil(() => log.lines.some(({ message }) => message.includes('trying again')), 'a try in vain', 500);
    now.isBad = false;
    await passUntil(() => storage.end, 'the end to be told', 500);
    expect(joined(storage.chunks('stdout')).equals(out)).toBe(true);
    expect(storage.chunks('stdout').map(({ missing }) => missing)).not.toContain('damaged');
  },
);

it('after a day says that what the disk does not give is missing, and hands over what is behind it', async () => {
  const { storage, now, out, passUntil } = await onBadDisk();
  await passUntil(() => storage.end, 'the end to be told', 600_000);
  expect(now.ms).toBeGreaterThan(24 * 3_600_000);
  expect(storage.chunks('stdout').map(({ from, to, missing }) => [from, to, missing])).toEqual([[0, 8192, undefined]]);
  expect(storage.end).toMatchObject({ ends: { stdout: out.byteLength }, missing: { stdout: 'damaged' } });
  expect(joined(storage.chunks('stdout')).equals(out.subarray(0, 8192))).toBe(true);
});

it('does not wait for another day where the edge does not answer just then', async () => {
  const { storage, now, passUntil } = await onBadDisk();
  let refused = 0;
  storage.refuse = (path) =>
    path.endsWith('/main/end') && refused++ === 0 ? new EdgeRefusal(503, 'edge_overloaded', undefined, 100) : undefined;
  // Small steps behind the refusal: another day of them would take longer than is waited.
  await passUntil(
    () => storage.end,
    'the end to be told',
    () => (refused === 0 ? 600_000 : 1_000),
  );
  expect(refused).toBe(2);
  expect(now.ms).toBeGreaterThan(24 * 3_600_000);
});

it('cuts the same chunk again when its end is given', async () => {
  const { spools } = await live(tmpDir('handover').path, new Storage());
  const spool = await spools.create(ref, record());
  await put(spool, 'stdout', Buffer.from('0123456789'));
  const chunk = await readChunk(spool.log('stdout'), 2, { limit: 5, givesUp: true });
  expect([chunk.from, chunk.to, Buffer.concat(chunk.records.map(({ bytes }) => bytes)).toString()]).toEqual([
    2,
    5,
    '234',
  ]);
});
