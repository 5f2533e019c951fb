/** Runs of the Execute API on kernels of Jupyter, over a real init and bridge and a kernel that does what it is told. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bell } from '../../../agent-daemon/bell.ts';
import { JupyterRuns } from '../../../agent-daemon/kernels/jupyter-runs.ts';
import { newId } from '../../../schema/ids.ts';
import { printed } from '../../support/jupyter-messages.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { freshRunId, KernelBench } from './bench.ts';
import { fakeArgv } from './bridge-process.ts';
import type { Step } from './fake-kernel.ts';

const specs = {
  fake: { argv: fakeArgv, display_name: 'Fake', language: 'fake' },
  other: { argv: fakeArgv, display_name: 'Other', language: 'fake' },
};
let bench: KernelBench;
beforeAll(async () => {
  bench = await new KernelBench().start();
  bench.putSpecs(specs);
});
afterAll(async () => {
  await bench?.stop();
});

const spec = 'fake';
const cell = (...steps: Step[]) => JSON.stringify(steps);
const print = (text: string): Step => ({ do: 'print', text });
const count: Step = { do: 'count' };
const done = { reason: 'finished', exitCode: 0 };
const ofSpec = async (own: KernelBench, name: string) => (await own.list()).filter((each) => each.spec === name);

/** A bench of its own, for what would disturb the others. */
async function withBench(
  act: (own: KernelBench) => Promise<void>,
  setUp: (own: KernelBench) => void = () => undefined,
) {
  const own = new KernelBench();
  setUp(own);
  await own.start();
  own.putSpecs(specs);
  try {
    await act(own);
  } finally {
    await own.stop();
  }
}

