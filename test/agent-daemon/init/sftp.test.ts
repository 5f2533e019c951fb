/** The file server that every container has: with the real client, and with one that says what no real client would. */
import { createHash, randomBytes } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { start } from '../../support/process.ts';
import { byTier } from '../../support/tier.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { initBinary } from './harness.ts';
import { isStatus, noAttrs, RawSftp, sftp, str, u32, u64 } from './raw-sftp.ts';

let far: TmpDir;
let near: TmpDir;
beforeEach(() => {
  far = tmpDir('far');
  near = tmpDir('near');
});
afterEach(() => {
  far.remove();
  near.remove();
});

const there = (name: string) => join(far.path, name);
const here = (name: string) => join(near.path, name);
const sha = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

/** Runs OpenSSH's client on these lines and answers what it printed. */
function batch(...lines: string[]): string {
  const command = ['-q', '-b', '-', '-D', `${initBinary} sftp ${far.path}`];
  return execFileSync('sftp', command, { input: `${lines.join('\n')}\n`, cwd: near.path, stdio: 'pipe' }).toString();
}

describe('with the real client', () => {
  it('[T5] carries files both ways, whole, from where one stopped, and with their times and modes', () => {
    writeFileSync(here('big'), randomBytes(20_000_003));
    chmodSync(here('big'), 0o640);
    writeFileSync(here('empty'), '');
    batch('put -p big', 'put empty', 'get -p big again', '-rm none');
    expect(sha(there('big'))).toBe(sha(here('big')));
    expect(sha(here('again'))).toBe(sha(here('big')));
    expect(statSync(there('big')).mode & 0o777).toBe(0o640);
    expect(Math.floor(statSync(here('again')).mtimeMs / 1000)).toBe(Math.floor(statSync(here('big')).mtimeMs / 1000));
    expect(statSync(there('empty')).size).toBe(0);
    writeFileSync(here('again'), readFileSync(here('big')).subarray(0, 7_000_001));
    writeFileSync(there('part'), readFileSync(here('big')).subarray(0, 9_000_001));
    batch('reget big again', 'reput big part');
    expect([sha(here('again')), sha(there('part'))]).toEqual([sha(here('big')), sha(here('big'))]);
  });

  it('lists, makes, renames, links and removes', () => {
    writeFileSync(there('a file'), 'abc');
    const said = batch('mkdir d', 'ls -l', 'rename "a file" d/b', 'chmod 600 d/b', 'ln -s b d/link', 'ln d/b d/hard');
    expect(said).toMatch(/-rw-r--r-- +1 \d+ +\d+ +3 \w{3} +\d+ \d\d:\d\d a file\n/);
    expect(readlinkSync(there('d/link'))).toBe('b');
    expect(statSync(there('d/hard')).ino).toBe(statSync(there('d/b')).ino);
    expect(statSync(there('d/b')).mode & 0o777).toBe(0o600);
    expect(batch('ls -1 d', 'df', 'pwd')).toMatch(new RegExp(`d/b\\s+d/hard\\s+d/link[^]*${realpathSync(far.path)}`));
    batch('rm d/*', 'rmdir d');
    expect(readdirSync(far.path).filter((name) => !name.startsWith('.'))).toEqual([]);
  });

  it('carries a tree', () => {
    mkdirSync(here('tree/deep/deeper'), { recursive: true });
    for (let n = 0; n < 250; n++) writeFileSync(here(`tree/deep/${n}`), String(n));
    writeFileSync(here('tree/deep/deeper/last'), 'last');
    batch('put -R tree', 'get -R tree back');
    expect(readdirSync(there('tree/deep'))).toHaveLength(251);
    expect(readFileSync(here('back/deep/deeper/last'), 'utf8')).toBe('last');
    expect(readdirSync(here('back/deep'))).toHaveLength(251);
  });
});

