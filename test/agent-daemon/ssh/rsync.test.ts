/** The real rsync against the agent's SSH server: with the copy of this machine's rsync where the session has none. */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Client } from 'ssh2';
import { SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { splitWords } from '../../../agent-daemon/ssh/words.ts';
import { gatherRsync } from '../../../agent-daemon/toolbox/gather.ts';
import { parseLinked } from '../../../agent-daemon/toolbox/linked.ts';
import { runToEnd } from '../../support/process.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { LiveSession } from '../live-session.ts';
import { connectTo, exec, run } from './dialled.ts';

let live: LiveSession;
let client: Client;
const clients: Client[] = [];
const servers: Server[] = [];
let near: TmpDir;
const here = (name: string) => join(near.path, name);
const there = (name: string) => join(live.dir.path, name);

beforeEach(async () => {
  near = tmpDir('rsy');
  live = await LiveSession.start();
  ({ client } = await connectTo(new SshConnections(live.of), clients));
  mkdirSync(here('dir/deep'), { recursive: true });
  writeFileSync(here('dir/big'), randomBytes(3_000_000));
  writeFileSync(here('dir/deep/two words $x'), 'small');
});
afterEach(async () => {
  for (const each of clients.splice(0)) each.destroy();
  for (const server of servers.splice(0)) server.close();
  await live.stop();
  near.remove();
});

/** Runs `rsync` here with the SSH server at the other end, and answers what `--stats` says of the bytes that were new. */
async function rsync(...args: string[]): Promise<number> {
  const path = here(`.socket-${servers.length}`);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.once('data', (line: Buffer) => {
      socket.pause();
      void exec(client, JSON.parse(line.toString())).then((channel) => {
        socket.write('go');
        socket.pipe(channel).pipe(socket);
        channel.stderr.pipe(process.stderr);
      });
    });
  });
  servers.push(server.listen(path));
  const shell = here('.shell.mjs');
  writeFileSync(
    shell,
    `import { connect } from 'node:net';
const socket = connect({ path: process.argv[2], allowHalfOpen: true });
socket.write(JSON.stringify(process.argv.slice(4).join(' ')));
socket.once('data', (bytes) => {
  process.stdout.write(bytes.subarray(2));
  process.stdin.pipe(socket);
  socket.pipe(process.stdout).on('unpipe', () => process.exit());
});
`,
  );
  const said = await runToEnd('rsync', ['--stats', '-e', `${process.execPath} ${shell} ${path}`, ...args]);
  return Number(/Literal data: ([\d,]+) bytes/.exec(said)![1]!.replaceAll(',', ''));
}

/** What is new in a file that was sent before. */
function change(): void {
  const bytes = readFileSync(here('dir/big'));
  bytes.write('changed', 1_500_000);
  writeFileSync(here('dir/big'), bytes);
  utimesSync(here('dir/big'), new Date(), new Date(Date.now() + 5000));
}

describe.each([
  ['whose PATH has none', () => void (live.path = '/none')],
  ['without a shell', () => void (live.hasShell = false)],
])('in a session %s, rsync', (_, prepare) => {
  it('sends a tree, then only what changed, and brings it back', async () => {
    prepare();
    expect(await rsync('-a', `${here('dir')}/`, 'far:in/')).toBeGreaterThanOrEqual(3_000_000);
    expect(readFileSync(there('in/deep/two words $x'), 'utf8')).toBe('small');
    change();
    const literal = await rsync('-a', `${here('dir')}/`, 'far:in/');
    expect(literal).toBeGreaterThan(0);
    expect(literal).toBeLessThan(20_000);
    expect(readFileSync(there('in/big'))).toEqual(readFileSync(here('dir/big')));
    await rsync('-a', 'far:in/', here('back'));
    expect(readFileSync(here('back/big'))).toEqual(readFileSync(here('dir/big')));
    await rsync('-a', 'far:in/deep/two words $x', here('one'));
    expect(readFileSync(here('one'), 'utf8')).toBe('small');
  });
});