describe('a run on a kernel of Jupyter', () => {
  it('starts a kernel of its kernelspec where none lives, else goes to that, and tells output, values and end', async () => {
    const first = bench.run(
      cell(
        count,
        { do: 'publish', type: 'stream', content: { name: 'stderr', text: 'bad \u00e9' } },
        {
          do: 'publish',
          type: 'display_data',
          content: { data: { 'image/png': 'AAAA', 'application/json': { a: 1 } } },
        },
        { do: 'publish', type: 'execute_result', content: { data: { 'text/plain': '42' }, execution_count: 7 } },
      ),
      { spec },
    );
    expect(await first.outcome()).toEqual(done);
    expect([first.text(), first.text('stderr')]).toEqual(['1', 'bad \u00e9']);
    expect(first.records).toEqual([
      { kind: 'display', id: first.runId, data: { 'image/png': 'AAAA', 'application/json': '{"a":1}' } },
      { kind: 'result', id: first.runId, data: { 'text/plain': '42' } },
    ]);
    const second = bench.run(cell(count), { spec });
    expect(await second.outcome()).toEqual(done);
    expect(second.text()).toBe('2');
    const [kernel, ...more] = await ofSpec(bench, spec);
    expect([kernel, more]).toMatchObject([{ state: 'idle', starts: 1, queued: 0 }, []]);
    const named = bench.run(cell(count), { kernelId: kernel!.id });
    await named.outcome();
    expect(named.text()).toBe('3');
    await expect(bench.run('[]', { spec: 'cobol' }).done).rejects.toMatchObject({ code: 'kernel_spec_missing' });
  });

  it('is run once however often it is asked for, and refused under the id of another', async () => {
    const ask = {
      runId: freshRunId(),
      request: { mode: 'query' as const, code: cell(count, print('.')) },
      spec: 'other',
    };
    const twice = [bench.execute(ask), bench.execute(ask)];
    await Promise.all(twice.map((each) => each.outcome()));
    const later = bench.execute(ask);
    await later.outcome();
    expect([...twice, later].map((each) => each.text())).toEqual(['1.', '1.', '1.']);
    await expect(bench.execute({ ...ask, spec }).done).rejects.toMatchObject({ code: 'kernel_run_conflict' });
    const next = bench.run(cell(count), { spec: 'other' });
    await next.outcome();
    expect(next.text()).toBe('2');
  });

  it('[R8] ends with the status of its error, and its traceback as the kernel has it', async () => {
    const statuses = [
      ['ZeroDivisionError', 'division by zero', 1],
      ['SystemExit', '7', 7],
      ['KeyboardInterrupt', '', 130],
    ] as const;
    for (const [name, value, exitCode] of statuses) {
      const run = bench.run(cell(print('before'), { do: 'fail', name, value }, print('never')), { spec });
      expect(await run.outcome()).toEqual({ reason: 'finished', exitCode });
      expect(run.text()).toBe('before');
      const traceback = '\x1b[31mred\x1b[0m\nhere\n';
      expect(run.records).toEqual([{ kind: 'error', id: run.runId, name, message: value, traceback }]);
    }
  });

  it('completes what stands before the cursor, counted in characters; a batch is for a runner', async () => {
    const completing = bench.execute({ runId: freshRunId(), request: { mode: 'complete', code: 'a\u{1f600}b' }, spec });
    expect(await completing.outcome()).toEqual(done);
    expect(completing.records).toEqual([
      { kind: 'completion', id: completing.runId, matches: ['a\u{1f600}b-completed'], replaces: 3 },
    ]);
    const request = { mode: 'batch' as const, clean: '', build: '', exec: 'true' };
    await expect(bench.execute({ runId: freshRunId(), request, spec }).done).rejects.toMatchObject({
      code: 'kernel_kind_wrong',
    });
  });

  it('asks for a line and is answered once, also where output came behind the question', async () => {
    const ask = (prompt: string): Step => ({ do: 'ask', prompt, after: '(waits)' });
    const run = bench.run(cell(ask('name? '), print(';'), ask('again? ')), { spec });
    const { at, prompt, password } = await run.event('waiting');
    expect({ prompt, password }).toEqual({ prompt: 'name? ', password: false });
    await run.whenText('(waits)');
    // Where a client of HTTP is.
    const answer = { kind: 'input' as const, at: run.position.stdout, text: 'Ada' };
    expect(answer.at).toBeGreaterThan(at);
    run.say(answer);
    run.say({ ...answer, text: 'Eve' });
    await until(() => run.events.filter(({ kind }) => kind === 'waiting').length === 2, {
      what: 'the second question',
    });
    const late = bench.execute({ runId: run.runId, input: { ...answer, at } });
    const second = await late.event('waiting');
    expect(second.prompt).toBe('again? ');
    await expect(
      bench.execute({ runId: run.runId, input: { ...answer, at: second.at + 100_000 } }).done,
    ).rejects.toMatchObject({ code: 'kernel_input_unasked' });
    late.say({ kind: 'input', at: second.at, text: 'Bob' });
    expect(await run.outcome()).toEqual(done);
    expect(run.text()).toBe('(waits)Ada;(waits)Bob');
  });

  it('waits for those before it, and is interrupted by its own client alone', async () => {
    const first = bench.run(cell(print('begun'), { do: 'sleep', ms: 600_000 }), { spec });
    const second = bench.run(cell(print('second')), { spec });
    await first.whenText('begun');
    expect(await ofSpec(bench, spec)).toMatchObject([{ state: 'busy', queued: 1 }]);
    second.say({ kind: 'interrupt' });
    first.say({ kind: 'interrupt' });
    expect(await first.outcome()).toEqual({ reason: 'finished', exitCode: 130 });
    expect(await second.outcome()).toEqual(done);
    expect([first.text(), second.text()]).toEqual(['begun', 'second']);
  });

  it('ends when its time is over', async () => {
    const run = bench.run(cell(print('begun'), { do: 'sleep', ms: 600_000 }), { spec, timeoutMs: 100 });
    expect(await run.outcome()).toEqual({ reason: 'timeout', exitCode: 130 });
  });

  it('goes on where a client was cut, each message once', async () => {
    const times = 400;
    const text = `${'0123456789'.repeat(30)}\n`;
    const first = bench.run(cell(...Array.from({ length: times }, () => print(text))), { spec });
    let reader = first;
    let read = '';
    for (let cuts = 0; ; cuts++) {
      reader.stream.windowBytes = 20_000 + cuts * 999;
      await until(() => reader.isDone || reader.text() !== '', { what: 'some output', everyMs: 1 });
      const { isDone } = reader;
      const after = isDone ? reader.position : reader.cut();
      read += reader.text();
      if (isDone) break;
      reader = bench.execute({ runId: first.runId, after });
      if (cuts > 1000) throw new Error('no end');
    }
    expect(read).toBe(text.repeat(times));
  });
});

