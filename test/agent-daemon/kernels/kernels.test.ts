/** The kernels of a session as clients see them, over a real init and real interpreters. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { byTier, tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { freshKernelId, freshRunId, KernelBench, withBench } from './bench.ts';

let bench: KernelBench;
beforeAll(async () => {
  bench = await new KernelBench().start();
});
afterAll(async () => {
  await bench?.stop();
});

const start = async (language: 'python' | 'node' | 'bash', of = bench) => {
  const id = freshKernelId();
  expect(await of.act(id, { kind: 'start', language })).toMatchObject({ id, language, state: 'idle', starts: 1 });
  return id;
};

describe('a run', () => {
  it('starts a kernel where there is none, keeps its state, and tells streams, value and end', async () => {
    const first = bench.run('import sys\nx = 20\nprint("out")\nprint("err", file=sys.stderr)');
    expect(await first.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    expect([first.text(), first.text('stderr')]).toEqual(['out\n', 'err\n']);
    const second = bench.run('2 * x + 2');
    expect(await second.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    expect(second.records[0]).toMatchObject({ kind: 'result', data: { 'text/plain': '42' } });
    expect(second.text()).toBe('');
    expect(await bench.list()).toMatchObject([{ language: 'python', state: 'idle', queued: 0, starts: 1 }]);
  });

  it('is run once however often it is asked for, and refused under the id of another', async () => {
    const runId = freshRunId();
    const ask = { runId, request: { mode: 'query' as const, code: 'n = globals().get("n", 0) + 1\nprint(n)' } };
    const twice = [bench.execute(ask), bench.execute(ask)];
    await Promise.all(twice.map((each) => each.outcome()));
    const later = bench.execute(ask);
    await later.outcome();
    expect([...twice, later].map((each) => each.text())).toEqual(['1\n', '1\n', '1\n']);
    await expect(bench.run('print(2)', { runId }).done).rejects.toMatchObject({ code: 'kernel_run_conflict' });
    await expect(bench.execute({ runId: 'never' }).done).rejects.toMatchObject({ code: 'kernel_run_not_found' });
  });

  it.runIf(tier === 'full')('waits for those before it, and its output is its own', async () => {
    const texts = ['a', 'b', 'c', 'd'];
    const runs = texts.map((text) =>
      bench.run(`import time\nprint("${text}" * 3)\ntime.sleep(0.02)\nprint("${text}")`),
    );
    await Promise.all(runs.map((each) => each.outcome()));
    expect(runs.map((each) => each.text())).toEqual(texts.map((text) => `${text.repeat(3)}\n${text}\n`));
  });

  it('goes on where a client was cut, each byte once', async () => {
    const code = 'import time\nfor i in range(200):\n    print(i)\n    time.sleep(0.001)\n"\\u00e9" * 9000';
    const first = bench.run(code);
    let reader = first;
    let text = '';
    const records = [];
    for (let cuts = 0; !reader.isDone; cuts++) {
      await until(
        () =>
          reader.isDone ||
          reader.position.stdout > (reader.events[0]?.kind === 'begun' ? reader.events[0].from.stdout + 20 : 0),
        {
          what: 'some output',
          everyMs: 1,
        },
      );
      text += reader.text();
      records.push(...reader.records);
      if (reader.isDone) break;
      const after = reader.cut();
      reader = bench.execute({ runId: first.runId, after });
      if (cuts > 1000) throw new Error('no end');
    }
    expect(text).toBe(Array.from({ length: 200 }, (_, i) => `${i}\n`).join(''));
    expect(records.map(({ kind }) => kind)).toEqual(['result', 'finished']);
  });

  it('asks for a line and is answered once', async () => {
    const run = bench.run('print("hi " + input("name? "))\nprint("bye " + input("again? "))');
    const { at, prompt, password } = await run.event('waiting');
    expect({ prompt, password }).toEqual({ prompt: 'name? ', password: false });
    const answer = { kind: 'input' as const, at, text: 'Ada' };
    run.say(answer);
    run.say(answer);
    await until(() => run.events.filter(({ kind }) => kind === 'waiting').length === 2, {
      what: 'the second question',
    });
    // A client that is late with its answer changes nothing, one that answers nothing is told.
    const late = bench.execute({ runId: run.runId, input: answer });
    await until(() => late.stream.info, { what: 'opened' });
    await expect(
      bench.execute({ runId: run.runId, input: { ...answer, at: at + 100_000 } }).done,
    ).rejects.toMatchObject({ code: 'kernel_input_unasked' });
    expect((await late.event('waiting')).prompt).toBe('again? ');
    late.say({ kind: 'input', at: (await late.event('waiting')).at, text: 'Bob' });
    expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    expect(run.text()).toBe('hi Ada\nbye Bob\n');
    await late.outcome();
    expect(late.text()).toBe('hi Ada\nbye Bob\n');
  });

  it.runIf(tier === 'full')('is interrupted by its own client, and the one behind it is not', async () => {
    const first = bench.run('print("begun")\nimport time\ntime.sleep(1000)');
    const second = bench.run('print("second")');
    await first.whenText('begun');
    second.say({ kind: 'interrupt' });
    first.say({ kind: 'interrupt' });
    expect(await first.outcome()).toEqual({ reason: 'finished', exitCode: 130 });
    expect(await second.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    expect(second.text()).toBe('second\n');
  });

  it.runIf(tier === 'full')('ends when its time is over; a kernel that does not heed that is killed', async () => {
    const run = bench.run('import time\ntime.sleep(1000)', { timeoutMs: 100 });
    expect(await run.outcome()).toEqual({ reason: 'timeout', exitCode: 130 });
    const id = await start('bash');
    const deaf = bench.run("trap '' INT; sleep 1000 & while :; do wait; done", { kernelId: id, timeoutMs: 100 });
    expect(await deaf.outcome()).toMatchObject({ reason: 'timeout', signal: 'SIGKILL' });
  });

  it.runIf(tier === 'full')('completes, and runs a batch step by step', async () => {
    const completing = bench.execute({ runId: freshRunId(), request: { mode: 'complete', code: 'impor' } });
    await completing.outcome();
    expect(completing.records[0]).toMatchObject({ kind: 'completion', matches: ['import'], replaces: 5 });
    const request = { mode: 'batch' as const, clean: 'echo clean', build: 'echo build; exit 4', exec: 'echo exec' };
    const failing = bench.execute({ runId: freshRunId(), request });
    expect(await failing.outcome()).toEqual({ reason: 'finished', exitCode: 127 });
    expect(failing.text()).toBe('clean\nbuild\n');
    const batch = bench.execute({ runId: freshRunId(), request: { ...request, clean: '', build: '*' } });
    expect(await batch.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
    expect(batch.text()).toBe('exec\n');
    const steps = [failing, batch].map((each) =>
      each.events.flatMap((event) => (event.kind === 'step' ? [event] : [])),
    );
    expect(steps).toEqual([
      [
        { kind: 'step', step: 'clean', exitCode: 0 },
        { kind: 'step', step: 'build', exitCode: 4 },
      ],
      [{ kind: 'step', step: 'build', exitCode: 0 }],
    ]);
  });
});

describe('a kernel', () => {
  it('that dies tells how and its last output, and is started anew on demand', async () => {
    const id = await start('python');
    const run = bench.run('import os\nprint("last words", flush=True)\nos.kill(os.getpid(), 9)', { kernelId: id });
    const waiting = bench.run('print(1)', { kernelId: id });
    expect(await run.outcome()).toEqual({ reason: 'exited', signal: 'SIGKILL' });
    expect(run.text()).toBe('last words\n');
    expect(await waiting.outcome()).toEqual({ reason: 'exited', signal: 'SIGKILL' });
    expect((await bench.list()).find((each) => each.id === id)).toMatchObject({
      state: 'dead',
      death: { reason: 'exited', signal: 'SIGKILL', lastOutput: expect.stringContaining('last words') },
    });
    await expect(bench.run('1', { kernelId: id }).done).rejects.toMatchObject({ code: 'kernel_dead' });
    expect(await bench.act(id, { kind: 'restart', starts: 1 })).toMatchObject({ state: 'idle', starts: 2 });
    expect(await bench.act(id, { kind: 'restart', starts: 1 })).toMatchObject({ starts: 2 });
    const after = bench.run('print(3)', { kernelId: id });
    await after.outcome();
    expect(after.text()).toBe('3\n');
    // What was run before the restart is still there.
    const again = bench.execute({ runId: run.runId });
    await again.outcome();
    expect(again.text()).toBe('last words\n');
  });

  it.runIf(tier === 'full')('is started once under its id, listed, restarted and shut down', async () => {
    const id = await start('node');
    expect(await bench.act(id, { kind: 'start', language: 'node' })).toMatchObject({ id, starts: 1 });
    const run = bench.run('console.log("begun"); await new Promise(() => {})', { kernelId: id });
    await run.whenText('begun');
    expect((await bench.list()).find((each) => each.id === id)).toMatchObject({ state: 'busy' });
    await bench.act(id, { kind: 'interrupt' });
    expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 130 });
    expect(await bench.act(id, { kind: 'shutdown' })).toMatchObject({ state: 'dead' });
    expect((await bench.list()).map((each) => each.id)).not.toContain(id);
    await expect(bench.act(id, { kind: 'interrupt' })).rejects.toMatchObject({ code: 'kernel_not_found' });
    const again = bench.execute({ runId: run.runId });
    expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 130 });
    expect(again.text()).toBe('begun\n');
  });
});

describe('a kernel that one restarts and another shuts down', () => {
  it.each(['bash', 'fake'] as const)('leaves no process that nobody can end (%s)', (which) =>
    withBench(new KernelBench(), async (own) => {
      const what =
        which === 'bash' ? ({ kind: 'start', language: which } as const) : { kind: 'startSpec' as const, spec: which };
      const acts = [{ kind: 'restart' as const }, { kind: 'shutdown' as const }];
      for (const order of [acts, acts.toReversed()]) {
        const id = freshKernelId();
        await own.act(id, what);
        await Promise.allSettled(order.map((act) => own.act(id, act)));
        expect(await own.list()).toEqual([]);
        const late = AbortSignal.timeout(10_000);
        await own.supervisor.whenAllEnded(late);
        expect(late.aborted).toBe(false);
      }
    }),
  );
});

/** Where an interrupt meets them is up to the moment: in code, behind it, or while it waits. */
const endless = {
  python: ['print("begun", flush=True)\nwhile True: pass', 'import time\nprint("begun", flush=True)\ntime.sleep(1e6)'],
  node: ['console.log("begun"); await new Promise(() => {})', 'console.log("begun"); for (;;);'],
  bash: ['echo begun; while :; do :; done', 'echo begun; sleep 1000'],
} as const;

