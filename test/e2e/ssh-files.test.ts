/** scp and sftp of the real OpenSSH into images that have no server for it: a Debian, one with musl, an empty one. */
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emptyImage, importEmpty, importMusl, muslImage } from '../support/images.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { OpenSsh } from './open-ssh.ts';

const megabytes = 64;
const room = ['--cpu', '0.5', '--mem', '64m'];
const sha = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const seconds = (path: string) => Math.floor(statSync(path).mtimeMs / 1000);

describe.runIf(tier === 'full')('files by SSH', () => {
  let stack: Stack;
  let open: OpenSsh;
  const here = (name: string) => join(stack.dir, name);

  beforeAll(async () => {
    stack = await startStack();
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    await importMusl(engine.docker);
    await importEmpty(engine.docker);
    open = await OpenSsh.prepare(stack);
    await Promise.all([
      open.session('debian', pythonImage, room),
      open.session('musl', muslImage, room),
      open.session('empty', emptyImage, room),
    ]);
    writeFileSync(here('big'), randomBytes(megabytes * 1024 ** 2 + 1));
    mkdirSync(here('tree/deep/deeper'), { recursive: true });
    for (let n = 0; n < 120; n++) writeFileSync(here(`tree/deep/${n}`), String(n));
    writeFileSync(here('tree/deep/deeper/tool'), '#!/bin/sh\n');
    chmodSync(here('tree/deep/deeper/tool'), 0o750);
    symlinkSync('deep', here('tree/link'));
  }, 300_000);
  afterAll(() => stack?.stop());

  describe.each(['debian', 'musl', 'empty'])('in %s', (name) => {
    const at = `${name}.causeway`;
    const scp = (...args: string[]) => open.run('scp', args);
    const batch = (lines: string[]) => open.run('sftp', ['-b', '-', at], `${lines.join('\n')}\n`);

    it(`carries ${megabytes} MiB each way by scp`, async () => {
      expect(await scp('-p', here('big'), `${at}:`)).toMatchObject({ status: 0, stderr: '' });
      expect(await scp('-p', `${at}:big`, here(`${name}-back`))).toMatchObject({ status: 0, stderr: '' });
      expect(sha(here(`${name}-back`))).toBe(sha(here('big')));
      expect(seconds(here(`${name}-back`))).toBe(seconds(here('big')));
    });

    it('carries trees, and says what is not there', async () => {
      expect(await scp('-r', here('tree'), `${at}:~/far`)).toMatchObject({ status: 0, stderr: '' });
      expect(await scp('-rp', `${at}:far`, here(`${name}-tree`))).toMatchObject({ status: 0, stderr: '' });
      expect(readdirSync(here(`${name}-tree/deep`)).toSorted()).toEqual(readdirSync(here('tree/deep')).toSorted());
      expect(statSync(here(`${name}-tree/deep/deeper/tool`)).mode & 0o777).toBe(0o750);
      const missing = await scp(`${at}:none`, here('none'));
      expect(missing).toMatchObject({ status: 1, stderr: expect.stringContaining('No such file') as string });
      const denied = await scp(here('tree/deep/1'), `${at}:/causeway/init`);
      expect(denied.status).toBe(1);
    });

    it('does what sftp asks for, and goes on where a copy stopped', async () => {
      writeFileSync(here(`${name}-part`), readFileSync(here('big')).subarray(0, 10_000_001));
      const ran = await batch([
        'mkdir d',
        `put ${here('tree/deep/7')} d/seven`,
        'rename d/seven d/7',
        'chmod 600 d/7',
        'symlink 7 d/link',
        'ls -l d',
        `reget big ${here(`${name}-part`)}`,
        'rm d/*',
        'rmdir d',
        'pwd',
      ]);
      expect(ran).toMatchObject({ status: 0, stderr: '' });
      expect(ran.stdout).toMatch(/-rw------- +1 1000 +1000 +1 .* 7\nl/);
      expect(ran.stdout).toContain('Remote working directory: /home/work');
      expect(sha(here(`${name}-part`))).toBe(sha(here('big')));
      expect((await batch(['get none'])).status).toBe(1);
    });
  });

  it('serves an image without a shell, where a command says what is missing', async () => {
    const ran = await open.ssh(['empty.causeway', 'ls']);
    expect(ran).toMatchObject({ status: 127, stderr: expect.stringContaining('/bin/sh: No such file') as string });
  });
});