it('takes the rsync that the session has', async () => {
  mkdirSync(there('bin'));
  writeFileSync(there('bin/rsync'), '#!/bin/sh\necho "its own: $*"\n');
  chmodSync(there('bin/rsync'), 0o755);
  live.path = `${there('bin')}:/bin:/usr/bin`;
  const ran = await run(await exec(client, 'rsync --server -e.LsfxC . x'));
  expect(ran).toMatchObject({ code: 0, stdout: 'its own: --server -e.LsfxC . x\n' });
});

it('says what to do where nobody has one, where a shell is needed, and where the session is too old', async () => {
  live.path = '/none';
  const ask = async (line: string) => run(await exec(client, line));
  live.hasRsync = false;
  const none = await ask('rsync --server . x');
  expect(none).toMatchObject({ code: 127, stdout: '' });
  expect(none.stderr).toMatch(/^causeway: neither the image nor its machine has rsync: .*apt-get install rsync.*\n$/);
  live.hasRsync = true;
  live.of.gatherRsync = () => Promise.resolve('rsync-that-is-not-mounted');
  expect((await ask('rsync --server . x')).stderr).toContain('start a new session');
  live.hasShell = false;
  expect((await ask('rsync --server --sender . *.txt')).stderr).toContain('the image has no shell');
});

describe('rsync of this machine', () => {
  it('is copied once for each version, whole, for everybody to read, and an older copy goes', async () => {
    const root = here('tools');
    mkdirSync(join(root, 'rsync-old'), { recursive: true, mode: 0o700 });
    const name = (await gatherRsync(root))!;
    expect(readdirSync(root)).toEqual([name]);
    const at = (path: string) => join(root, name, path);
    for (const path of ['.', 'lib', 'bin', 'loader', 'rsync', 'bin/rsync'])
      expect(statSync(at(path)).mode & 0o777).toBe(0o755);
    expect(execFileSync(at('bin/rsync'), ['--version'], { encoding: 'utf8', env: {} })).toMatch(/^rsync +version/);
    const { ino } = statSync(at('rsync'));
    expect(await gatherRsync(root)).toBe(name);
    expect(statSync(at('rsync')).ino).toBe(ino);
    writeFileSync(at('loader'), '');
    expect(await gatherRsync(root)).toBe(name);
    expect(statSync(at('loader')).size).toBeGreaterThan(0);
    rmSync(root, { recursive: true });
  });

  it('is none where its PATH has none', async () => {
    expect(await gatherRsync(here('tools'), '/none:')).toBe(undefined);
  });

  it('needs what the linker says, by glibc and by musl', () => {
    const glibc =
      '\tlinux-vdso.so.1 (0x00007ff)\n\tlibc.so.6 => /lib/libc.so.6 (0x00007f0)\n\t/lib64/ld.so.2 (0x00007f1)\n';
    expect(parseLinked(glibc)).toEqual({
      loader: '/lib64/ld.so.2',
      libraries: [{ name: 'libc.so.6', path: '/lib/libc.so.6' }],
    });
    const musl = '\t/lib/ld-musl-x86_64.so.1 (0x7f)\n\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f)\n';
    expect(parseLinked(musl)).toEqual({
      loader: '/lib/ld-musl-x86_64.so.1',
      libraries: [{ name: 'libc.musl-x86_64.so.1', path: '/lib/ld-musl-x86_64.so.1' }],
    });
    expect(parseLinked('\tlibpopt.so.0 => not found\n')).toBe(undefined);
  });
});

it.each([
  ['rsync --server . x', ['rsync', '--server', '.', 'x']],
  [String.raw`a\ b 'c  d'"e" f\$`, ['a b', 'c  de', 'f$']],
  [`'' ""`, ['', '']],
  ['a $b', undefined],
  ['*.txt', undefined],
  ['a; b', undefined],
  ['"$a"', undefined],
  ["'open", undefined],
  ['end\\', undefined],
])('finds the words of %s', (line, words) => expect(splitWords(line)).toEqual(words));