describe.each(['python', 'node', 'bash'] as const)('%s that is interrupted', (language) => {
  it('ends the run and nothing else, whatever the moment', async () => {
    const id = await start(language);
    for (let round = 0; round < byTier({ daily: 6, full: 100 }); round++) {
      const run = bench.run(endless[language][round % 2]!, { kernelId: id });
      await run.whenText('begun');
      await bench.act(id, { kind: 'interrupt' });
      expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 130 });
    }
    expect(await bench.act(id, { kind: 'shutdown' })).toMatchObject({ state: 'dead', starts: 1 });
  });
});

describe('after the death of the agent', () => {
  it('runs go on and what waits is run, once; state, log and answers stay', async () => {
    const own = await new KernelBench().start();
    try {
      const first = own.run('x = 0\nimport time\nfor i in range(100):\n    x += 1\n    print(i)\n    time.sleep(0.01)');
      const queued = own.run('print("x is", x)\nprint("hi " + input("name? "))');
      await first.whenText('20\n');
      await own.restart();
      const resumed = own.execute({ runId: first.runId });
      const behind = own.execute({ runId: queued.runId });
      expect(await resumed.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(resumed.text()).toBe(Array.from({ length: 100 }, (_, i) => `${i}\n`).join(''));
      const { at } = await behind.event('waiting');
      behind.say({ kind: 'input', at, text: 'Ada' });
      await behind.whenText('hi Ada');
      await own.restart();
      const again = own.execute({ runId: queued.runId });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('x is 100\nhi Ada\n');
      expect(again.events.map(({ kind }) => kind)).toEqual(['begun', 'finished']);
      expect(await own.list()).toMatchObject([{ state: 'idle', starts: 1 }]);
      const third = own.run('print(x)');
      await third.outcome();
      expect(third.text()).toBe('100\n');
    } finally {
      await own.stop();
    }
  });

  it('a kernel of which the agent knew nothing yet is started all the same, once', async () => {
    const own = await new KernelBench().start();
    try {
      const id = freshKernelId();
      // The agent dies when the kernel is noted and its process is not asked for yet.
      own.holdsSpawns = true;
      void own.act(id, { kind: 'start', language: 'bash' });
      await until(() => own.heldSpawns === 1, { what: 'the kernel to be noted' });
      own.holdsSpawns = false;
      await own.restart();
      const run = own.run('echo $$', { kernelId: id });
      expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(await own.list()).toMatchObject([{ id, state: 'idle', starts: 1 }]);
    } finally {
      await own.stop();
    }
  });

  it('a run that was noted for an idle kernel, and not given to it, is given', async () => {
    const own = await new KernelBench().start();
    try {
      await own.run('x = 1').outcome();
      const noted = own.run('print("x is", x)');
      await noted.outcome();
      await own.leave();
      own.forgetFrom((record) => record['run']?.['runId'] === noted.runId && 'begun' in record['run']);
      await own.start();
      const again = own.execute({ runId: noted.runId });
      expect(await again.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(again.text()).toBe('x is 1\n');
    } finally {
      await own.stop();
    }
  });

  it.runIf(tier === 'full')('a kernel that died meanwhile is told with its last run', async () => {
    const own = await new KernelBench().start();
    try {
      const run = own.run('import os, time\nprint("begun")\ntime.sleep(0.3)\nprint("end")\nos._exit(9)');
      await run.whenText('begun');
      await own.leave();
      await new Promise((resolve) => setTimeout(resolve, 500));
      await own.start();
      const again = own.execute({ runId: run.runId });
      expect(await again.outcome()).toEqual({ reason: 'exited', exitCode: 9 });
      expect(again.text()).toBe('begun\nend\n');
      expect(await own.list()).toMatchObject([{ state: 'dead', death: { exitCode: 9 } }]);
    } finally {
      await own.stop();
    }
  });
});

describe('kernels that died', () => {
  it('leave code without a language to one of their own, and make room for others', async () => {
    const own = await new KernelBench().start();
    try {
      const [python, bash] = [freshKernelId(), freshKernelId()];
      await own.act(python, { kind: 'start', language: 'python' });
      await own.act(bash, { kind: 'start', language: 'bash' });
      await own.run('import os; os._exit(9)', { kernelId: python }).outcome();
      const next = own.run('print(6 * 7)');
      expect(await next.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(next.text()).toBe('42\n');
      for (let count = 0; count < 16; count++) {
        const id = freshKernelId();
        await own.act(id, { kind: 'start', language: 'bash' });
        await own.run('kill -9 $$', { kernelId: id }).outcome();
      }
      const listed = await own.list();
      expect(listed).toHaveLength(16);
      expect(listed.filter(({ state }) => state !== 'dead')).toMatchObject([{ id: bash }, { language: 'python' }]);
    } finally {
      await own.stop();
    }
  });
});

describe('the log', () => {
  it('that loses more and more of a step asks its kernel once, as long as that does not listen', () =>
    withBench(new KernelBench(), async (own) => {
      own.output = { onFull: 'drop', blockMs: 0, spoolBytes: 256 * 1024 };
      await own.run('1', { language: 'bash' }).outcome();
      const confirmed = Promise.withResolvers<void>();
      own.inputConfirmed = confirmed.promise;
      own.writtenInputs = 0;
      const flood = `head -c 50000000 /dev/zero | tr '\\0' '\\n'`;
      const run = own.run(`${flood}; read name; echo "hello $name"`, { language: 'bash' });
      const { at } = await run.event('waiting');
      confirmed.resolve();
      run.say({ kind: 'input', at, text: 'Ada' });
      expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 0 });
      expect(run.text()).toMatch(/\nhello Ada\n$/);
      // The step, two questions, and its line.
      expect(own.writtenInputs).toBeLessThanOrEqual(4);
    }));

  it.runIf(tier === 'full')(
    'drops the oldest with a mark when it is full, and a run that lost its end is over all the same',
    async () => {
      const own = new KernelBench();
      own.output = { onFull: 'drop', blockMs: 0, spoolBytes: 256 * 1024 };
      await own.start();
      try {
        const run = own.run('for i in range(40000):\n    print(i, "x" * 40)\nprint("end")');
        await run.outcome();
        const again = own.execute({ runId: run.runId });
        expect(await again.outcome()).toMatchObject({ reason: 'finished' });
        expect(again.events.map(({ kind }) => kind)).toContain('gap');
        expect(again.text()).toMatch(/end\n$/);
        const next = own.run('print("next")');
        await next.outcome();
        expect(next.text()).toBe('next\n');
      } finally {
        await own.stop();
      }
    },
  );
});
