/** Kernels of Jupyter as clients see them, over a real init and bridge and a kernel that does what it is told. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { processIdOf } from '../../../agent-daemon/kernels/spawner.ts';
import { notes, printed, request, toJupyterRecord } from '../../support/jupyter-messages.ts';
import { byTier, tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { freshKernelId, KernelBench } from './bench.ts';
import { fakeArgv } from './bridge-process.ts';
import type { Step } from './fake-kernel.ts';

let bench: KernelBench;
beforeAll(async () => {
  bench = await new KernelBench().start();
  const fake = { argv: fakeArgv, display_name: 'Fake', language: 'fake' };
  bench.putSpecs({
    fake,
    messages: { ...fake, interrupt_mode: 'message' },
    absent: { ...fake, argv: ['/nowhere/kernel'] },
    fails: { ...fake, argv: ['sh', '-c', 'echo can not >&2; exit 5'] },
    env: { ...fake, argv: ['sh', '-c', 'echo "$MARK" >&2; exit 1'], env: { MARK: 'mark of $HOME' } },
  });
});
afterAll(async () => {
  await bench?.stop();
});

const start = async (spec = 'fake', restarts?: { perMinute: number }) => {
  const id = freshKernelId();
  const act = { kind: 'startSpec' as const, spec, ...(restarts === undefined ? {} : { restarts }) };
  expect(await bench.act(id, act)).toMatchObject({ id, spec, state: 'idle', starts: 1 });
  return id;
};
const cell = (...steps: Step[]) => JSON.stringify(steps);
const print = (text: string): Step => ({ do: 'print', text });

describe('a kernel of Jupyter', () => {
  it('is started by its kernelspec, once for an id, and lists as what it is', async () => {
    expect((await bench.specs()).map(({ name }) => name)).toEqual(expect.arrayContaining(['fake', 'messages']));
    const id = await start();
    expect(await bench.act(id, { kind: 'startSpec', spec: 'fake' })).toMatchObject({ id, starts: 1 });
    expect(await bench.list()).toContainEqual(expect.objectContaining({ id, spec: 'fake', state: 'idle' }));
    await expect(bench.act(freshKernelId(), { kind: 'startSpec', spec: 'cobol' })).rejects.toMatchObject({
      code: 'kernel_spec_missing',
    });
    await expect(bench.act(freshKernelId(), { kind: 'startSpec', spec: 'absent' })).rejects.toMatchObject({
      code: 'kernel_spec_unusable',
    });
    await bench.act(id, { kind: 'shutdown' });
    await expect(bench.channels({ kernelId: id }).done).rejects.toMatchObject({ code: 'kernel_not_found' });
  });

  it('is refused where the container has an init of an earlier version', async () => {
    const { initPath } = bench;
    const old = `${bench.dir.path}/old-init`;
    writeFileSync(old, '#!/bin/sh\necho usage >&2\nexit 2\n', { mode: 0o755 });
    bench.initPath = old;
    await bench.restart();
    await expect(bench.act(freshKernelId(), { kind: 'startSpec', spec: 'fake' })).rejects.toMatchObject({
      code: 'kernel_spec_unusable',
    });
    bench.initPath = initPath;
    await bench.restart();
  });

  it('is not what code runs in that names no kernel, and a runner has no channels', async () => {
    const id = await start();
    const runner = freshKernelId();
    await bench.act(runner, { kind: 'start', language: 'bash' });
    await expect(bench.channels({ kernelId: runner }).done).rejects.toMatchObject({ code: 'kernel_kind_wrong' });
    // Code that names no kernel goes to a runner.
    const run = bench.run('echo from a runner', { language: 'bash' });
    await run.outcome();
    expect(run.text()).toBe('from a runner\n');
    await Promise.all([id, runner].map((each) => bench.act(each, { kind: 'shutdown' })));
  });

  it('[S17] is heard from now on, or from any place of its log', async () => {
    const id = await start();
    const first = await bench.channels({ kernelId: id, writer: 'a' }).whenOpen();
    expect(first.events.slice(0, 2)).toEqual([
      { kind: 'begun', starts: 1, from: first.all('begun')[0]?.from },
      { kind: 'state', state: 'idle' },
    ]);
    const asked = first.ask(cell(print('one'), { do: 'sleep', ms: 50 }));
    await first.whenDone(asked);
    expect(first.all('state')).toHaveLength(1);
    const whole = bench.channels({ kernelId: id, after: { starts: 1, offset: 0 } });
    await whole.whenDone(asked);
    expect(notes(whole.messages)[0]).toEqual({ kind: 'ready' });
    const late = await bench.channels({ kernelId: id }).whenOpen();
    const second = first.ask(cell(print('two')));
    await late.whenDone(second);
    expect(printed(late.messages)).toBe('two');
    const activity = async () => (await bench.list()).find((each) => each.id === id)?.activeAtMs ?? 0;
    const before = await activity();
    await first.whenDone(first.ask(cell({ do: 'sleep', ms: 20 })));
    await until(async () => (await activity()) > before, { what: 'what it said to be activity' });
    await bench.act(id, { kind: 'shutdown' });
    for (const each of [first, whole, late]) {
      await each.done;
      const end = each.read().after.offset;
      expect(each.events.at(-1)).toEqual({ kind: 'ended', end, reason: 'exited', exitCode: 0, restarts: false });
    }
  });

  it('[S17] takes the records of a writer once, over cuts and the death of the agent', async () => {
    const id = await start();
    const count = byTier({ daily: 40, full: 300 });
    const records = Array.from({ length: count }, (_, i) => {
      const content = { code: cell(print(`${i},`)), silent: false };
      return request('execute_request', content, { id: `cell-${i}`, buffers: [Buffer.alloc(3000)] }).record;
    });
    const ends = new Set([0]);
    for (const { byteLength } of records) ends.add(Math.max(...ends) + byteLength);
    const all = Buffer.concat(records);
    for (let round = 0; ; round++) {
      const reader = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
      const from = reader.stream.info?.inputOffset ?? 0;
      expect(ends).toContain(from);
      const to = Math.min(all.byteLength, from + 10_000 + round * 777);
      for (let at = from; at < to; at += 1000) reader.stream.input(all.subarray(at, Math.min(at + 1000, to)));
      if (round % 3 === 0)
        await until(() => from === to || reader.all('taken').length > 0, { what: 'taken', everyMs: 1 });
      reader.cut();
      if (round % 4 === 3) await bench.restart();
      if (from === all.byteLength) break;
    }
    const whole = bench.channels({ kernelId: id, after: { starts: 1, offset: 0 } });
    await whole.whenDone(`cell-${count - 1}`);
    expect(printed(whole.messages)).toBe(Array.from({ length: count }, (_, i) => `${i},`).join(''));
    await bench.act(id, { kind: 'shutdown' });
  });

  it('[S17] never mixes the records of several writers, and gives a writer to its last stream', async () => {
    const id = await start();
    const big = (mark: string) => cell(print(mark), print('x'.repeat(400_000)), print(mark));
    const writers = ['a', 'b', 'c'];
    const readers = await Promise.all(writers.map((writer) => bench.channels({ kernelId: id, writer }).whenOpen()));
    const asked = readers.map((reader, i) => {
      const content = { code: big(writers[i]!), silent: false };
      const { id: cellId, record } = request('execute_request', content);
      for (let at = 0; at < record.byteLength; at += 60_000) reader.say(record.subarray(at, at + 60_000));
      return cellId;
    });
    await Promise.all(asked.map((cellId) => readers[0]!.whenDone(cellId)));
    for (const [i, cellId] of asked.entries())
      expect(printed(readers[0]!.messages, cellId)).toBe(`${writers[i]}${'x'.repeat(400_000)}${writers[i]}`);
    const again = await bench.channels({ kernelId: id, writer: 'a' }).whenOpen();
    expect(readers[0]!.stream.closed.reason).toMatchObject({ code: 'kernel_writer_replaced' });
    await again.whenDone(again.ask(cell(print('mine'))));
    await bench.act(id, { kind: 'shutdown' });
  });

  it('refuses what is no message, what is too large, and input at a wrong place', async () => {
    const id = await start();
    const refused = async (bytes: Uint8Array, offset = 0) => {
      const reader = await bench.channels({ kernelId: id, writer: `bad${offset}${bytes.byteLength}` }).whenOpen();
      reader.stream.inputAt(offset, '');
      reader.stream.input(bytes);
      await until(() => reader.stream.closed.aborted, { what: 'a refusal' });
      return (reader.stream.closed.reason as { code: string }).code;
    };
    const empty = Array.from({ length: 4 }, () => Buffer.from('{}'));
    expect(await refused(toJupyterRecord('iopub', empty))).toBe('kernel_message_invalid');
    expect(await refused(Buffer.concat([Buffer.from([0, 0, 0, 100]), Buffer.alloc(100)]))).toBe(
      'kernel_message_invalid',
    );
    expect(await refused(Buffer.from([0, 0, 0, 1]))).toBe('kernel_message_invalid');
    expect(await refused(Buffer.from([0x02, 0, 0, 1, 0, 0]))).toBe('kernel_message_too_large');
    expect(await refused(request('x', {}).record, 5)).toBe('kernel_message_invalid');
    await bench.act(id, { kind: 'shutdown' });
  });

  it('goes on over the death of the agent with all that it prints meanwhile', { timeout: 120_000 }, async () => {
    const id = await start();
    const times = byTier({ daily: 4000, full: 64_000 });
    const text = `${'0123456789'.repeat(100)}\n`;
    const first = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    const asked = first.ask(cell({ do: 'flood', text, times }));
    await first.event('taken');
    const hash = createHash('sha256');
    let after = first.cut();
    // It may have begun already.
    hash.update(printed(first.messages, asked));
    for (let restarts = 0; restarts < 3; restarts++) {
      const reader = bench.channels({ kernelId: id, after });
      // It is in the middle of it whenever it is cut.
      reader.stream.windowBytes = 400_000;
      await until(() => reader.read().messages.length > 200, { what: 'output', everyMs: 2 });
      after = reader.cut();
      hash.update(printed(reader.messages, asked));
      await bench.restart();
    }
    const last = bench.channels({ kernelId: id, after });
    await last.whenDone(asked);
    hash.update(printed(last.messages, asked));
    expect(last.all('gap')).toEqual([]);
    expect(hash.digest('hex')).toBe(createHash('sha256').update(text.repeat(times)).digest('hex'));
    await bench.act(id, { kind: 'shutdown' });
  });

  it(
    'announces what of its log is not kept any more, and goes on with a whole record',
    { timeout: 120_000 },
    async () => {
      bench.output = { onFull: 'drop', blockMs: 0, spoolBytes: 512 * 1024 };
      const id = await start();
      const reader = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
      reader.stream.windowBytes = 1000;
      const asked = reader.ask(cell({ do: 'flood', text: 'y'.repeat(2000), times: 3000 }), 'flood');
      const fast = bench.channels({ kernelId: id, writer: 'x' });
      await fast.whenDone(asked);
      reader.stream.windowBytes = Number.POSITIVE_INFINITY;
      reader.stream.take(1e12);
      await reader.whenDone(asked);
      const gaps = reader.all('gap');
      expect(gaps.length).toBeGreaterThan(0);
      expect(gaps.every(({ from, to }) => to > from)).toBe(true);
      const late = bench.channels({ kernelId: id, after: { starts: 1, offset: 0 } });
      await late.whenDone(asked);
      expect(late.all('gap')[0]).toMatchObject({ from: 0, reason: 'spool-full' });
      bench.output = { ...bench.output, onFull: 'block', blockMs: 600_000, spoolBytes: 64 * 1024 * 1024 };
      await bench.act(id, { kind: 'shutdown' });
    },
  );

  it.runIf(tier === 'full')(
    '[J12] waits for a client that takes nothing for a moment only: others hear all',
    { timeout: 120_000 },
    async () => {
      bench.output = { onFull: 'block', blockMs: 600_000, spoolBytes: 512 * 1024 };
      const id = await start();
      const never = await bench.channels({ kernelId: id }).whenOpen();
      never.stream.windowBytes = 1000;
      const other = await bench.channels({ kernelId: id, writer: 'x' }).whenOpen();
      const asked = other.ask(cell({ do: 'flood', text: 'y'.repeat(2000), times: 3000 }));
      await other.whenDone(asked);
      expect(other.all('gap')).toEqual([]);
      expect(printed(other.messages, asked).length).toBe(6_000_000);
      never.stream.windowBytes = Number.POSITIVE_INFINITY;
      never.stream.take(1e12);
      await never.whenDone(asked);
      expect(never.all('gap')).toMatchObject([{ reason: 'spool-full' }]);
      bench.output = { ...bench.output, spoolBytes: 64 * 1024 * 1024 };
      await bench.act(id, { kind: 'shutdown' });
    },
  );

  it('is interrupted in the way of its kernelspec', async () => {
    for (const spec of ['fake', 'messages']) {
      const id = await start(spec);
      expect(await bench.act(id, { kind: 'interrupt' })).toMatchObject({ state: 'idle' });
      await bench.act(id, { kind: 'shutdown' });
    }
  });

  it('[S17] starts anew without what it had not read, and no writer goes back', async () => {
    const id = await start();
    const first = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    await first.whenDone(first.ask(cell(print('before'))));
    const at = first.all('taken').at(-1)?.offset ?? 0;
    expect(await bench.act(id, { kind: 'restart', starts: 1 })).toMatchObject({ state: 'idle', starts: 2 });
    expect(await bench.act(id, { kind: 'restart', starts: 1 })).toMatchObject({ starts: 2 });
    await first.done;
    expect(first.events.at(-1)).toMatchObject({ kind: 'ended', restarts: true });
    const second = await bench.channels({ kernelId: id, writer: 'w', after: { starts: 2, offset: 0 } }).whenOpen();
    expect(second.stream.info?.inputOffset).toBe(at);
    await second.whenDone(second.ask(cell(print('after'))));
    expect(printed(second.messages)).toBe('after');
    // The log of the start before is still there.
    const old = bench.channels({ kernelId: id, after: { starts: 1, offset: 0 } });
    await old.done;
    expect(printed(old.read().messages)).toBe('before');
    expect(old.events.at(-1)).toMatchObject({ kind: 'ended', restarts: true });
    await expect(bench.channels({ kernelId: id, after: { starts: 9, offset: 0 } }).done).rejects.toMatchObject({
      code: 'session_output_gone',
    });
    await bench.act(id, { kind: 'shutdown' });
  });

  it('[J3] goes on with a whole record where it is asked to go on within one', async () => {
    const id = await start();
    const first = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    await first.whenDone(first.ask(cell(print('one'))));
    const { offset } = first.read().after;
    const within = await bench.channels({ kernelId: id, after: { starts: 1, offset: offset - 5 } }).whenOpen();
    await first.whenDone(first.ask(cell(print('two'))));
    await until(() => printed(within.read().messages) === 'two', { what: 'the next record' });
    expect(within.all('gap')).toMatchObject([{ from: offset - 5, to: offset }]);
    await bench.act(id, { kind: 'shutdown' });
  });

  it('[S17] tells of a start that is over while an agent that has just begun takes the next one up', async () => {
    const id = await start();
    const reader = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    await reader.whenDone(reader.ask(cell(print('before'))));
    // The agent dies when the next start is noted, and the next one comes no further.
    const held = bench.heldSpawns;
    bench.holdsSpawns = true;
    bench.act(id, { kind: 'restart' }).catch(() => undefined);
    await until(() => bench.heldSpawns === held + 1, { what: 'the next start to be noted' });
    await bench.restart();
    const old = bench.channels({ kernelId: id, after: { starts: 1, offset: 0 } });
    await old.done;
    expect(printed(old.read().messages)).toBe('before');
    expect(old.events.at(-1)).toMatchObject({ kind: 'ended', restarts: true });
    bench.holdsSpawns = false;
    await bench.restart();
    const next = await bench.channels({ kernelId: id, writer: 'w', after: { starts: 2, offset: 0 } }).whenOpen();
    await next.whenDone(next.ask(cell(print('after'))));
    expect(printed(next.messages)).toBe('after');
    await bench.act(id, { kind: 'shutdown' });
  });

  it.each([
    ['', {}],
    [', and its kernelspec says another thing since', { MARK: 'new' }],
  ])('is started all the same where the agent died just before its init was asked to%s', async (_, env) => {
    const id = freshKernelId();
    const changing = { argv: fakeArgv, display_name: 'Changing', language: 'fake' };
    bench.putSpecs({ changing });
    bench.losesSpawnOf = processIdOf(id, 1);
    const lost = bench.lostSpawns;
    bench.act(id, { kind: 'startSpec', spec: 'changing' }).catch(() => undefined);
    await until(() => bench.lostSpawns === lost + 1, { what: 'the process to be noted' });
    bench.losesSpawnOf = undefined;
    bench.putSpecs({ changing: { ...changing, env } });
    await bench.restart();
    const reader = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    await reader.whenDone(reader.ask(cell(print('here'))));
    expect(printed(reader.messages)).toBe('here');
    expect(await bench.act(id, { kind: 'shutdown' })).toMatchObject({ starts: 1 });
  });

  it('is found where it was started and had said nothing yet, whatever its kernelspec says since', async () => {
    const wait = 'echo begun >> slow-began; until [ -e slow-may-go ]; do sleep 0.02; done; exec "$@"';
    const slow = { argv: ['sh', '-c', wait, 'sh', ...fakeArgv], display_name: 'Slow', language: 'fake' };
    bench.putSpecs({ slow });
    const id = freshKernelId();
    bench.act(id, { kind: 'startSpec', spec: 'slow' }).catch(() => undefined);
    await until(() => existsSync(`${bench.dir.path}/home/slow-began`), { what: 'its process' });
    bench.putSpecs({ slow: { ...slow, env: { MARK: 'new' } } });
    await bench.restart();
    writeFileSync(`${bench.dir.path}/home/slow-may-go`, '');
    const reader = await bench.channels({ kernelId: id, writer: 'w' }).whenOpen();
    await reader.whenDone(reader.ask(cell(print('here'))));
    expect(printed(reader.messages)).toBe('here');
    expect(readFileSync(`${bench.dir.path}/home/slow-began`, 'utf8')).toBe('begun\n');
    expect(await bench.act(id, { kind: 'shutdown' })).toMatchObject({ starts: 1 });
  });

  it('[J11] hears what is said to it while it is started anew', async () => {
    const id = await start();
    // It does not come to the end of the first start, so its stream goes on.
    const slow = await bench.channels({ kernelId: id, writer: 'slow' }).whenOpen();
    slow.stream.windowBytes = 1000;
    const fast = await bench.channels({ kernelId: id, writer: 'fast' }).whenOpen();
    await fast.whenDone(fast.ask(cell({ do: 'flood', text: 'y'.repeat(200), times: 50 })));
    const asking = setInterval(() => slow.ask(cell()), 1);
    const { starts, state } = await bench.act(id, { kind: 'restart' });
    // What was asked meanwhile may be under way there already.
    expect([starts, state]).toEqual([2, expect.stringMatching(/^(?:idle|busy)$/)]);
    clearInterval(asking);
    const second = await bench.channels({ kernelId: id, writer: 'fast', after: { starts: 2, offset: 0 } }).whenOpen();
    await second.whenDone(second.ask(cell(print('heard'))));
    expect(printed(second.messages)).toBe('heard');
    slow.cut();
    await bench.act(id, { kind: 'shutdown' });
  });

  it('dies with its reason and last output, and is started anew as often as it may be', async () => {
    const id = await start('fake', { perMinute: 2 });
    for (let starts = 1; starts <= 3; starts++) {
      const reader = await bench.channels({ kernelId: id, writer: 'w', after: { starts, offset: 0 } }).whenOpen();
      await until(() => reader.all('state').at(-1)?.state === 'idle', { what: 'the next start' });
      reader.ask(cell(print('last words'), { do: 'die', signal: 'SIGSEGV' }));
      await reader.done;
      expect(reader.events.at(-1)).toEqual({
        kind: 'ended',
        end: reader.read().after.offset,
        reason: 'exited',
        signal: 'SIGSEGV',
        restarts: starts < 3,
      });
      expect(printed(reader.read().messages)).toBe('last words');
    }
    const [listed] = (await bench.list()).filter((each) => each.id === id);
    expect(listed).toMatchObject({ state: 'dead', starts: 3, death: { reason: 'exited', signal: 'SIGSEGV' } });
    expect(listed?.death?.lastOutput).toContain('last words');
    expect(await bench.act(id, { kind: 'restart' })).toMatchObject({ state: 'idle', starts: 4 });
    await bench.act(id, { kind: 'shutdown' });
  });

  it('says why it can not start, with the environment of its kernelspec', async () => {
    const failed = await bench.act(freshKernelId(), { kind: 'startSpec', spec: 'fails' });
    expect(failed).toMatchObject({ state: 'dead', death: { exitCode: 5 } });
    expect(failed.death?.lastOutput).toContain('can not');
    const told = await bench.act(freshKernelId(), { kind: 'startSpec', spec: 'env' });
    expect(told.death?.lastOutput).toContain(`mark of ${bench.dir.path}/home`);
  });
});
