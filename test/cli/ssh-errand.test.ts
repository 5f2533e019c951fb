/** What the proxy makes of the OpenSSH that started it: by the real programs, which are told to run a proxy that only looks. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { carriesFiles } from '../../cli/ssh/errand.ts';
import { type TmpDir, tmpDir } from '../support/tmp.ts';

let dir: TmpDir;
const here = (name: string) => join(dir.path, name);
beforeAll(() => {
  dir = tmpDir('err');
  const errand = join(import.meta.dirname, '../../cli/ssh/errand.ts');
  writeFileSync(
    here('look.ts'),
    `import { writeFileSync } from 'node:fs';
import { carriesFiles, wordsOfParent } from '${errand}';
writeFileSync('${here('seen')}', String(carriesFiles(wordsOfParent())));
`,
  );
  writeFileSync(here('config'), `Host *\n  ProxyCommand '${process.execPath}' '${here('look.ts')}' %h\n`);
  mkdirSync(here('repo'));
});
afterAll(() => dir.remove());

const ssh = () => `ssh -F ${here('config')}`;
it.each<[string, boolean, () => string[]]>([
  ['scp', true, () => ['scp', '-F', here('config'), here('look.ts'), 'far:']],
  ['scp -O', true, () => ['scp', '-O', '-p', '-F', here('config'), here('look.ts'), 'far:']],
  ['scp -r from there', true, () => ['scp', '-r', '-F', here('config'), 'far:x', here('y')]],
  ['sftp', true, () => ['sftp', '-F', here('config'), 'far']],
  ['rsync', true, () => ['rsync', '-a', '-e', ssh(), here('repo'), 'me@far:x']],
  ['git', true, () => ['git', '-c', `core.sshCommand=${ssh()}`, 'ls-remote', 'far:x']],
  ['a command', false, () => [...ssh().split(' '), 'far', 'ls', '-s']],
  ['a shell', false, () => [...ssh().split(' '), '-t', '-l', 'me', 'far']],
  ['a master', false, () => [...ssh().split(' '), '-M', '-N', '-S', here('ctl'), 'far']],
])('%s: %s', (_, files, argv) => {
  rmSync(here('seen'), { force: true });
  const [program = '', ...args] = argv();
  spawnSync(program, args, { stdio: ['ignore', 'ignore', 'ignore'], timeout: 60_000 });
  expect(existsSync(here('seen'))).toBe(true);
  expect(readFileSync(here('seen'), 'utf8')).toBe(String(files));
});

it('takes whom it does not know for a person', () => {
  expect(carriesFiles([])).toBe(false);
  expect(carriesFiles(['ssh', 'far', 'echo', 'rsync', 'me'])).toBe(false);
  expect(carriesFiles(['ssh', 'sftp'])).toBe(false);
});
