/** Code in sessions as a person runs it, over the real stack: state, input, cuts of every part, and the same over HTTP. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Executed } from '../../schema/api/kernel.ts';
import { Cli } from '../support/cli.ts';
import { importPython } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';

describe.runIf(tier === 'full')('code in a session', () => {
  let stack: Stack;
  let cli: Cli;
  const run = (args: string[], input?: string) => cli.run(args, input);
  const code = (text: string, more: string[] = []) => run(['exec-code', '-s', 'lab', ...more, text]);

  beforeAll(async () => {
    stack = await startStack();
    cli = new Cli(stack.url, stack.client.token!, stack.dir, { XDG_STATE_HOME: join(stack.dir, 'state') });
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    expect(await run(['run', '-d', '--name', 'lab', '--image', 'causeway/python'])).toMatchObject({ status: 0 });
    await until(async () => (await run(['ps', '--json'])).stdout.includes('"state":"RUNNING"'), {
      what: 'the session to run',
    });
  });
  afterAll(() => stack?.stop());

  it('keeps its state, and has streams, values, errors and a status', async () => {
    expect(await code('import sys; x = 20; print("out"); print("err", file=sys.stderr)')).toMatchObject({
      status: 0,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await code('2 * x + 2')).toMatchObject({ status: 0, stdout: '42\n' });
    const failed = await code('1 / 0');
    expect(failed).toMatchObject({ status: 1, stdout: '' });
    expect(failed.stderr).toMatch(/^Traceback[^]*ZeroDivisionError: division by zero\n$/);
    expect(await run(['exec-code', '-s', 'lab', '-l', 'bash'], 'echo from bash; (exit 3)')).toMatchObject({
      status: 3,
      stdout: 'from bash\n',
    });
    expect((await run(['exec-code', '-s', 'lab', 'print("hi " + input("name? "))'], 'Ada\n')).stdout).toBe('hi Ada\n');
    expect((await code('1', ['-l', 'cobol'])).status).toBe(2);
  });

  it('goes on over the death of workerd, then of the agent, and every line comes once', async () => {
    const lines = 400;
    const started = cli.start(
      ['exec-code', '-s', 'lab', `import time\nfor i in range(${lines}):\n    print(i)\n    time.sleep(0.02)\nx`],
      '',
    );
    await until(() => started.seen.stdout.includes('\n20\n'), { what: 'some lines' });
    stack.edge.killWorkerd9();
    await until(() => started.seen.stdout.includes('\n120\n'), { what: 'lines after the death of workerd' });
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
    const done = await started.done;
    expect(done.status, done.stderr).toBe(0);
    expect(done.stdout).toBe(`${Array.from({ length: lines }, (_, i) => i).join('\n')}\n20\n`);
  });

  it('is typed line by line, with blocks, completion, lines that are asked for, and Ctrl-C', async () => {
    const talk = cli.terminal(['repl', 'lab']);
    const says = (text: string) =>
      until(() => talk.seen.stdout.includes(text), { what: `${text} in ${talk.seen.stdout}` });
    await says('> ');
    talk.type('word = "spoken"\nword + "!"\n');
    await says("'spoken!'\r\n");
    talk.type('def half(n):\n    return n / 2\n\nhalf(5)\n');
    await says('2.5\r\n');
    talk.type('print("got " + input("what? "))\n');
    await says('what? ');
    talk.type('this\n');
    await says('got this\r\n');
    // A question that is interrupted takes nothing of what is typed next.
    talk.type('input("whi" + "ch? ")\n');
    await says('which? ');
    talk.type('\x03');
    await says('KeyboardInterrupt');
    talk.type('print(6 * 7)\n');
    await says('42\r\n');
    talk.type('for i in range(12): print("line", i, input("so" + "on? "))\n');
    for (let n = 0; n < 12; n++) {
      const isAsked = () =>
        (talk.seen.stdout.split(n === 0 ? '42\r\n' : `line ${n - 1} yes`)[1] ?? '').includes('soon? ');
      await until(isAsked, { what: `question ${n}` });
      talk.type('yes\n');
      await says(`line ${n} yes\r\n`);
    }
    talk.type('print(wor\t');
    await says('print(word');
    talk.type(' + "?")\n');
    await says('spoken?\r\n');
    talk.type('while True: pass\n\n');
    await until(
      async () => (await run(['exec', 'lab', '--', 'sh', '-c', 'cat /proc/[0-9]*/stat'])).stdout.includes(' R '),
      {
        what: 'the loop to run',
      },
    );
    const before = talk.seen.stdout.length;
    talk.type('\x03');
    await until(() => talk.seen.stdout.slice(before).includes('KeyboardInterrupt'), { what: 'the loop to end' });
    talk.type('1 / 0\n');
    await says('ZeroDivisionError');
    expect(talk.seen.stdout).not.toContain('MaxListeners');
    talk.type('\x04');
    expect((await talk.done).status).toBe(0);
  });

  it('is run once under its run id, and read over HTTP in slices', async () => {
    const twice = ['--run-id', 'once'];
    const add = 'n = globals().get("n", 0) + 1; print(n)';
    expect((await code(add, twice)).stdout).toBe('1\n');
    expect((await code(add, twice)).stdout).toBe('1\n');
    const ask = async (body: object) => (await stack.client.api('POST', path, body)) as Executed;
    const page = (await stack.client.api('GET', '/v1/sessions?name=lab')) as { items: { id: string }[] };
    const path = `/v1/sessions/${page.items[0]!.id}/execute`;
    let answer = await ask({
      mode: 'query',
      code: 'import time\nfor i in range(50):\n    print(i)\n    time.sleep(0.02)',
      options: { sliceMs: 200 },
    });
    const said = [...answer.console];
    while (answer.status === 'continued') {
      const { runId, after } = answer;
      answer = await ask({ mode: 'continue', runId, after, options: { sliceMs: 200 } });
      said.push(...answer.console);
    }
    expect(answer).toMatchObject({ status: 'finished', exitCode: 0 });
    expect(said.map(([kind, text]) => `${kind === 'stdout' ? '' : kind}${String(text)}`).join('')).toBe(
      `${Array.from({ length: 50 }, (_, i) => i).join('\n')}\n`,
    );
  });

  it('runs a notebook cell by cell, goes on after it was left, and ends with the first error', async () => {
    const path = join(stack.dir, 'work.ipynb');
    const cell = (source: string, tags: string[] = []) => ({
      cell_type: 'code',
      source,
      metadata: { tags },
      outputs: [],
      execution_count: null,
    });
    const cells = [
      { cell_type: 'markdown', source: '# Title', metadata: {} },
      cell('import time\nruns = globals().get("runs", 0) + 1\nprint("first")'),
      cell('for i in range(60):\n    print(i)\n    time.sleep(0.05)\nruns'),
      cell('1 / 0', ['raises-exception']),
      cell('raise SystemExit(7)'),
      cell('print("never")'),
    ];
    writeFileSync(path, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }));
    const begun = cli.start(['run', '--kernel', 'python', '--session', 'lab', path], '');
    await until(() => begun.seen.stderr.includes('[1/5]'), { what: 'the first cell to be done' });
    begun.child.kill('SIGKILL');
    await begun.done;
    const done = await run(['run', '--kernel', 'python', '--resume', path]);
    expect(done).toMatchObject({ status: 7, stdout: `${join(stack.dir, 'work.executed.ipynb')}\n` });
    const executed = JSON.parse(readFileSync(join(stack.dir, 'work.executed.ipynb'), 'utf8')) as {
      metadata: object;
      cells: { outputs?: Record<string, unknown>[]; execution_count?: number | null }[];
    };
    expect(executed.metadata).toEqual({});
    expect(executed.cells.map(({ execution_count }) => execution_count)).toEqual([undefined, 1, 2, 3, 4, null]);
    expect(executed.cells[2]!.outputs).toEqual([
      { output_type: 'stream', name: 'stdout', text: Array.from({ length: 60 }, (_, i) => `${i}\n`) },
      { output_type: 'execute_result', data: { 'text/plain': ['1'] }, metadata: {}, execution_count: 2 },
    ]);
    expect(executed.cells[3]!.outputs![0]).toMatchObject({ output_type: 'error', ename: 'ZeroDivisionError' });
    expect((await run(['run', '--kernel', 'python', '--resume', path])).stderr).toContain('has no run to go on with');
  });

  it('is the same in a kernel of Jupyter: output, values, errors, lines, completion, a status, once', async () => {
    const there = (text: string, more: string[] = []) => code(text, ['--kernel', 'python3', ...more]);
    expect(await there('import sys; x = 20; print("out"); print("err", file=sys.stderr)')).toMatchObject({
      status: 0,
      stdout: 'out\n',
      stderr: 'err\n',
    });
    expect(await there('2 * x + 2')).toMatchObject({ status: 0, stdout: '42\n' });
    const failed = await there('1 / 0');
    expect(failed).toMatchObject({ status: 1, stdout: '' });
    expect(failed.stderr).toContain('ZeroDivisionError: division by zero\n');
    expect(failed.stderr).not.toContain('\x1b');
    const asking = ['exec-code', '-s', 'lab', '--kernel', 'python3', 'print("hi " + input("name? "))'];
    expect((await run(asking, 'Ada\n')).stdout).toBe('hi Ada\n');
    const add = 'n = globals().get("n", 0) + 1; print(n)';
    for (const _ of [1, 2]) expect((await there(add, ['--run-id', 'there-once'])).stdout).toBe('1\n');
    expect((await there('raise SystemExit(7)')).status).toBe(7);
    expect(await there('1', ['-l', 'cobol'])).toMatchObject({ status: 2 });
    expect((await code('1', ['--kernel', 'cobol'])).stderr).toContain('python3');
    const page = (await stack.client.api('GET', '/v1/sessions?name=lab')) as { items: { id: string }[] };
    const path = `/v1/sessions/${page.items[0]!.id}`;
    const ask = async (body: object) =>
      (await stack.client.api('POST', `${path}/execute`, { spec: 'python3', ...body })) as Executed;
    expect((await ask({ mode: 'complete', code: 'impor' })).completion).toMatchObject({
      matches: expect.arrayContaining(['import']),
      replaces: 5,
    });
    const waiting = await ask({ mode: 'query', code: 'print("hello " + input("who? "))' });
    expect(waiting).toMatchObject({ status: 'waiting-input', options: { prompt: 'who? ', isPassword: false } });
    const { runId, after } = waiting;
    const answer = { mode: 'input', runId, after, code: 'Bob' };
    expect((await stack.client.api('POST', `${path}/execute`, answer)) as Executed).toMatchObject({
      status: 'finished',
      console: [['stdout', 'hello Bob\n']],
    });
    const late = await ask({ mode: 'query', code: 'import time\ntime.sleep(1000)', options: { timeoutMs: 300 } });
    expect(late).toMatchObject({ status: 'exec-timeout', exitCode: 130, error: { name: 'KeyboardInterrupt' } });
  });

  it('goes on in a kernel of Jupyter over the death of workerd, then of the agent, and every line comes once', async () => {
    const lines = 400;
    const text = `import time\nfor i in range(${lines}):\n    print(i, flush=True)\n    time.sleep(0.02)\n"end"`;
    const started = cli.start(['exec-code', '-s', 'lab', '--kernel', 'python3', text], '');
    await until(() => started.seen.stdout.includes('\n20\n'), { what: 'some lines' });
    stack.edge.killWorkerd9();
    await until(() => started.seen.stdout.includes('\n120\n'), { what: 'lines after the death of workerd' });
    await stack.agents[0]!.kill9();
    await stack.agents[0]!.start();
    const done = await started.done;
    expect(done.status, done.stderr).toBe(0);
    expect(done.stdout).toBe(`${Array.from({ length: lines }, (_, i) => i).join('\n')}\n'end'\n`);
  });

  it('runs a notebook in a kernel of Jupyter that the notebook has for itself', async () => {
    const path = join(stack.dir, 'lab.ipynb');
    const cell = (source: string) => ({ cell_type: 'code', source, metadata: {}, outputs: [], execution_count: null });
    const cells = [cell('n = 6'), cell('n * 7'), cell('import os\nos._exit(9)'), cell('n')];
    writeFileSync(path, JSON.stringify({ nbformat: 4, nbformat_minor: 5, metadata: {}, cells }));
    const done = await run(['run', '--kernel', 'python3', '--session', 'lab', path]);
    expect(done).toMatchObject({ status: 9, stderr: expect.stringContaining('the kernel ended in cell 3') });
    const executed = JSON.parse(readFileSync(join(stack.dir, 'lab.executed.ipynb'), 'utf8')) as {
      cells: { outputs: Record<string, unknown>[] }[];
    };
    expect(executed.cells[1]!.outputs).toMatchObject([
      { output_type: 'execute_result', data: { 'text/plain': ['42'] } },
    ]);
  });

  it('tells a death for lack of memory from others, and starts anew without the state', async () => {
    expect(await code('kept = 1')).toMatchObject({ status: 0 });
    const killed = await code('b"x" * (4 << 30)');
    expect(killed).toMatchObject({ status: 137, stderr: 'causeway: the run ended: oom\n' });
    expect((await code('"kept" in globals()')).stdout).toBe('False\n');
  });
});
