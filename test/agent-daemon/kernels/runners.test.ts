/** One contract over the languages that keep their state: what is written in the table must hold for each of them. */
import { afterEach, describe, expect, it } from 'vitest';
import type { Language } from '../../../schema/api/kernel-parts.ts';
import type { KernelRecord } from '../../../schema/protocol/kernel-log.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { RunnerProcess } from './runner-process.ts';

interface Words {
  /** Prints `out` and `err` to the two streams. */
  bothStreams: string;
  remember: string;
  recall: string;
  /** A child process that writes to both streams. */
  child: string;
  /** Code whose value is 42; undefined where code has no values. */
  value: string | undefined;
  fails: string;
  /** Name of the error and something that its message says; undefined where an error is a status. */
  error: { name: string; message: string } | undefined;
  failedCode: number;
  /** Does not end, in the language itself. */
  endless: string;
  /** Does not end, in something that waits. */
  waits: string;
  /** Prints a line with its number again and again. */
  counts: string;
  /** Asks `name? ` and prints `hi <answer>`. */
  asks: string;
  asksSecret: string;
  exits3: string;
  complete: { before: string; code: string; match: string; replaces: number };
  /** Prints this many characters `x` and a newline. */
  long: (count: number) => string;
  syntax: string;
  /** Prints what its standard input holds. */
  readsStdin: string;
  unicode: string;
}

const table: Record<Extract<Language, 'python' | 'node' | 'bash'>, Words> = {
  python: {
    bothStreams: 'import sys\nprint("out")\nprint("err", file=sys.stderr)',
    remember: 'x = 20\ndef twice(n):\n    return 2 * n',
    recall: 'print(twice(x) + 2)',
    child: 'import subprocess\n_ = subprocess.run("echo out; echo err >&2", shell=True)',
    value: '6 * 7',
    fails: 'def f():\n    return 1 / 0\nf()',
    error: { name: 'ZeroDivisionError', message: 'division by zero' },
    failedCode: 1,
    endless: 'print("begun")\nwhile True: pass',
    waits: 'import time\nprint("begun")\ntime.sleep(1000)',
    counts: 'i = 0\nwhile True:\n    print(i)\n    i += 1',
    asks: 'print("hi " + input("name? "))',
    asksSecret: 'import getpass\nprint("hi " + getpass.getpass("name? "))',
    exits3: 'raise SystemExit(3)',
    complete: { before: 'import math', code: 'y = math.sq', match: 'math.sqrt', replaces: 7 },
    long: (count) => `print("x" * ${count})`,
    syntax: 'print(',
    readsStdin: 'import subprocess\nprint(subprocess.run("cat", stdout=subprocess.PIPE).stdout)',
    unicode: 'print("gr\u00fc\u00df \u{1f600}")',
  },
  node: {
    bothStreams: 'console.log("out"); console.error("err")',
    remember: 'const x = 20; function twice(n) { return 2 * n }',
    recall: 'console.log(twice(x) + 2)',
    child: 'void require("child_process").execSync("echo out; echo err >&2", { stdio: "inherit" })',
    value: '6 * 7',
    fails: 'function f() { throw new TypeError("no such thing") }\nf()',
    error: { name: 'TypeError', message: 'no such thing' },
    failedCode: 1,
    endless: 'console.log("begun"); while (true);',
    waits: 'console.log("begun"); await new Promise((done) => setTimeout(done, 1e6))',
    counts: 'for (let i = 0; ; i++) console.log(i)',
    asks: 'console.log("hi " + prompt("name? "))',
    asksSecret: 'console.log("hi " + prompt("name? ", { password: true }))',
    exits3: 'process.exit(3)',
    complete: { before: 'void 0', code: 'Math.sq', match: 'Math.sqrt', replaces: 7 },
    long: (count) => `console.log("x".repeat(${count}))`,
    syntax: 'console.log(',
    readsStdin:
      'console.log(JSON.stringify(require("child_process").execSync("cat", { stdio: ["inherit", "pipe", "inherit"] }).toString()))',
    unicode: 'console.log("gr\u00fc\u00df \u{1f600}")',
  },
  bash: {
    bothStreams: 'echo out; echo err >&2',
    remember: 'x=20; declare -A map=([two]=2); twice() { echo $((2 * $1)); }',
    recall: 'echo $(($(twice $x) + map[two]))',
    child: "sh -c 'echo out; echo err >&2'",
    value: undefined,
    fails: 'f() { return 7; }; f',
    error: undefined,
    failedCode: 7,
    endless: 'f() { while :; do :; done; }; echo begun; f; echo not-reached',
    waits: 'echo begun; sleep 1000; echo not-reached',
    counts: 'i=0; while :; do echo $i; i=$((i+1)); done',
    asks: 'read -r -p "name? " name; echo "hi $name"',
    asksSecret: 'read -rs -p "name? " name; echo "hi $name"',
    exits3: 'f() { exit 3; }; f; echo not-reached',
    complete: { before: 'my_variable=1', code: 'echo $my_var', match: '$my_variable', replaces: 7 },
    long: (count) => `printf 'x%.0s' $(seq ${count}); echo`,
    syntax: 'if true; then',
    readsStdin: 'cat',
    unicode: "echo 'gr\u00fc\u00df \u{1f600}'",
  },
};

