import { execFileSync } from 'node:child_process';
import { lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { blockText, withBlock } from '../../cli/ssh/config.ts';
import { keyPath, knowHost, knownHostsPath, makeIdentity, publicKey } from '../../cli/ssh/identity.ts';
import { hostOptions } from '../../cli/ssh/options.ts';
import { tmpDir } from '../support/tmp.ts';

const main = join(import.meta.dirname, '../../cli/index.ts');
let home: ReturnType<typeof tmpDir>;
beforeEach(() => void (home = tmpDir('sshc')));
afterEach(() => home.remove());

const config = () => join(home.path, '.ssh/config');
const run = (file = config(), ...more: string[]) =>
  execFileSync(process.execPath, [main, 'ssh-config', '--file', file, ...more]);
/** What OpenSSH makes of a configuration, for one host. */
function seenBySsh(host: string, path: string): Map<string, string> {
  const text = execFileSync('ssh', ['-G', '-F', path, host], { encoding: 'utf8' });
  return new Map(text.split('\n').map((line) => [line.split(' ')[0]!, line.slice(line.indexOf(' ') + 1)]));
}

it('writes its block once, and OpenSSH understands it for sessions and leaves other hosts alone', () => {
  mkdirSync(join(home.path, '.ssh'));
  writeFileSync(config(), 'User me\nHost *\n  Compression yes\n', { mode: 0o640 });
  run();
  const first = readFileSync(config(), 'utf8');
  run();
  expect(readFileSync(config(), 'utf8')).toBe(first);
  expect(statSync(config()).mode & 0o777).toBe(0o640);
  const session = seenBySsh('lab.causeway', config());
  expect(session.get('proxycommand')).toBe(
    `${join(main, '../../causeway')} ssh-proxy --dir ${home.path}/.ssh/causeway %h`,
  );
  expect(session.get('stricthostkeychecking')).toBe('true');
  expect(session.get('userknownhostsfile')).toMatch(/\.ssh\/causeway\/hosts\/lab\.causeway$/);
  expect(session.get('forwardagent')).toBe('no');
  const other = seenBySsh('elsewhere', config());
  expect(other.get('proxycommand')).toBeUndefined();
  for (const seen of [session, other]) expect([seen.get('user'), seen.get('compression')]).toEqual(['me', 'yes']);
});

it('lets the own agent be asked only where that is wanted, and takes it back', () => {
  const isForwarded = (...more: string[]) => {
    run(config(), ...more);
    return [seenBySsh('lab.causeway', config()), seenBySsh('elsewhere', config())].map((seen) =>
      seen.get('forwardagent'),
    );
  };
  expect(isForwarded('--forward-agent')).toEqual(['yes', 'no']);
  expect(isForwarded()).toEqual(['no', 'no']);
});

it('replaces an older block in its place, whatever it said', () => {
  const written = withBlock('Host a\n', blockText('/old/causeway', '/d'));
  const moved = `Host z\n  Port 7\n${written}`;
  const again = withBlock(moved, blockText('/new/causeway', '/d'));
  expect(again).toBe(`Host z\n  Port 7\n${blockText('/new/causeway', '/d')}\nHost a\n`);
  expect(() => withBlock(blockText('/x', '/d').replace(/# --- end.*\n/, ''), blockText('/y', '/d'))).toThrow('no end');
});

it('follows a link to the file, and makes the file with rights for its owner alone', () => {
  run();
  expect(statSync(config()).mode & 0o777).toBe(0o600);
  const [kept, link] = [join(home.path, 'kept'), join(home.path, 'other/.ssh')];
  writeFileSync(kept, '# mine\n');
  mkdirSync(link, { recursive: true });
  symlinkSync(kept, join(link, 'config'));
  run(join(link, 'config'));
  expect(lstatSync(join(link, 'config')).isSymbolicLink()).toBe(true);
  expect(readFileSync(kept, 'utf8')).toMatch(/^# --- begin causeway[^]*# mine\n$/);
});

it('quotes what the shell and OpenSSH would take apart', () => {
  const dir = `${home.path}/a b'%c`;
  const options = hostOptions(['/opt/my node', "it's"], dir);
  const args = options.flatMap(([name, value]) => ['-o', `${name}=${value}`]);
  const seen = execFileSync('ssh', ['-G', '-F', 'none', ...args, 'lab.causeway'], { encoding: 'utf8' });
  expect(seen).toContain(`proxycommand '/opt/my node' 'it'\\''s' ssh-proxy --dir '${home.path}/a b'\\''%%c' %h\n`);
});

it('makes one key and stays with it, and keeps one key for each host', () => {
  makeIdentity(home.path);
  const key = publicKey(home.path);
  makeIdentity(home.path);
  expect(publicKey(home.path)).toBe(key);
  expect(statSync(keyPath(home.path)).mode & 0o777).toBe(0o600);
  knowHost(home.path, 'lab.causeway', key);
  const known = knownHostsPath(home.path, 'lab.causeway');
  for (const host of ['lab.causeway', '[lab.causeway]:2222'])
    expect(execFileSync('ssh-keygen', ['-F', host, '-f', known], { encoding: 'utf8' })).toContain(key);
});
