import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { SpawnSpec } from '../../../agent-daemon/init/messages.ts';
import { until } from '../../support/wait.ts';
import { shell, TestSession } from './harness.ts';

/** `--memory` that gives the smallest ring, 64 KiB. */
const smallRing = { args: ['--memory', String(1024 * 1024)] };
const data = randomBytes(1024 * 1024);

/** Writes `data` to stdout, then makes the file `written`. */
const writeData = (session: TestSession, more: Partial<SpawnSpec> = {}): SpawnSpec =>
  shell(`cat ${session.file('data', data)}; > ${session.file('written')}`, more);
const isWritten = (session: TestSession): boolean => existsSync(session.file('written'));

/** Every byte that arrived is the right one, and what did not is exactly what the gaps say. */
function expectExact(session: TestSession, { processId }: SpawnSpec): void {
  const { record } = session;
  for (const { offset, bytes } of record.pieces(processId))
    expect(bytes.equals(data.subarray(offset, offset + bytes.length))).toBe(true);
  const lost = record.gaps(processId).reduce((sum, { from, to }) => sum + to - from, 0);
  expect(record.bytes(processId).length + lost).toBe(data.length);
}

describe('the ring', () => {
  it.each([
    [undefined, 4 * 1024 * 1024],
    [16 * 1024 * 1024, 1024 * 1024],
    [1, 64 * 1024],
  ])('[I20] with memory %s has %i bytes', async (memory, bytes) => {
    await using session = await new TestSession({ args: memory ? ['--memory', String(memory)] : [] }).start();
    expect(session.record.status?.ringBytes).toBe(bytes);
  });

  it('[I20] leaves room for a newcomer beside greedy processes', async () => {
    await using session = new TestSession(smallRing);
    session.acknowledges = false;
    await session.start();
    for (let i = 0; i < 4; i++) {
      const greedy = shell('yes');
      await session.link.spawn(greedy);
      await until(() => session.record.reached(greedy.processId) > 256, { what: 'a greedy process' });
    }
    const newcomer = shell('echo here');
    await session.link.spawn(newcomer);
    await session.finished(newcomer.processId);
    expect(session.record.text(newcomer.processId)).toBe('here\n');
  });

  it('[I21] [I22] keeps what was not acknowledged and sends it again, each byte with its time', async () => {
    await using session = new TestSession();
    session.acknowledges = false;
    await session.start();
    const spec = shell('for i in 1 2 3 4 5; do echo "line $i"; sleep 0.02; done; echo error >&2');
    await session.run(spec);
    const timeOfEachByte = (): number[] =>
      session.record.pieces(spec.processId).flatMap(({ bytes, timeMs }) => Array<number>(bytes.length).fill(timeMs));
    const times = timeOfEachByte();
    const text = session.record.text(spec.processId);
    expect(new Set(times).size).toBeGreaterThan(1);
    session.forget();
    await session.replaceAgent();
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe(text);
    expect(session.record.text(spec.processId, 2)).toBe('error\n');
    expect(timeOfEachByte()).toEqual(times);
  });

  it('[I21] [I24] has nothing more of what was acknowledged, and tells whoever asks for it', async () => {
    await using session = await new TestSession().start();
    const spec = shell('echo first; read line; echo second', { stdin: 'open' });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'first');
    session.acknowledges = false;
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    session.forget();
    await session.replaceAgent();
    await session.finished(spec.processId);
    expect(session.record.lists.at(-1)?.[0]?.acked).toEqual({ 1: 6, 2: 0 });
    expect(session.record.gaps(spec.processId)).toEqual([{ from: 0, to: 6 }]);
    expect(session.record.text(spec.processId)).toBe('second\n');
  });

  it('[I21] is silent about a stream of an earlier connection until it is resumed', async () => {
    await using session = await new TestSession().start();
    const spec = shell('read line; echo "$line"; echo error >&2', { stdin: 'open' });
    await session.link.spawn(spec);
    const link = await session.replaceAgent({ onProcesses: () => {} });
    await link.writeStdin(spec.processId, 0, Buffer.from('one\n'));
    await until(() => session.record.exits.get(spec.processId)?.final, { what: 'the end' });
    link.resume(spec.processId, 2, 0);
    await until(() => session.record.text(spec.processId, 2) === 'error\n', { what: 'the resumed stream' });
    expect(session.record.text(spec.processId, 1)).toBe('');
    link.resume(spec.processId, 1, 0);
    await session.finished(spec.processId);
  });

  it('[I23] lets the writer wait for the agent, and loses nothing', async () => {
    await using session = new TestSession(smallRing);
    session.acknowledges = false;
    await session.start();
    const spec = writeData(session, { output: { onFull: 'block', blockMs: 1 } });
    await session.link.spawn(spec);
    await until(() => session.record.reached(spec.processId) > 32 * 1024, { what: 'a full ring' });
    await sleep(300);
    expect(session.record.reached(spec.processId)).toBeLessThanOrEqual(64 * 1024);
    expect(isWritten(session)).toBe(false);
    session.acknowledges = true;
    session.link.ack(spec.processId, 1, session.record.reached(spec.processId));
    await session.finished(spec.processId);
    expect(session.record.bytes(spec.processId).equals(data)).toBe(true);
  });

  it('[I23] [I24] drops the oldest when the agent is away for blockMs, with one exact gap, and waits again when it is back', async () => {
    await using session = await new TestSession(smallRing).start();
    const spec = writeData(session, { stdin: 'open', output: { onFull: 'block', blockMs: 100 } });
    const waiting = { ...spec, argv: ['/bin/sh', '-c', `read line; ${spec.argv[2]}`] };
    await session.link.spawn(waiting);
    await session.link.writeStdin(spec.processId, 0, Buffer.from('go\n'));
    await session.link.close();
    await until(() => isWritten(session), { what: 'the writer to get rid of everything' });
    session.acknowledges = false;
    session.openLink();
    await session.link.ready();
    await session.finished(spec.processId);
    expect(session.record.gaps(spec.processId)).toHaveLength(1);
    expectExact(session, spec);

    const next = shell(`cat ${session.file('data')}; > ${session.file('again')}`, {
      output: { onFull: 'block', blockMs: 1 },
    });
    await session.link.spawn(next);
    await until(() => session.record.reached(next.processId) > 1024, { what: 'output' });
    await sleep(200);
    expect(existsSync(session.file('again'))).toBe(false);
    expect(session.record.gaps(next.processId)).toEqual([]);
  });

  it('[I23] [I24] drops at once where that is the policy, with exact gaps', async () => {
    await using session = await new TestSession(smallRing).start();
    const spec = shell(`read line; cat ${session.file('data', data)}; > ${session.file('written')}`, {
      stdin: 'open',
      output: { onFull: 'drop' },
    });
    await session.link.spawn(spec);
    session.link.pause();
    const input = session.link.writeStdin(spec.processId, 0, Buffer.from('go\n'));
    await until(() => isWritten(session), { what: 'the writer to get rid of everything' });
    session.link.resume();
    await input;
    await session.finished(spec.processId);
    expect(session.record.gaps(spec.processId).length).toBeGreaterThan(0);
    expectExact(session, spec);
  });

  it('[I25] serves a small stream beside one that never ends', async () => {
    await using session = await new TestSession().start();
    let endless = 0;
    const link = await session.replaceAgent({
      onOutput: (processId, stream, offset, timeMs, bytes) => {
        link.ack(processId, stream, offset + bytes.length);
        if (bytes[0] === 0x79) endless += bytes.length; // "y"
        else session.record.addOutput(processId, stream, offset, timeMs, bytes);
      },
    });
    const big = shell('yes');
    await link.spawn(big);
    await until(() => endless > 1024 * 1024, { what: 'the endless stream' });
    const small = shell('for i in 1 2 3; do echo $i; done');
    await session.run(small);
    expect(session.record.text(small.processId)).toBe('1\n2\n3\n');
    await link.signal(big.processId, 9);
  });

  it('[I25] lets commands wait while the agent does not read the answers, and answers all', async () => {
    await using session = await new TestSession().start();
    const spec = shell('yes', { tty: { rows: 1, cols: 1 } });
    await session.link.spawn(spec);
    session.link.pause();
    const answers = Array.from({ length: 20_000 }, (_, i) => session.link.resize(spec.processId, 1 + (i % 99), 1));
    await sleep(200);
    session.link.resume();
    await Promise.all(answers);
    await session.link.signal(spec.processId, 9);
  });
});