let open: RunnerProcess[] = [];
afterEach(async () => {
  await Promise.all(open.map((each) => each.stop()));
  open = [];
});

function start(language: Language, options: { command?: string } = {}): RunnerProcess {
  const runner = new RunnerProcess(language, options);
  open.push(runner);
  return runner;
}

const kinds = (records: readonly KernelRecord[]) => records.map(({ kind }) => kind);

describe.each(Object.keys(table) as (keyof typeof table)[])('%s', (language) => {
  const words = table[language];

  it('[R2, R7] says that it is ready, keeps state, and tells streams apart', async () => {
    const runner = start(language);
    expect(await runner.said('ready')).toMatchObject({ language });
    const first = await runner.run(words.bothStreams);
    expect(first).toMatchObject({ stdout: 'out\n', stderr: 'err\n', exitCode: 0 });
    expect(await runner.run(words.remember)).toMatchObject({ exitCode: 0 });
    expect((await runner.run(words.recall)).stdout).toBe('42\n');
    expect(await runner.run(words.child)).toMatchObject({ stdout: 'out\n', stderr: 'err\n', exitCode: 0 });
    expect((await runner.run(words.unicode)).stdout).toBe('gr\u00fc\u00df \u{1f600}\n');
  });

  it.runIf(tier === 'full')('[R8] tells the value, and errors with name, message and where', async () => {
    const runner = start(language);
    if (words.value !== undefined) {
      const { records } = await runner.run(words.value);
      expect(records).toEqual([{ kind: 'result', id: 'r1', data: { 'text/plain': '42' } }]);
    }
    const failed = await runner.run(words.fails);
    expect(failed.exitCode).toBe(words.failedCode);
    if (words.error !== undefined) {
      const [error] = failed.records;
      expect(error).toMatchObject({ kind: 'error', ...words.error });
      expect(error?.kind === 'error' && error.traceback).toMatch(/\brun\b/);
      expect(error?.kind === 'error' && error.traceback).not.toContain('causeway');
    }
    const syntax = await runner.run(words.syntax);
    expect(syntax.exitCode).not.toBe(0);
    expect(syntax.stderr.length + syntax.records.length).toBeGreaterThan(0);
    expect(await runner.run(words.exits3)).toMatchObject({ exitCode: 3, stdout: '' });
    expect((await runner.run(words.bothStreams)).stdout).toBe('out\n');
  });

  it.each(tier === 'full' ? (['endless', 'waits'] as const) : (['endless'] as const))(
    '[R9, R11] is interrupted when code %s, and goes on',
    async (which) => {
      const runner = start(language);
      await runner.run(words.remember);
      runner.interrupt();
      // A thread of Node's own tells of a signal, a moment after it came.
      await new Promise((resolve) => setTimeout(resolve, 100));
      const id = runner.ask('run', words[which]);
      await until(() => runner.text('stdout').includes('begun'), { what: 'begun' });
      runner.interrupt();
      const ran = await runner.ran(id);
      expect(ran).toMatchObject({ exitCode: 130, stdout: 'begun\n' });
      expect(kinds(ran.records)).toEqual(['error']);
      expect((await runner.run(words.recall)).stdout).toBe('42\n');
    },
  );

  it('[R11] is interrupted in the middle of what it prints, and neither loses nor doubles a line of it', async () => {
    const runner = start(language);
    for (let round = 0; round < 10; round++) {
      const from = runner.text('stdout').length;
      const id = runner.ask('run', words.counts);
      await until(() => runner.text('stdout').length > from + 100 * round, { what: 'lines', everyMs: 1 });
      runner.interrupt();
      const { stdout, exitCode } = await runner.ran(id);
      expect(exitCode).toBe(130);
      const lines = stdout.split('\n').slice(0, -1);
      expect(lines).toEqual(lines.map((_, at) => String(at)));
      expect((await runner.run(words.bothStreams)).stdout).toBe('out\n');
    }
  });

  it('[R9, R10] asks for input, and an interrupt ends that too', async () => {
    const runner = start(language);
    for (const [code, password] of [
      [words.asks, false],
      [words.asksSecret, true],
    ] as const) {
      const id = runner.ask('run', code);
      expect(await runner.said('input', id)).toMatchObject({ prompt: 'name? ', password });
      runner.send('input', id, 'Ada L\u00f6w');
      expect((await runner.ran(id)).stdout).toBe('hi Ada L\u00f6w\n');
    }
    // Whoever lost what was asked asks what it does.
    const lost = runner.ask('run', words.asks);
    const mark = runner.ask('mark');
    expect(await runner.said('input', mark)).toEqual({ kind: 'input', id: mark, prompt: 'name? ', password: false });
    runner.send('input', lost, 'Grace');
    expect((await runner.ran(lost)).stdout).toBe('hi Grace\n');
    const cut = runner.ask('run', words.asks);
    await runner.said('input', cut);
    runner.interrupt();
    expect(await runner.ran(cut)).toMatchObject({ exitCode: 130, stdout: '' });
    expect((await runner.run(words.bothStreams)).stdout).toBe('out\n');
    expect((await runner.run(words.readsStdin)).stdout).not.toContain('Ada');
  });

  it.runIf(tier === 'full')('completes what was begun', async () => {
    const runner = start(language);
    const { before, code, match, replaces } = words.complete;
    await runner.run(before);
    const id = runner.ask('complete', code);
    const { matches, replaces: replaced } = await runner.said('completion', id);
    expect(matches).toContain(match);
    expect(replaced).toBe(replaces);
    expect(await runner.ran(id)).toMatchObject({ exitCode: 0, stdout: '', stderr: '' });
  });

  it.runIf(tier === 'full')(
    '[R2] takes requests in order, commands of the shell among them, and says where it is',
    async () => {
      const runner = start(language);
      const ids = ['1', '2', '3'].map((each) => runner.ask('shell', `echo ${each}; exit ${each}`));
      const mark = runner.ask('mark');
      expect(await runner.said('mark', mark)).toEqual({ kind: 'mark', id: mark });
      for (const [index, id] of ids.entries())
        expect(await runner.ran(id)).toMatchObject({ stdout: `${index + 1}\n`, exitCode: index + 1 });
    },
  );

  it.runIf(tier === 'full')('[R3] ends with its input', async () => {
    const runner = start(language);
    await runner.said('ready');
    runner.child.stdin.end();
    await until(() => runner.exit, { what: 'its end' });
    expect(runner.exit).toEqual({ code: 0, signal: null });
  });

  it.runIf(tier === 'full')('[R4] keeps long output whole', async () => {
    const runner = start(language);
    expect((await runner.run(words.long(20_000))).stdout).toBe(`${'x'.repeat(20_000)}\n`);
  });
});