describe('beside the clients of Jupyter of the same kernel', () => {
  it('a run hears what is its own, waits behind what they ask for, and leaves that alone', async () => {
    const [kernel] = await ofSpec(bench, spec);
    const client = await bench.channels({ kernelId: kernel!.id, writer: 'lab' }).whenOpen();
    const theirs = client.ask(cell(print('theirs'), { do: 'sleep', ms: 600_000 }));
    await until(() => printed(client.read().messages, theirs) === 'theirs', { what: 'their cell' });
    const run = bench.run(cell(print('ours'), { do: 'ask', prompt: 'ours? ' }), { spec });
    await until(() => run.stream.info, { what: 'the run to be taken' });
    run.say({ kind: 'interrupt' });
    const behind = client.ask(cell(print('behind')));
    expect(run.events).toEqual([]);
    await bench.act(kernel!.id, { kind: 'interrupt' });
    await client.whenDone(theirs);
    const { at } = await run.event('waiting');
    run.say({ kind: 'input', at, text: '!' });
    expect(await run.outcome()).toEqual(done);
    await client.whenDone(behind);
    expect(run.text()).toBe('ours!');
    expect(printed(client.messages, behind)).toBe('behind');
    const last = bench.run(cell(print('last')), { spec });
    await last.outcome();
    expect(last.text()).toBe('last');
    client.cut();
  });

  it('a run that the kernel refuses behind their error is asked for again, and run once', async () => {
    const before = bench.run(cell(count, { do: 'refuse', cells: 3 }), { spec });
    await before.outcome();
    const run = bench.run(cell(count), { spec });
    expect(await run.outcome()).toEqual(done);
    expect(Number(run.text())).toBe(Number(before.text()) + 1);
    const after = bench.run(cell(count), { spec });
    await after.outcome();
    expect(Number(after.text())).toBe(Number(before.text()) + 2);
  });

  it('their writers never take the place of the one of runs', async () => {
    await withBench(async (own) => {
      await own.run(cell(count), { spec }).outcome();
      const [kernel] = await ofSpec(own, spec);
      for (let each = 0; each < 70; each++) {
        const client = await own.channels({ kernelId: kernel!.id, writer: `w${each}` }).whenOpen();
        await client.whenDone(client.ask(cell()));
        client.cut();
      }
      await own.restart();
      const run = own.run(cell(count), { kernelId: kernel!.id });
      await run.outcome();
      expect(run.text()).toBe('2');
    });
  });
});

describe('a kernel of Jupyter that dies within a run', () => {
  it('ends that with its death and those that wait, and the kernelspec has another one then', async () => {
    await withBench(async (own) => {
      const run = own.run(cell(print('last words'), { do: 'die', signal: 'SIGSEGV' }), { spec });
      const waiting = own.run(cell(print('never')), { spec });
      const how = { reason: 'exited', signal: 'SIGSEGV' };
      expect([await run.outcome(), await waiting.outcome()]).toEqual([how, how]);
      expect([run.text(), waiting.text()]).toEqual(['last words', '']);
      const [dead] = await ofSpec(own, spec);
      expect(dead).toMatchObject({
        state: 'dead',
        death: { ...how, lastOutput: expect.stringContaining('last words') },
      });
      await expect(own.run('[]', { kernelId: dead!.id }).done).rejects.toMatchObject({ code: 'kernel_dead' });
      const next = own.run(cell(count), { spec });
      await next.outcome();
      expect(next.text()).toBe('1');
      expect(await own.act(dead!.id, { kind: 'restart' })).toMatchObject({ state: 'idle', starts: 2 });
      const anew = own.run(cell(count), { kernelId: dead!.id });
      await anew.outcome();
      expect(anew.text()).toBe('1');
      // What was run before the restart is still there.
      const again = own.execute({ runId: run.runId });
      expect(await again.outcome()).toEqual(how);
      expect(again.text()).toBe('last words');
    });
  });

  it.runIf(tier === 'full')('because it did not heed the end of its time', async () => {
    await withBench(async (own) => {
      const deaf = own.run(cell(print('begun'), { do: 'stop' }), { spec, timeoutMs: 500 });
      expect(await deaf.outcome()).toMatchObject({ reason: 'timeout', signal: 'SIGKILL' });
    });
  });
});

