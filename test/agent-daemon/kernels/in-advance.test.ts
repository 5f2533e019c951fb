/** `init kernel --park` and `--take`: a kernel that is started before anybody asks for it, and is theirs as if it had not been. */
import { spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { mayBeInAdvance, nameInAdvance } from '../../../agent-daemon/kernels/in-advance.ts';
import { parseKernelspecs } from '../../../agent-daemon/kernels/kernelspecs.ts';
import { executeRequest, printed } from '../../support/jupyter-messages.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import { BridgeProcess, fakeArgv } from './bridge-process.ts';

const hasIpykernel = spawnSync('/usr/bin/python3', ['-c', 'import ipykernel']).status === 0;
const hasIrkernel = existsSync('/usr/share/jupyter/kernels/ir/kernel.json');

/** Leaves one waiting under a fresh name. Its connection file lies in `home`. */
function park(
  home: string,
  { argv = fakeArgv, options = [] as string[], env = {} as Record<string, string>, name = randomUUID() } = {},
) {
  const all = { PATH: process.env['PATH'], HOME: home, TMPDIR: home, ...env };
  const { status, stderr } = spawnSync(initBinary, ['kernel', '--park', name, ...options, '--', ...argv], {
    env: { ASAN_OPTIONS: process.env['ASAN_OPTIONS'] ?? '', ...all },
    encoding: 'utf8',
    timeout: 90_000,
  });
  return { name, status, stderr };
}

type Taking = { argv?: string[]; options?: string[]; env?: Record<string, string> };
const taker = (name: string, home: string, { argv = fakeArgv, options = [], env }: Taking = {}) =>
  new BridgeProcess({ argv, options: ['--take', name, ...options], env: { TMPDIR: home, ...env } });

/** Runs code, and answers what it printed. */
const sayingTo = (bridge: BridgeProcess) => async (code: string) => {
  const { id, record } = executeRequest(code);
  bridge.say(record);
  await bridge.whenDone(id);
  return printed(bridge.messages, id);
};

const isAlive = (pid: number) => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

/** Of its kernel, and of a process that the kernel has started. */
async function pidsOf(bridge: BridgeProcess): Promise<number[]> {
  const id = bridge.cell({ do: 'pids' });
  await bridge.whenDone(id);
  return printed(bridge.messages, id).trim().split(' ').map(Number);
}

const filesIn = (home: string) => readdirSync(home).filter((name) => name.startsWith('causeway-kernel-'));

/** The process of a kernel whose connection file lies in `home`. */
function kernelsOf(home: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      if (Number.isNaN(pid) || !isAlive(pid)) return false;
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${home}/causeway-kernel-`);
    });
}

describe('[J18] a kernel that was started in advance', () => {
  it('is taken once, and is the taker’s: it runs, writes, is interrupted, and ends as it ends', async () => {
    using home = tmpDir('advance');
    const { name, status } = park(home.path);
    expect(status).toBe(0);
    const [waiting] = kernelsOf(home.path);
    await using bridge = await taker(name, home.path).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready', inAdvance: true }]);
    const [pid] = await pidsOf(bridge);
    expect(pid).toBe(waiting);
    const big = 'e'.repeat(300_000);
    await bridge.whenDone(bridge.cell({ do: 'print', text: 'hello' }, { do: 'stderr', text: big }));
    await until(() => bridge.stderr.includes(big), { what: 'what it wrote past its channels' });
    const sleeping = bridge.cell({ do: 'print', text: 'begun' }, { do: 'sleep', ms: 1_000_000 });
    await until(() => printed(bridge.messages, sleeping) === 'begun', { what: 'the cell to sleep' });
    bridge.child.kill('SIGINT');
    await bridge.whenDone(sleeping);
    // Whoever comes second has one of its own.
    await using second = await taker(name, home.path).whenReady();
    expect(second.notes).toEqual([{ kind: 'ready' }]);
    expect((await pidsOf(second))[0]).not.toBe(pid);
    bridge.cell({ do: 'stderr', text: 'last words' }, { do: 'die', code: 7 });
    await bridge.whenClosed();
    expect(bridge.exit).toEqual({ code: 7, signal: null });
    expect(bridge.stderr).toMatch(/last words$/);
    expect(bridge.notes.at(-1)).toEqual({ kind: 'ended', exitCode: 7 });
    await until(() => filesIn(home.path).length === 1, { what: 'its connection file to be gone' });
  });

  it('is shut down politely, and dies of what kills it', async () => {
    using home = tmpDir('advance');
    await using polite = await taker(park(home.path).name, home.path).whenReady();
    polite.child.kill('SIGTERM');
    await polite.whenClosed();
    expect(polite.exit).toEqual({ code: 0, signal: null });
    await using killed = await taker(park(home.path).name, home.path).whenReady();
    killed.cell({ do: 'die', signal: 'SIGKILL' });
    await killed.whenClosed();
    expect(killed.exit).toEqual({ code: null, signal: 'SIGKILL' });
    expect(killed.notes.at(-1)).toEqual({ kind: 'ended', signal: 9 });
  });

  it('ends with its bridge, however that ends, with all that it has started', async () => {
    using home = tmpDir('advance');
    await using bridge = await taker(park(home.path).name, home.path).whenReady();
    const pids = await pidsOf(bridge);
    expect(pids.map(isAlive)).toEqual([true, true]);
    bridge.child.kill('SIGKILL');
    await until(() => !pids.some(isAlive) && filesIn(home.path).length === 0, { what: 'nothing to be left' });
  });

  it('is not used when it does not do as it is told: another is started', async () => {
    using home = tmpDir('advance');
    const { name } = park(home.path, { env: { FAKE_STUBBORN: '1' } });
    const [waiting = 0] = kernelsOf(home.path);
    await using bridge = await taker(name, home.path).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready' }]);
    const id = bridge.cell({ do: 'count' });
    await bridge.whenDone(id);
    expect(printed(bridge.messages, id)).toBe('1');
    expect(bridge.stderr).toBe('');
    await until(() => !isAlive(waiting), { what: 'the other one to be gone' });
  });

  it('that died while it waited is one that is not there', async () => {
    using home = tmpDir('advance');
    const { name } = park(home.path);
    process.kill(kernelsOf(home.path)[0]!, 'SIGKILL');
    await until(() => filesIn(home.path).length === 0, { what: 'it to be noticed' });
    await using bridge = await taker(name, home.path).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready' }]);
  });

  it('is given to its own user alone', async () => {
    using home = tmpDir('advance');
    const { name } = park(home.path);
    const [waiting = 0] = kernelsOf(home.path);
    // Another's bridge starts one itself; here it may not even read what the kernel is made of.
    const other = spawnSync(
      'setpriv',
      [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        initBinary,
        'kernel',
        '--take',
        name,
        '--',
        'sh',
        '-c',
        'exit 9',
      ],
      { env: { PATH: process.env['PATH'], TMPDIR: '/tmp' }, input: '' },
    );
    expect(other.status).toBe(9);
    expect(isAlive(waiting)).toBe(true);
    await using bridge = await taker(name, home.path).whenReady();
    expect((await pidsOf(bridge))[0]).toBe(waiting);
  });

  it('that does not come up says why, and leaves nothing', () => {
    using home = tmpDir('advance');
    const argv = ['sh', '-c', 'echo no such luck >&2; exit 3'];
    expect(park(home.path, { argv })).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('no such luck') as string,
    });
    expect(park(home.path, { argv: ['/nowhere/kernel'] })).toMatchObject({ status: 1 });
    expect(filesIn(home.path)).toEqual([]);
  });

  it.runIf(hasIpykernel)('has the environment of its taker, but for what it changed itself', async () => {
    using home = tmpDir('advance');
    const argv = ['/usr/bin/python3', '-m', 'ipykernel_launcher', '-f', '{connection_file}'];
    mkdirSync(`${home.path}/sub`);
    const { name, status, stderr } = park(home.path, { argv, env: { GONE: 'x', OTHER: 'before', CLICOLOR: '0' } });
    expect(status, stderr).toBe(0);
    const env = { HOME: home.path, OTHER: 'after', NEW: 'ä=\n"quoted" \'too\'', TZ: 'Asia/Tokyo', CLICOLOR: '0' };
    await using bridge = await taker(name, home.path, { argv, env }).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready', inAdvance: true }]);
    const say = sayingTo(bridge);
    const names = ['GONE', 'OTHER', 'NEW', 'TERM', 'CLICOLOR'];
    const shown = await say(
      `import os, json, time; print(json.dumps([*map(os.environ.get, ${JSON.stringify(names)}), time.tzname[0]]))`,
    );
    // ipykernel says `xterm-color` and CLICOLOR=1 itself, also when it is started with others.
    expect(JSON.parse(shown)).toEqual([null, 'after', env.NEW, 'xterm-color', '1', 'JST']);
    expect(await say('print(os.popen("echo $OTHER").read(), end="")')).toBe('after\n');
    // Nothing is left of how it came by it.
    expect(await say('print(sorted(n for n in globals() if n in ("read", "old", "new", "name")), In)')).toBe(
      "[] ['']\n",
    );
  });

  it.runIf(hasIpykernel)('keeps what the script that started it has set', async () => {
    using home = tmpDir('advance');
    const script = 'OWN=1 OTHER=script exec /usr/bin/python3 -m ipykernel_launcher -f "$0"';
    const argv = ['sh', '-c', script, '{connection_file}'];
    const { name, status, stderr } = park(home.path, { argv, env: { OTHER: 'before' } });
    expect(status, stderr).toBe(0);
    await using bridge = await taker(name, home.path, { argv, env: { OTHER: 'after', NEW: '1' } }).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready', inAdvance: true }]);
    const say = sayingTo(bridge);
    expect(await say('import os; print(*map(os.environ.get, ["OWN", "OTHER", "NEW"]))')).toBe('1 script 1\n');
  });

  it.runIf(hasIrkernel)('has it in R, too', async () => {
    using home = tmpDir('advance');
    const argv = ['R', '--slave', '-e', 'IRkernel::main()', '--args', '{connection_file}'];
    const options = ['--language', 'r'];
    const LANG = 'C.UTF-8';
    const { name, status, stderr } = park(home.path, {
      argv,
      options,
      env: { LANG, GONE: 'x', OTHER: 'before', EMPTY: 'x' },
    });
    expect(status, stderr).toBe(0);
    const env = { LANG, HOME: home.path, OTHER: 'after', NEW: 'ä=\n"quoted" \'too\'', TZ: 'Asia/Tokyo', EMPTY: '' };
    await using bridge = await taker(name, home.path, { argv, options, env }).whenReady();
    expect(bridge.notes).toEqual([{ kind: 'ready', inAdvance: true }]);
    const say = sayingTo(bridge);
    const shown = await say(
      `cat(Sys.getenv(c('GONE', 'OTHER', 'NEW', 'EMPTY'), NA), nchar(R.home()) > 1, Sys.getenv('R_HOME') == R.home(), format(as.POSIXct(0), '%Z'), sep = '|')`,
    );
    expect(shown).toBe(`NA|after|${env.NEW}||TRUE|TRUE|JST`);
    expect(await say('cat(system("echo $OTHER", intern = TRUE))')).toBe('after');
    expect(await say('cat(length(ls()), exists("read"))')).toBe('0 FALSE');
  });

  it('knows no language that it can not speak', () => {
    const { status, stderr } = spawnSync(initBinary, ['kernel', '--park', 'x', '--language', 'cobol', '--', 'true']);
    expect({ status, stderr: stderr.toString() }).toEqual({
      status: 2,
      stderr: expect.stringContaining('--language python|r') as string,
    });
  });

  it('has one name for all that can be made alike, and another for what can not', () => {
    const argv = ['python3', '-m', 'ipykernel_launcher'];
    const env = { PATH: '/bin', HOME: '/home/work', CAUSEWAY_SESSION_ID: 'a', OMP_NUM_THREADS: '1' };
    const name = nameInAdvance(argv, env);
    expect(nameInAdvance([...argv], { ...env, CAUSEWAY_SESSION_ID: 'b', MY_TOKEN: 'x' })).toBe(name);
    expect(nameInAdvance(argv, Object.fromEntries(Object.entries(env).toReversed()))).toBe(name);
    for (const more of [
      { PATH: '/usr/bin' },
      { PYTHONPATH: '/x' },
      { LD_PRELOAD: 'x' },
      { LANG: 'C' },
      { LC_ALL: 'C' },
      { R_LIBS: '/x' },
    ])
      expect(nameInAdvance(argv, { ...env, ...more })).not.toBe(name);
    expect(nameInAdvance([...argv, '--debug'], env)).not.toBe(name);
    const kinds = (['python', 'Python', 'R', 'octave'] as const).map((language) => {
      const text = JSON.stringify({ argv: ['x'], language });
      return parseKernelspecs(JSON.stringify({ name: 'k', folder: '/', text }));
    });
    expect(kinds.map(([found]) => mayBeInAdvance(found!))).toEqual([true, true, true, false]);
  });
});