describe('asked by hand', () => {
  let server: RawSftp;
  beforeEach(() => {
    server = new RawSftp(far.path);
  });
  afterEach(async () => {
    server.child.stdin.end();
    server.child.kill('SIGKILL');
    await server.exited;
  });
  const mode = (value: number) => Buffer.concat([u32(4), u32(value)]);
  const status = async (type: number, ...parts: Uint8Array[]) => (await server.ask(type, ...parts)).code;
  const extended = (name: string, ...parts: Uint8Array[]) =>
    server.ask(sftp.extended, str(`${name}@openssh.com`), ...parts);

  it('[T5] tells its version and what else it can, and says no to the rest', async () => {
    const version = await server.greet();
    expect(version.readUInt32BE(0)).toBe(3);
    for (const name of [
      'posix-rename',
      'hardlink',
      'statvfs',
      'fstatvfs',
      'fsync',
      'lsetstat',
      'limits',
      'expand-path',
    ])
      expect(version.toString()).toContain(`${name}@openssh.com`);
    expect((await extended('no-such-thing')).code).toBe(8);
    expect(await status(77)).toBe(8);
    const limits = (await extended('limits')).body;
    expect([0, 8, 16, 24].map((at) => Number(limits.readBigUInt64BE(at)))).toEqual([262_144, 261_120, 261_120, 256]);
  });

  it('reads and writes anywhere, appends, and knows the end', async () => {
    await server.greet();
    const file = await server.handle(sftp.open, str('f'), u32(1 | 2 | 8), noAttrs);
    expect(await status(sftp.write, file, u64(1_000_000), str('end'))).toBe(0);
    expect(await status(sftp.read, file, u64(1_000_003), u32(10))).toBe(1);
    const { body } = await server.ask(sftp.read, file, u64(999_998), u32(999_999_999));
    expect(body.subarray(4).toString()).toBe('\0\0end');
    expect(await status(sftp.write, file, u64(2n ** 63n), str('x'))).toBe(4);
    expect(await status(sftp.read, file, u64(2n ** 64n - 1n), u32(1))).toBe(1);
    const behind = await server.handle(sftp.open, str('f'), u32(2 | 4), noAttrs);
    expect(await status(sftp.write, behind, u64(0), str('more'))).toBe(0);
    expect(readFileSync(there('f')).subarray(-7).toString()).toBe('endmore');
    expect(await status(sftp.fsetstat, behind, Buffer.concat([u32(1), u64(2)]))).toBe(0);
    expect((await extended('fsync', behind)).code).toBe(0);
    expect((await extended('fstatvfs', behind)).body.byteLength).toBe(88);
    expect(statSync(there('f')).size).toBe(2);
  });

  it('[T6] has so many handles, each good until it is closed', async () => {
    await server.greet();
    writeFileSync(there('f'), 'abc');
    const all = [];
    for (let n = 0; n < 256; n++) all.push(await server.handle(sftp.open, str('f'), u32(1), noAttrs));
    expect(await status(sftp.open, str('f'), u32(1), noAttrs)).toBe(4);
    expect(await status(sftp.opendir, str('.'))).toBe(4);
    expect(await status(sftp.close, all[7]!)).toBe(0);
    const next = await server.handle(sftp.open, str('f'), u32(1), noAttrs);
    expect(next).not.toEqual(all[7]);
    expect(await status(sftp.read, all[7]!, u64(0), u32(1))).toBe(4);
    expect(await status(sftp.close, str(''))).toBe(4);
    expect(await status(sftp.close, str(Buffer.alloc(8, 255)))).toBe(4);
    expect(await status(sftp.readdir, next)).toBe(4);
  });

  it('[T5] renames onto nothing, unless it is asked as POSIX does', async () => {
    await server.greet();
    for (const name of ['a', 'b', 'c']) writeFileSync(there(name), name);
    expect(await status(sftp.rename, str('a'), str('b'))).toBe(4);
    expect((await extended('posix-rename', str('a'), str('b'))).code).toBe(0);
    expect(await status(sftp.rename, str('b'), str('new'))).toBe(0);
    expect(readFileSync(there('new'), 'utf8')).toBe('a');
    expect((await extended('hardlink', str('c'), str('new'))).code).toBe(4);
    expect(await status(sftp.rename, str('none'), str('new2'))).toBe(2);
  });

  it('knows links, and what a path would be', async () => {
    await server.greet();
    const root = realpathSync(far.path);
    expect(await status(sftp.symlink, str('nowhere'), str('dangling'))).toBe(0);
    expect(readlinkSync(there('dangling'))).toBe('nowhere');
    expect(await server.name(sftp.readlink, str('dangling'))).toBe('nowhere');
    expect(await status(sftp.stat, str('dangling'))).toBe(2);
    expect((await server.ask(sftp.lstat, str('dangling'))).type).toBe(105);
    expect((await extended('lsetstat', str('dangling'), Buffer.concat([u32(8), u32(5), u32(6)]))).code).toBe(0);
    expect(lstatSync(there('dangling')).mtimeMs).toBe(6000);
    const paths = ['', '.', 'new', 'new/', './d/..', 'no/such', '/', '/..'];
    mkdirSync(there('d'));
    expect(await Promise.all(paths.map((path) => server.name(sftp.realpath, str(path))))).toEqual([
      root,
      root,
      `${root}/new`,
      `${root}/new`,
      root,
      2,
      '/',
      '/',
    ]);
    const home = process.env['HOME'] ?? root;
    const expanded = await extended('expand-path', str('~/x'));
    expect(expanded.body.subarray(8, 8 + expanded.body.readUInt32BE(4)).toString()).toBe(join(realpathSync(home), 'x'));
    expect((await extended('expand-path', str('~nobody/x'))).code).toBe(2);
  });

  it('gives a large directory in parts, each file once', async () => {
    await server.greet();
    const names = Array.from({ length: 1000 }, (_, n) => `${n}-${'n'.repeat(200)}`);
    mkdirSync(there('many'));
    for (const name of names) writeFileSync(there(`many/${name}`), '');
    const directory = await server.handle(sftp.opendir, str('many'));
    const seen: string[] = [];
    for (let answer = await server.ask(sftp.readdir, directory); answer.type !== isStatus;) {
      let at = 4;
      for (let left = answer.body.readUInt32BE(0); left > 0; left--) {
        const size = answer.body.readUInt32BE(at);
        seen.push(answer.body.subarray(at + 4, at + 4 + size).toString());
        at += 4 + size;
        at += 4 + answer.body.readUInt32BE(at) + 32;
      }
      expect(at).toBe(answer.body.byteLength);
      answer = await server.ask(sftp.readdir, directory);
    }
    expect(seen.toSorted()).toEqual([...names, '.', '..'].toSorted());
    expect(await status(sftp.read, directory, u64(0), u32(1))).toBe(4);
  });

  it('says what is not allowed, or not there', async () => {
    await server.greet();
    expect(await status(sftp.open, str('none'), u32(1), noAttrs)).toBe(2);
    expect(await status(sftp.mkdir, str('d'), mode(0o700))).toBe(0);
    expect(statSync(there('d')).mode & 0o777).toBe(0o700);
    expect(await status(sftp.mkdir, str('d'), noAttrs)).toBe(4);
    expect(await status(sftp.rmdir, str('none'))).toBe(2);
    expect(await status(sftp.remove, str('d'))).toBe(4);
    expect(await status(sftp.open, str('d'), u32(2), noAttrs)).toBe(4);
    symlinkSync('loop', there('loop'));
    expect(await status(sftp.open, str('loop'), u32(1), noAttrs)).toBe(2);
    expect(await status(sftp.setstat, str('none'), mode(0o600))).toBe(2);
  });

  it('[T5] answers what is malformed, and goes on', async () => {
    await server.greet();
    expect(await status(sftp.open, str('f'))).toBe(5);
    expect(await status(sftp.stat, u32(4_000_000_000))).toBe(5);
    expect(await status(sftp.stat, str('a\0b'))).toBe(5);
    expect(await status(sftp.stat, str('a'.repeat(4096)))).toBe(5);
    expect(await status(sftp.setstat, str('a'), u32(0x8000_0000), u32(0xffff_ffff))).toBe(5);
    expect(await status(sftp.extended)).toBe(5);
    expect(await status(sftp.stat, str('.'))).toBe(-1);
  });

  it.each([
    ['is too long', Buffer.alloc(262_145)],
    ['has no id', Buffer.from([sftp.stat, 0])],
    ['is empty', Buffer.alloc(0)],
    ['greets again', Buffer.from([sftp.init, 0, 0, 0, 3])],
  ])('[T5] ends at a request that %s', async (_what, packet) => {
    await server.greet();
    server.send(packet);
    expect(await server.exited).toEqual({ code: 1, signal: null });
    expect(server.stderr).toMatch(/^causeway: sftp: /);
  });

  it('[T5] ends when it is not greeted first', async () => {
    server.send(Buffer.from([sftp.stat, 0, 0, 0, 1, 0, 0, 0, 1, 46]));
    expect(await server.exited).toEqual({ code: 1, signal: null });
  });

  it('[T6] waits for a client that does not read, and holds nothing for it', async () => {
    await server.greet();
    writeFileSync(there('big'), randomBytes(4 * 1024 * 1024));
    const file = await server.handle(sftp.open, str('big'), u32(1), noAttrs);
    server.child.stdout.pause();
    const reads = Array.from({ length: 200 }, (_, n) => server.ask(sftp.read, file, u64(n * 20_000), u32(200_000)));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${server.child.pid}/status`, 'utf8'))?.[1]);
    expect(peak).toBeLessThan(process.env['CAUSEWAY_TEST_INIT'] === undefined ? 2048 : 1_000_000);
    server.child.stdout.resume();
    const bytes = (await Promise.all(reads)).map(({ body }) => body.byteLength - 4);
    expect(bytes.every((each) => each === 200_000)).toBe(true);
  });

  it('[T5] answers each of many random requests, or ends as it says', async () => {
    // Links that it makes lead out of its directory, and requests change what they lead to: nothing of others is near.
    const root = there('far/away/from/others');
    mkdirSync(root, { recursive: true });
    const deep = new RawSftp(root);
    await deep.greet();
    const paths = ['.', 'a', 'b', 'd', 'd/a', 'd/..', 'link', ''];
    const pick = <Value>(values: readonly Value[]): Value => values[Math.floor(Math.random() * values.length)]!;
    const parts = () => [
      pick([str(pick(paths)), str(pick(paths)), str(Buffer.concat([u32(1), u32(pick([0, 1, 2]))])), u32(0)]),
      pick([str(pick(paths)), u64(pick([0, 5, 1e9])), u32(pick([0, 1, 2, 8, 0x1b, 0xffff]))]),
      pick([u32(pick([0, 1, 4, 8, 15, 300])), str('data'), Buffer.alloc(0)]),
    ];
    const types = [...Object.values(sftp).filter((type) => type !== sftp.init), 99];
    const rounds = byTier({ daily: 2000, full: 20_000 });
    const answers: Promise<unknown>[] = [];
    for (let n = 0; n < rounds; n++) {
      answers.push(deep.ask(pick(types), ...parts()));
      if (n % 50 === 49) await Promise.all(answers.splice(0));
    }
    await Promise.all(answers);
    deep.child.stdin.end();
    expect(await deep.exited).toEqual({ code: 0, signal: null });
  });
});

it('[T1] is not taken for a socket by an init that has no such tool, which says how it is used', async () => {
  const child = start(initBinary, ['no-such-tool', '.']);
  expect(await child.exited).toEqual({ code: 2, signal: null });
  expect(child.output()).toMatch(/^usage: causeway-init/);
});