describe('after the death of the agent', () => {
  it('runs on a kernel of Jupyter go on and what waits is run, once; answers stay', async () => {
    await withBench(async (own) => {
      const ticks = Array.from({ length: 40 }, (_, i): Step[] => [print(`${i},`), { do: 'sleep', ms: 20 }]).flat();
      const first = own.run(cell(count, ...ticks), { spec });
      const queued = own.run(cell(count, { do: 'ask', prompt: 'name? ' }, count), { spec });
      await first.whenText('5,');
      await own.restart();
      const resumed = own.execute({ runId: first.runId });
      const behind = own.execute({ runId: queued.runId });
      expect(await resumed.outcome()).toEqual(done);
      expect(resumed.text()).toBe(`1${Array.from({ length: 40 }, (_, i) => `${i},`).join('')}`);
      const { at } = await behind.event('waiting');
      await own.restart();
      const answering = own.execute({ runId: queued.runId, input: { kind: 'input', at, text: 'Ada' } });
      await answering.whenText('Ada');
      await own.restart();
      const again = own.execute({ runId: queued.runId, input: { kind: 'input', at, text: 'Eve' } });
      expect(await again.outcome()).toEqual(done);
      expect(again.text()).toBe('2Ada3');
      await until(async () => (await ofSpec(own, spec))[0]?.state === 'idle', { what: 'the kernel to be idle' });
      const last = own.run(cell(count), { spec });
      await last.outcome();
      expect(last.text()).toBe('4');
    });
  });

  it('at any moment of a run nothing is run twice, nothing not at all', async () => {
    await withBench(async (own) => {
      const runs = 12;
      for (let each = 1; each <= runs; each++) {
        const run = own.run(cell(count, { do: 'sleep', ms: 5 }, print(';')), { spec });
        if (each > 1) await until(() => run.stream.info, { what: 'the run to be taken', everyMs: 1 });
        else await run.outcome();
        // Each dies a little later than the one before.
        await new Promise((resolve) => setTimeout(resolve, each * 3));
        await own.restart();
        const again = own.execute({ runId: run.runId });
        expect(await again.outcome()).toEqual(done);
        expect(again.text()).toBe(`${each};`);
      }
    });
  });

  it('a kernel that died meanwhile is told with its last run', async () => {
    await withBench(async (own) => {
      const run = own.run(cell(print('begun'), { do: 'sleep', ms: 300 }, print('end'), { do: 'die', code: 9 }), {
        spec,
      });
      await run.whenText('begun');
      await own.leave();
      await new Promise((resolve) => setTimeout(resolve, 600));
      await own.start();
      const again = own.execute({ runId: run.runId });
      expect(await again.outcome()).toEqual({ reason: 'exited', exitCode: 9 });
      expect(again.text()).toBe('begunend');
    });
  });
});

