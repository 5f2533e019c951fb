import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import * as fc from 'fast-check';
import { type Header, pack } from 'tar-stream';
import { afterAll, expect, it } from 'vitest';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { parseHomePath } from '../../../agent-daemon/files/home-path.ts';
import { packBeneath } from '../../../agent-daemon/files/pack.ts';
import { getStream, putStream } from '../../../agent-daemon/files/streams.ts';
import { Uploads } from '../../../agent-daemon/files/uploads.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import { systemClock, systemDisk } from '../../../agent-daemon/platform.ts';
import { Homes } from '../../../agent-daemon/sessions/homes.ts';
import { start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { ManualTimers, keptLog } from '../ports.ts';
import { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';

const dir = tmpDir('file');
afterAll(() => dir.remove());

class Place {
  readonly root = mkdtempSync(join(dir.path, 'p-'));
  readonly homes: Homes;
  uploads: Uploads;
  readonly home: string;
  readonly never = new AbortController().signal;
  readonly #ports;
  #uploads = 0;

  constructor() {
    const loops = new Loops({ clock: systemClock, timers: new ManualTimers(), log: keptLog() });
    this.#ports = { clock: systemClock, disk: systemDisk, loops };
    this.homes = new Homes(join(this.root, 'homes'), this.#ports);
    this.uploads = new Uploads(join(this.root, 'uploads'), this.#ports);
    this.home = join(this.root, 'homes', sessionId);
    mkdirSync(this.home, { recursive: true });
    mkdirSync(join(this.root, 'uploads'));
    // What nobody may read or change through a home.
    writeFileSync(join(this.root, 'canary'), 'secret');
  }

  /** The agent starts anew. */
  restart(): void {
    this.uploads = new Uploads(join(this.root, 'uploads'), this.#ports);
  }

  async put(bytes: Uint8Array, options: Partial<Extract<StreamOpen, { op: 'put' }>> = {}, split = 70_000) {
    const stream = new TestStream();
    const uploadId = options.uploadId ?? `upload-${++this.#uploads}`;
    const open = { op: 'put' as const, path: '', offset: 0, last: true, ...options, uploadId };
    const handler = putStream(this.homes, this.uploads, join(this.root, 'homes', '.staging'));
    const done = handler({ sessionId, generation: 1, actorId: 'x', open }, stream);
    done.catch(() => undefined);
    await Promise.race([done.catch(() => undefined), new Promise((resolve) => setTimeout(resolve, 20))]);
    stream.inputAt(open.offset, '');
    for (let at = 0; at < bytes.byteLength; at += split) stream.input(bytes.subarray(at, at + split));
    stream.endInput();
    await done;
    return stream;
  }

  async get(path = ''): Promise<Buffer> {
    const stream = new TestStream();
    await getStream(this.homes)({ sessionId, generation: 1, actorId: 'x', open: { op: 'get', path } }, stream);
    return Buffer.concat(stream.received.stdout);
  }
}

type Entry = Partial<Header> & { name: string; data?: string };

async function tar(...entries: Entry[]): Promise<Buffer> {
  const archive = pack();
  for (const { data = '', ...header } of entries) archive.entry({ type: 'file', ...header }, data);
  archive.finalize();
  return buffer(archive as unknown as Readable);
}

/** What Debian's own tar makes of an archive. */
function list(archive: Buffer): string[] {
  return execFileSync('tar', ['-tf', '-'], { input: archive, encoding: 'utf8' }).split('\n').filter(Boolean);
}

it('brings a tree in and out again as it was: content, modes, links, names of all kinds', async () => {
  const place = new Place();
  const long = 'n'.repeat(200);
  const source = join(place.root, 'source');
  mkdirSync(join(source, 'deep', long, 'ü'), { recursive: true });
  writeFileSync(join(source, 'deep', long, 'ü', 'data.bin'), Buffer.alloc(300_000, 7));
  writeFileSync(join(source, 'run.sh'), '#!/bin/sh\n', { mode: 0o755 });
  writeFileSync(join(source, 'empty'), '');
  symlinkSync('run.sh', join(source, 'link'));
  linkSync(join(source, 'run.sh'), join(source, 'twin'));
  await place.put(execFileSync('tar', ['-C', source, '-cf', '-', '.'], { maxBuffer: 1e8 }), { path: 'in/here' });
  const target = join(place.home, 'in', 'here');
  expect(spawnSync('diff', ['-r', '--no-dereference', source, target]).stdout.toString()).toBe('');
  expect(lstatSync(join(target, 'run.sh')).mode & 0o777).toBe(0o755);
  expect(readlinkSync(join(target, 'link'))).toBe('run.sh');
  const out = join(place.root, 'out');
  mkdirSync(out);
  execFileSync('tar', ['-C', out, '-xf', '-'], { input: await place.get('in/here') });
  expect(spawnSync('diff', ['-r', '--no-dereference', source, join(out, 'here')]).stdout.toString()).toBe('');
  expect(list(await place.get('in/here/run.sh'))).toEqual(['run.sh']);
  expect(list(await place.get(''))).toContain('in/here/run.sh');
});

it('gives what it unpacks to the owner of the home', async () => {
  const place = new Place();
  execFileSync('chown', ['1000:1000', place.home]);
  await place.put(await tar({ name: 'a/b/file', data: 'x', uid: 0, mode: 0o4755 }), { path: 'new/folder' });
  for (const path of ['new', 'new/folder', 'new/folder/a', 'new/folder/a/b', 'new/folder/a/b/file']) {
    expect(lstatSync(join(place.home, path))).toMatchObject({ uid: 1000, gid: 1000 });
  }
  expect(lstatSync(join(place.home, 'new/folder/a/b/file')).mode & 0o7777).toBe(0o755);
});

it('puts parts together, takes repeated parts, and refuses a hole', async () => {
  const place = new Place();
  const archive = await tar({ name: 'big', data: 'z'.repeat(200_000) }, { name: 'small', data: 'y' });
  const uploadId = 'one-upload-in-parts';
  await place.put(archive.subarray(0, 100_000), { uploadId, last: false });
  expect(readdirSync(place.home)).toEqual([]);
  await expect(place.put(archive.subarray(150_000), { uploadId, offset: 150_000 })).rejects.toMatchObject({
    code: 'session_file_offset',
  });
  const again = await place.put(archive.subarray(50_000, 120_000), { uploadId, offset: 50_000, last: false });
  expect(again.info).toEqual({ inputOffset: 100_000 });
  await place.put(archive.subarray(120_000), { uploadId, offset: 120_000 });
  expect(readFileSync(join(place.home, 'big'), 'utf8')).toBe('z'.repeat(200_000));
  expect(readFileSync(join(place.home, 'small'), 'utf8')).toBe('y');
  expect(readdirSync(join(place.root, 'uploads', sessionId))).toEqual([]);
});

it('takes a part anew of which an earlier run left bytes that were never answered', async () => {
  const place = new Place();
  const archive = await tar({ name: 'big', data: 'z'.repeat(200_000) });
  const uploadId = 'torn-by-a-loss-of-power';
  await place.put(archive.subarray(0, 100_000), { uploadId, last: false });
  // The next part had begun, and was not synced when the power went.
  appendFileSync(join(place.root, 'uploads', sessionId, uploadId), Buffer.alloc(30_000));
  place.restart();
  const again = await place.put(archive.subarray(100_000), { uploadId, offset: 100_000 });
  expect(again.info).toEqual({ inputOffset: 100_000 });
  expect(readFileSync(join(place.home, 'big'), 'utf8')).toBe('z'.repeat(200_000));
});

it('fills folders that are there, replaces files, and replaces a link without following it', async () => {
  const place = new Place();
  mkdirSync(join(place.home, 'folder'));
  writeFileSync(join(place.home, 'folder', 'old'), 'old');
  writeFileSync(join(place.home, 'folder', 'both'), 'old');
  symlinkSync(join(place.root, 'canary'), join(place.home, 'folder', 'link'));
  await place.put(
    await tar(
      { name: 'folder/new', data: 'new' },
      { name: 'folder/both', data: 'new' },
      { name: 'folder/link', data: 'mine' },
    ),
  );
  const read = (name: string) => readFileSync(join(place.home, 'folder', name), 'utf8');
  expect(['old', 'new', 'both', 'link'].map(read)).toEqual(['old', 'new', 'new', 'mine']);
  expect(readFileSync(join(place.root, 'canary'), 'utf8')).toBe('secret');
});

const bad: [string, Entry[]][] = [
  ['a way up', [{ name: '../evil' }]],
  ['a way up inside', [{ name: 'a/../../evil' }]],
  ['an absolute name', [{ name: '/tmp/evil' }]],
  ['a name that is only dots', [{ name: '..' }]],
  ['an absolute link', [{ name: 'l', type: 'symlink', linkname: '/etc' }]],
  ['a link up', [{ name: 'l', type: 'symlink', linkname: '../..' }]],
  ['a link that goes down and up', [{ name: 'a/l', type: 'symlink', linkname: 'b/../../..' }]],
  ['a file through a link', [{ name: 'l', type: 'symlink', linkname: 'x' }, { name: 'l/evil' }]],
  [
    'a link in place of a folder',
    [
      { name: 'd/', type: 'directory' },
      { name: 'd', type: 'symlink', linkname: 'x' },
    ],
  ],
  ['a hard link outside', [{ name: 'h', type: 'link', linkname: '../../canary' }]],
  ['an absolute hard link', [{ name: 'h', type: 'link', linkname: '/etc/shadow' }]],
  [
    'a hard link to a link',
    [
      { name: 'l', type: 'symlink', linkname: 'x' },
      { name: 'h', type: 'link', linkname: 'l' },
    ],
  ],
  ['a hard link to nothing', [{ name: 'h', type: 'link', linkname: 'later' }, { name: 'later' }]],
  ['a device', [{ name: 'd', type: 'block-device' }]],
  ['a character device', [{ name: 'd', type: 'character-device' }]],
  ['a pipe', [{ name: 'p', type: 'fifo' }]],
  ['the same name twice', [{ name: 'x' }, { name: 'x' }]],
  ['a long way down', [{ name: `${'d/'.repeat(70)}x` }]],
  ['a name that is too long', [{ name: 'n'.repeat(300) }]],
  // CVE-2026-26960: links that each look harmless, and a hard link through them.
  [
    'a chain of links and a hard link through it',
    [
      { name: 'a/b/c/up', type: 'symlink', linkname: '../..' },
      { name: 'a/b/escape', type: 'symlink', linkname: 'c/up/../..' },
      { name: 'exfil', type: 'link', linkname: 'a/b/escape/../../canary' },
    ],
  ],
  // CVE-2026-23745: targets of links that were not cleaned.
  [
    'an absolute target after a harmless file',
    [{ name: 'ok' }, { name: 'exfil', type: 'link', linkname: '/../../../canary' }],
  ],
];

it.each(bad)('refuses an archive with %s as a whole', async (_, entries) => {
  const place = new Place();
  const archive = await tar({ name: 'harmless', data: 'x' }, ...entries);
  await expect(place.put(archive)).rejects.toMatchObject({ code: 'session_file_archive_unsafe' });
  expect(readdirSync(place.home)).toEqual([]);
  expect(readdirSync(join(place.root, 'homes')).filter((name) => name !== sessionId)).toEqual(
    existsSync(join(place.root, 'homes', '.staging')) ? ['.staging'] : [],
  );
  expect(readFileSync(join(place.root, 'canary'), 'utf8')).toBe('secret');
});

it('refuses what is no whole archive', async () => {
  const place = new Place();
  const good = await tar({ name: 'file', data: 'x'.repeat(5000) });
  for (const bytes of [Buffer.from('not a tar'.repeat(100)), good.subarray(0, 3000), Buffer.alloc(100, 1)]) {
    await expect(place.put(bytes)).rejects.toMatchObject({ code: 'session_file_archive_unsafe' });
  }
  expect(readdirSync(place.home)).toEqual([]);
});

it.each([
  ['up', '../x'],
  ['down and up', 'a/../../x'],
  ['from the root', '/etc/passwd'],
  ['with a NUL', 'a\0b'],
  ['too long', 'x'.repeat(5000)],
  ['too deep', `${'d/'.repeat(80)}x`],
])('refuses a path %s', (_, path) => {
  expect(() => parseHomePath(path)).toThrow(expect.objectContaining({ code: 'session_file_unsafe' }) as Error);
});

it('never reads or writes through a link that a tenant has planted', async () => {
  const place = new Place();
  symlinkSync('..', join(place.home, 'up'));
  symlinkSync(join(place.root, 'canary'), join(place.home, 'leak'));
  symlinkSync(place.root, join(place.home, 'away'));
  for (const path of ['up/canary', 'away/canary', 'leak/x']) {
    await expect(place.get(path)).rejects.toMatchObject({ code: 'session_file_unsafe' });
    await expect(place.put(await tar({ name: 'x', data: '1' }), { path })).rejects.toMatchObject({
      code: 'session_file_unsafe',
    });
  }
  const all = await place.get('');
  expect(all.includes('secret')).toBe(false);
  expect(list(await place.get('leak'))).toEqual(['leak']);
  await expect(place.get('nothing')).rejects.toMatchObject({ code: 'session_file_not_found' });
});

it('packs no pipe, socket or device, and does not wait for one', async () => {
  const place = new Place();
  execFileSync('mkfifo', [join(place.home, 'pipe')]);
  execFileSync('mknod', [join(place.home, 'null'), 'c', '1', '3']);
  writeFileSync(join(place.home, 'file'), 'x');
  expect(list(await place.get(''))).toEqual(['file']);
});

it('stays beneath the home while a tenant swaps folders for links', async () => {
  const place = new Place();
  mkdirSync(join(place.home, 'real'));
  writeFileSync(join(place.home, 'real', 'canary'), 'mine');
  symlinkSync(place.root, join(place.home, 'evil'));
  const steps = ['mv -T real aside; rm -rf real; mv -T evil real', 'mv -T real evil; rm -rf real; mv -T aside real'];
  const swapper = start('sh', ['-c', `while :; do ${steps.join('; ')}; done 2>/dev/null`], { cwd: place.home });
  let found = 0;
  for (let round = 0; round < 200; round++) {
    try {
      const archive = await buffer((await packBeneath(place.home, ['real', 'canary'])) as unknown as Readable);
      expect(archive.includes('secret')).toBe(false);
      found++;
    } catch (error) {
      expect(error).toMatchObject({ code: expect.stringMatching(/^session_file_/) as string });
    }
    await place.put(await tar({ name: 'canary', data: 'mine' }), { path: 'real' }).catch(() => undefined);
    expect(readFileSync(join(place.root, 'canary'), 'utf8')).toBe('secret');
  }
  await swapper.kill9();
  expect(found).toBeGreaterThan(0);
}, 60_000);

it('packs a file that changes its size meanwhile as an archive that is still whole', async () => {
  const place = new Place();
  writeFileSync(join(place.home, 'log'), Buffer.alloc(2_000_000, 1));
  const archive = await packBeneath(place.home, ['log']);
  const reading = buffer(archive as unknown as Readable);
  writeFileSync(join(place.home, 'log'), 'short');
  expect(list(await reading)).toEqual(['log']);
});

it('passes over folders and links that go while it packs', async () => {
  const place = new Place();
  mkdirSync(join(place.home, 'tree', 'here'), { recursive: true });
  const step = 'mkdir d{1..20}; ln -s here l1; for n in {2..20}; do ln -s here l$n; done; rm -rf d? d?? l*';
  const changer = start('bash', ['-c', `while :; do ${step}; done 2>/dev/null`], { cwd: join(place.home, 'tree') });
  for (let round = 0; round < 300; round++) {
    const archive = await buffer((await packBeneath(place.home, ['tree'])) as unknown as Readable);
    expect(list(archive)).toContain('tree/here/');
  }
  await changer.kill9();
}, 60_000);

it('keeps the archive guard and the paths closed for anything that can be written down', async () => {
  const name = fc.oneof(
    fc.string({ maxLength: 30 }),
    fc.array(fc.constantFrom('..', '.', '', 'a', 'b', 'c', '/'), { maxLength: 6 }).map((parts) => parts.join('/')),
  );
  const entry = fc.record({
    name,
    type: fc.constantFrom('file', 'directory', 'symlink', 'link') as fc.Arbitrary<NonNullable<Header['type']>>,
    linkname: name,
  });
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { minLength: 1, maxLength: 6 }), async (entries) => {
      const place = new Place();
      const archive = await tar(...entries.filter((each) => each.name !== '')).catch(() => undefined);
      if (archive !== undefined) {
        await place.put(archive).catch((error: unknown) => {
          expect(error).toMatchObject({ code: expect.stringMatching(/^session_file_/) as string });
        });
      }
      expect(readFileSync(join(place.root, 'canary'), 'utf8')).toBe('secret');
      expect(readdirSync(place.root).toSorted()).toEqual(['canary', 'homes', 'uploads']);
      rmSync(place.root, { recursive: true });
    }),
    { numRuns: 60 },
  );
}, 60_000);

it('lets one write an upload at a time, and takes no more than 1 GiB', async () => {
  const place = new Place();
  const upload = await place.uploads.open(sessionId, 'aaaaaaaa', 0, place.never);
  const gone = AbortSignal.timeout(50);
  await expect(place.uploads.open(sessionId, 'aaaaaaaa', 0, gone)).rejects.toMatchObject({
    code: 'session_file_offset',
  });
  await expect(upload.write(0, new Uint8Array(1024 ** 3 + 1))).rejects.toMatchObject({
    code: 'request_body_too_large',
  });
  await upload.write(0, Buffer.from('ab'));
  const next = place.uploads.open(sessionId, 'aaaaaaaa', 2, place.never);
  await upload.close('open');
  expect(await next).toMatchObject({ sizeBytes: 2 });
  await (await next).close('refused');
  unlinkSync(join(place.root, 'canary'));
});

it('takes the last part again, after its answer was lost as well as after a death while it was unpacked', async () => {
  const place = new Place();
  const archive = await tar({ name: 'big', data: 'z'.repeat(200_000) });
  const uploadId = 'answered-in-vain';
  const staging = join(place.root, 'homes', '.staging', `${sessionId}-${uploadId}`);
  await place.put(archive.subarray(0, 100_000), { uploadId, last: false });
  mkdirSync(staging, { recursive: true });
  writeFileSync(join(staging, 'big'), 'zzz');
  await place.put(archive.subarray(100_000), { uploadId, offset: 100_000 });
  const again = await place.put(archive.subarray(100_000), { uploadId, offset: 100_000 });
  expect(again.info).toEqual({ inputOffset: archive.byteLength });
  expect(readFileSync(join(place.home, 'big'), 'utf8')).toBe('z'.repeat(200_000));
  // From its begin on it is another archive under the same name.
  await place.put(await tar({ name: 'big', data: 'other' }), { uploadId });
  expect(readFileSync(join(place.home, 'big'), 'utf8')).toBe('other');
  expect(readdirSync(join(place.root, 'uploads', sessionId))).toEqual([]);
});

it('lets an upload that was given up make room for a new one, and keeps none that it refused', async () => {
  const place = new Place();
  const part = await tar({ name: 'x', data: 'x' });
  for (let n = 0; n < 8; n++) await place.put(part, { uploadId: `given-up-${n}`, last: false });
  await expect(place.put(part)).rejects.toMatchObject({ code: 'agent_busy' });
  const folder = join(place.root, 'uploads', sessionId);
  utimesSync(join(folder, 'given-up-3'), new Date(), new Date(Date.now() - 3_600_000));
  await place.put(part);
  expect(readFileSync(join(place.home, 'x'), 'utf8')).toBe('x');
  mkdirSync(join(place.home, 'taken'));
  await expect(place.put(await tar({ name: 'taken', data: 'x' }))).rejects.toMatchObject({
    code: 'session_file_unsafe',
  });
  const left = [0, 1, 2, 4, 5, 6, 7].map((n) => `given-up-${n}`);
  expect(readdirSync(folder).toSorted()).toEqual(left);
});

it('never ends well without a file of which the name is no UTF-8', async () => {
  const place = new Place();
  writeFileSync(Buffer.concat([Buffer.from(`${place.home}/`), Buffer.from([0x66, 0xe9])]), 'x');
  await expect(place.get('')).rejects.toMatchObject({ code: 'session_file_unsafe' });
});
