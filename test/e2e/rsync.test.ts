/** The real rsync over OpenSSH into images that have none: a Debian, one with musl, one without even a shell. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, readlinkSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { emptyImage, importEmpty, importMusl, muslImage } from '../support/images.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { OpenSsh } from './open-ssh.ts';

const room = ['--cpu', '0.5', '--mem', '64m'];
const megabytes = 16;
const sha = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');

describe.runIf(tier === 'full')('rsync', () => {
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
    mkdirSync(here('dir/deep'), { recursive: true });
    writeFileSync(here('dir/big'), randomBytes(megabytes * 1024 ** 2));
    for (let n = 0; n < 200; n++) writeFileSync(here(`dir/deep/file ${n}`), String(n));
    symlinkSync('deep', here('dir/link'));
  }, 300_000);
  afterAll(() => stack?.stop());

  /** Runs it to its end, and answers the bytes that `--stats` says were new. */
  async function literal(...args: string[]): Promise<number> {
    const ran = await open.run('rsync', ['-a', '--stats', '-e', `ssh -F ${open.config}`, ...args]);
    expect(ran).toMatchObject({ status: 0, stderr: '' });
    return Number(/Literal data: ([\d,]+) bytes/.exec(ran.stdout)![1]!.replaceAll(',', ''));
  }

  it.each(['debian', 'musl', 'empty'])('carries a tree into %s, then only what changed, and back', async (name) => {
    const far = `${name}.causeway:dir/`;
    expect(await literal(`${here('dir')}/`, far)).toBeGreaterThanOrEqual(megabytes * 1024 ** 2);
    const bytes = readFileSync(here('dir/big'));
    bytes.write(`changed for ${name}`, 5_000_000);
    writeFileSync(here('dir/big'), bytes);
    utimesSync(here('dir/big'), new Date(), new Date(Date.now() + 5000));
    const again = await literal(`${here('dir')}/`, far);
    expect(again).toBeGreaterThan(0);
    expect(again).toBeLessThan(100_000);
    await literal(far, here(`${name}-back/`));
    expect(sha(here(`${name}-back/big`))).toBe(sha(here('dir/big')));
    expect(readFileSync(here(`${name}-back/deep/file 199`), 'utf8')).toBe('199');
    expect(readlinkSync(here(`${name}-back/link`))).toBe('deep');
    expect(Math.floor(statSync(here(`${name}-back/big`)).mtimeMs / 1000)).toBe(
      Math.floor(statSync(here('dir/big')).mtimeMs / 1000),
    );
  });
});