describe('the link', () => {
  it('does not read on while a slow disk has 1 MiB to write, and goes on when it has it', async () => {
    await using session = await new TestSession().start();
    const { promise: disk, resolve: diskIsBack } = Promise.withResolvers<void>();
    let received = 0;
    const link = await session.replaceAgent({
      onOutput: async (processId, stream, offset, _timeMs, bytes) => {
        received += bytes.length;
        await disk;
        link.ack(processId, stream, offset + bytes.length);
      },
    });
    const spec = shell('head -c 20000000 /dev/zero');
    await link.spawn(spec);
    await until(() => received > 1024 * 1024, { what: 'the first MiB' });
    await sleep(300);
    expect(received).toBeLessThan(1024 * 1024 + 4 * 65_536);
    diskIsBack();
    await until(() => received === 20_000_000, { what: 'the rest' });
  });

  it('is told of a gap again that the disk refused', async () => {
    await using session = await new TestSession().start();
    const spec = shell('echo first; read line; echo second; read line', { stdin: 'open' });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'first');
    // Acknowledgements are gathered; this is answered behind them.
    await sleep(20);
    await session.link.lease(60);
    session.forget();
    let refusals = 2;
    const link = await session.replaceAgent({
      onGap: async (processId, stream, from, to) => {
        await sleep(1);
        if (refusals > 0 && refusals--) throw new Error('no space left on the disk');
        session.record.addGap(processId, stream, from, to);
      },
    });
    await until(() => session.record.gaps(spec.processId).length > 0, { what: 'the gap' });
    await link.writeStdin(spec.processId, 0, Buffer.from('on\n'));
    await session.outputHas(spec.processId, 'second');
    expect(session.record.gaps(spec.processId)).toEqual([{ from: 0, to: 6 }]);
  });

  it('gets output again that the disk refused', async () => {
    await using session = await new TestSession().start();
    const { record } = session;
    let refusals = 2;
    const link = await session.replaceAgent({
      onOutput: async (processId, stream, offset, timeMs, bytes) => {
        await sleep(1);
        if (refusals > 0 && refusals--) throw new Error('no space left on the disk');
        if (offset !== record.reached(processId, stream)) return; // came again while the first was under way
        record.addOutput(processId, stream, offset, timeMs, bytes);
        link.ack(processId, stream, offset + bytes.length);
      },
    });
    const spec = writeData(session);
    await link.spawn(spec);
    await until(() => record.reached(spec.processId) === data.length, { what: 'all of the output' });
    expect(record.bytes(spec.processId).equals(data)).toBe(true);
    expect(record.disconnects).toBeGreaterThan(0);
  });
});