describe.runIf(tier === 'full')('python', () => {
  it.each(['python3.8', 'python3.13'])('runs in %s', async (command) => {
    const runner = start('python', { command });
    await runner.said('ready').catch(() => undefined);
    if (runner.exit?.code === 127 || runner.child.pid === undefined) return;
    expect((await runner.run('import asyncio\nawait asyncio.sleep(0)\n[n := 3, n]')).records).toMatchObject([
      { kind: 'result', data: { 'text/plain': '[3, 3]' } },
    ]);
  });

  it('[R4] shows rich values in many parts, with output of a process beside between them', async () => {
    const runner = start('python');
    await runner.run('import subprocess\nbeside = subprocess.Popen("while :; do echo beside; done", shell=True)');
    const { records } = await runner.run(
      'class Picture:\n    def _repr_png_(self): return bytes(1_000_000)\n    def __repr__(self): return "\\ud800"\nPicture()',
    );
    expect(records).toHaveLength(1);
    const [result] = records;
    const data = result?.kind === 'result' ? result.data : {};
    expect(Buffer.from(data['image/png'] ?? '', 'base64').equals(Buffer.alloc(1_000_000))).toBe(true);
    expect(data['text/plain']).toBe('\ud800');
    const { stdout } = await runner.run('beside.kill()');
    expect(stdout).toMatch(/^(beside\n)*$/);
  });

  it('shows the failing line of a function of an earlier run', async () => {
    const runner = start('python');
    await runner.run('def f():\n    return missing  # here');
    const { records } = await runner.run('f()');
    expect(records[0]?.kind === 'error' && records[0].traceback).toContain('return missing  # here');
  });

  it('[R4, R9] has threads that display at any time, and an interrupt meets the run and none of them', async () => {
    const runner = start('python');
    const { exitCode } = await runner.run(
      "import threading\ndef show(): [display('x' * 20000) for _ in range(50)]\n" +
        'threads = [threading.Thread(target=show) for _ in range(4)]\nfor each in threads: each.start()',
    );
    expect(exitCode).toBe(0);
    await runner.run('for each in threads: each.join()');
    const shown = runner.items.flatMap(({ item }) =>
      item.kind === 'record' && item.record.kind === 'display' ? [item.record.data['text/plain']?.length] : [],
    );
    expect(shown).toEqual(Array.from({ length: 200 }, () => 20_002));
    expect(runner.text('stdout')).toBe('');
    const id = runner.ask(
      'run',
      'import time\nmet = []\nisOver = False\ndef show():\n    try:\n' +
        "        while not isOver: display('x' * 20000)\n    except KeyboardInterrupt: met.append(1)\n" +
        "thread = threading.Thread(target=show)\nthread.start()\nprint('begun')\ntime.sleep(1000)",
    );
    await until(() => runner.text('stdout').includes('begun'), { what: 'begun' });
    runner.interrupt();
    expect(await runner.ran(id)).toMatchObject({ exitCode: 130 });
    expect((await runner.run('isOver = True\nthread.join()\nprint(met)')).stdout).toBe('[]\n');
  });

  it('[R4] has a child that displays though a thread of its parent did', async () => {
    const runner = start('python');
    const { stdout, exitCode } = await runner.run(
      "import os, threading\nisOver = False\ndef show():\n    while not isOver: display('x' * 20000)\n" +
        'thread = threading.Thread(target=show)\nthread.start()\nfor _ in range(20):\n' +
        "    child = os.fork()\n    if child == 0:\n        display('child')\n        os._exit(0)\n" +
        "    os.waitpid(child, 0)\nisOver = True\nthread.join()\nprint('done')",
    );
    expect(exitCode).toBe(0);
    expect(stdout).toContain('done\n');
  });

  it('[R11] ends a child that comes back into the runner', async () => {
    const runner = start('python');
    const { stdout } = await runner.run('import os\nif os.fork(): _ = os.wait()\nprint(os.getpid())');
    expect(new Set(stdout.trim().split('\n')).size).toBe(2);
    expect((await runner.run('print(1)')).stdout).toBe('1\n');
  });
});

describe('bash', () => {
  it('[R10] asks for no line in a job or a subshell, and keeps what is asked of it to itself', async () => {
    const runner = start('bash');
    expect(await runner.run('(read x) & :')).toMatchObject({ exitCode: 0 });
    for (let n = 0; n < 10; n++) expect((await runner.run('echo 1')).stdout).toBe('1\n');
    expect((await runner.run('echo "$(read x; echo $?)"')).stdout).toBe('1\n');
  });
});
