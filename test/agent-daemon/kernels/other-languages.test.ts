/**
 * Kernels of other languages as Debian has them, over a real init and bridge: one of another make (xeus, C++, PARI/GP), and the
 * one that is most in use besides Python's (IRkernel, R; in the full tier).
 */
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freshKernelId, KernelBench, type RunReader } from './bench.ts';

let bench: KernelBench;
beforeAll(async () => {
  bench = await new KernelBench().start();
});
afterAll(async () => {
  await bench?.stop();
});

const start = async (spec: string) => {
  const id = freshKernelId();
  await bench.act(id, { kind: 'startSpec', spec });
  return { id, run: (code: string) => bench.run(code, { kernelId: id }) };
};

/** What a run that ends so has printed, and its records. */
async function ended(run: RunReader, exitCode = 0) {
  expect(await run.outcome(), run.text('stderr')).toEqual({ reason: 'finished', exitCode });
  return { text: run.text(), stderr: run.text('stderr'), records: run.records };
}

describe('a kernel of PARI/GP', () => {
  it('keeps its state, prints, fails, and forgets with its restart', async () => {
    const { id, run } = await start('xeus-gp');
    await ended(run('x = 2^100;'));
    const { text, records } = await ended(run('print("x is ", x); x + 1'));
    expect(text + JSON.stringify(records)).toMatch(
      /x is 1267650600228229401496703205376[^]*1267650600228229401496703205377/,
    );
    const failed = await ended(run('1/0'), 1);
    expect(JSON.stringify(failed)).toContain('impossible inverse');
    expect((await bench.act(id, { kind: 'restart' })).starts).toBe(2);
    expect(JSON.stringify((await ended(run('x'))).records)).not.toContain('12676506');
    await bench.act(id, { kind: 'shutdown' });
  });
});

describe.runIf(existsSync('/usr/share/jupyter/kernels/ir/kernel.json'))('a kernel of R', () => {
  it('keeps its state, prints, shows, fails, asks and completes', async () => {
    const { id, run } = await start('ir');
    expect((await ended(run('x <- 6; cat(x * 7, "\\n")'))).text).toBe('42 \n');
    expect(await ended(run('x'))).toMatchObject({ records: [{ kind: 'display', data: { 'text/plain': '[1] 6' } }] });
    expect(await ended(run('stop("no such luck")'), 1)).toMatchObject({
      records: [{ kind: 'error', message: expect.stringContaining('no such luck') as string }],
    });
    const asking = run('cat("hello ", readline("name? "), "\\n", sep = "")');
    const { at, prompt } = await asking.event('waiting');
    expect(prompt).toBe('name? ');
    asking.say({ kind: 'input', at, text: 'you' });
    expect((await ended(asking)).text).toBe('hello you\n');
    const completing = bench.execute({
      runId: 'complete-r',
      kernelId: id,
      request: { mode: 'complete', code: 'Sys.getenv' },
    });
    expect(await ended(completing)).toMatchObject({
      records: [{ kind: 'completion', matches: expect.arrayContaining(['Sys.getenv']) as string[] }],
    });
    await bench.act(id, { kind: 'shutdown' });
  });

  it('is interrupted, and goes on', async () => {
    const { id, run } = await start('ir');
    const sleeping = run('x <- 1; cat("begun\\n"); flush.console(); Sys.sleep(1000)');
    await sleeping.whenText('begun');
    sleeping.say({ kind: 'interrupt' });
    // It answers without an error, so that nothing says that it was an interrupt.
    expect(await sleeping.outcome()).toEqual({ reason: 'finished', exitCode: 1 });
    expect((await ended(run('cat(x)'))).text).toBe('1');
    await bench.act(id, { kind: 'shutdown' });
  });
});