describe('where messages are missing', () => {
  it('a run that lost its end is over all the same, and is told what is missing', async () => {
    const large = 33 * 1024 * 1024;
    const run = bench.run(cell(print('begin'), { do: 'display', bytes: large }, { do: 'vanish' }), { spec });
    expect(await run.outcome()).toEqual({ reason: 'finished', exitCode: 1 });
    expect(run.text()).toBe('begin');
    expect(run.lost).toEqual([expect.stringContaining('is too large')]);
    const next = bench.run(cell(print('next')), { spec });
    await next.outcome();
    expect(next.text()).toBe('next');
  });

  it('a run that is over and was dropped says so, also where no record begins behind it', async () => {
    await withBench(
      async (own) => {
        const run = own.run(cell(print('gone')), { spec });
        await run.outcome();
        const [kernel] = await ofSpec(own, spec);
        const client = await own.channels({ kernelId: kernel!.id, writer: 'lab' }).whenOpen();
        client.ask(cell({ do: 'display', bytes: 3_000_000 }, { do: 'sleep', ms: 600_000 }));
        await until(() => client.read().messages.some(({ buffers }) => buffers.length > 0), { what: 'what drops it' });
        const again = own.execute({ runId: run.runId });
        expect(await again.outcome()).toEqual(done);
        expect(again.events.map(({ kind }) => kind)).toEqual(['begun', 'gap', 'finished']);
      },
      (own) => (own.output = { onFull: 'block', blockMs: 600_000, spoolBytes: 512 * 1024 }),
    );
  });

  it('a message that is larger than the log comes whole to who follows the run', async () => {
    await withBench(
      async (own) => {
        const large = 'z'.repeat(2_000_000);
        const run = own.run(cell({ do: 'flood', text: large, times: 1 }, print('end')), { spec });
        expect(await run.outcome()).toEqual(done);
        expect(run.text() === `${large}end`).toBe(true);
        expect(run.lost).toEqual([]);
      },
      (own) => (own.output = { onFull: 'block', blockMs: 600_000, spoolBytes: 512 * 1024 }),
    );
  });

  it('a full log goes on under a run that nobody follows, and what was dropped of it is told', async () => {
    await withBench(
      async (own) => {
        const run = own.run(cell({ do: 'flood', text: 'y'.repeat(2000), times: 2000 }, print('end')), { spec });
        await run.event('begun');
        run.cut();
        await until(async () => (await ofSpec(own, spec))[0]?.state === 'idle', { what: 'its end', timeoutMs: 60_000 });
        const again = own.execute({ runId: run.runId });
        expect(await again.outcome()).toEqual(done);
        expect(again.events).toContainEqual(expect.objectContaining({ kind: 'gap', reason: 'spool-full' }));
        expect(again.text()).toMatch(/^(?:y{2000})+end$/);
      },
      (own) => (own.output = { onFull: 'block', blockMs: 600_000, spoolBytes: 512 * 1024 }),
    );
  });
});

it('a run of which the beginning was lost begins where that was, so that it is told', async () => {
  const saved: object[] = [];
  const said: string[] = [];
  const runs = new JupyterRuns({
    clock: { nowMs: () => 0, bootMs: () => 0 },
    timers: { after: () => () => undefined },
    bell: new Bell(),
    failed: () => undefined,
    save: (record) => Promise.resolve(void saved.push(record)),
    isReady: () => true,
    death: () => undefined,
    starts: () => 1,
    seen: () => 100,
    readTo: () => 100,
    say: (text) => Promise.resolve(void said.push(text)),
    asked: () => undefined,
    signal: () => Promise.resolve(),
  });
  const runId = freshRunId();
  const request = { mode: 'query' as const, code: 'x' };
  const run = {
    runId,
    kernelId: newId('kernel', 0, new Uint8Array(10)),
    digest: '',
    request,
    asked: 0,
    answered: [],
    inputAt: 0,
  };
  await runs.take(run);
  runs.missed(900);
  const parent = Buffer.from(JSON.stringify({ msg_id: `run.${runId}.1` }));
  const busy = {
    channel: 'iopub',
    offset: 900,
    end: 950,
    header: Buffer.from('{"msg_type":"status"}'),
    parent,
    content: Buffer.from('{"execution_state":"busy"}'),
  };
  runs.hear(busy);
  expect(runs.reach(run)).toEqual({ stdout: 100, stderr: 0 });
  expect(saved).toContainEqual({ run: { runId, begun: { starts: 1, from: { stdout: 100, stderr: 0 }, atMs: 0 } } });
});
