/** A run followed against a far end made of the real stream engine, cut at chosen moments. */
import { expect, it, vi } from 'vitest';
import { CodeRun, KernelSocket, type RunIo, statusOfRun } from '../../../cli/kernel/code-run.ts';
import type { ExecuteEvent } from '../../../schema/protocol/execute.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { joinRecord } from '../../../schema/protocol/jupyter-framing.ts';
import type { Stream } from '../../../schema/protocol/stream.ts';
import { farEnd, type ServeStream } from '../../support/far-end.ts';

const kernelId = `krn_${'0'.repeat(26)}`;
const bytes = (text: string) => new TextEncoder().encode(text);
const record = (fields: object) => {
  const json = JSON.stringify(fields);
  return `\x1e${kernelId} .${bytes(json).byteLength}:${json}`;
};
const say = (stream: Stream, event: ExecuteEvent) => stream.writeControl(event);

function start(
  serve: ServeStream<'execute'>,
  ask: RunIo['ask'] = () => Promise.resolve(undefined),
  placement?: (dial: number) => number | 'waits',
) {
  const seen = { out: '', records: [] as string[], said: [] as string[] };
  const run = new CodeRun(
    new KernelSocket(farEnd(serve, placement)),
    { runId: 'r1', request: { mode: 'query', code: 'x' } },
    {
      write: (_stream, piece) => Promise.resolve(void (seen.out += new TextDecoder().decode(piece))),
      record: ({ kind }) => Promise.resolve(void seen.records.push(kind)),
      ask,
      say: (line) => seen.said.push(line),
    },
  );
  return { run, seen };
}

/** Goes on where the client is, in pieces of which a cut ends each, until all of `log` was sent. */
function serveInPieces(log: string, size: number): ServeStream<'execute'> {
  return async (stream, open, cut) => {
    const at = open.after?.stdout ?? 10;
    stream.opened({});
    await say(stream, { kind: 'begun', kernelId, from: { stdout: at, stderr: 0 } });
    stream.seek(channels.stdout, at);
    const piece = log.slice(at - 10, at - 10 + size);
    if (piece !== '') await stream.write(channels.stdout, bytes(piece));
    if (at - 10 + size < log.length) setTimeout(cut, 20);
    else await say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 3 } });
  };
}

it('continues the log over cuts, also within records, and gives each byte and record once', async () => {
  const log = `one\n${record({ kind: 'result', id: 'r1', data: { 'text/plain': '42' } })}two\n${record({ kind: 'finished', id: 'r1', exitCode: 3 })}`;
  const { run, seen } = start(serveInPieces(log, 130));
  const outcome = await run.run();
  expect(outcome).toEqual({ reason: 'finished', exitCode: 3 });
  expect(seen).toEqual({ out: 'one\ntwo\n', records: ['result', 'finished'], said: [] });
  expect(run.kernelId).toBe(kernelId);
});

it('says once that the way was lost, however long it stays away', async () => {
  let tries = 0;
  const { run, seen } = start(async (stream, _, cut) => {
    tries++;
    if (tries <= 4) return cut();
    stream.opened({});
    await say(stream, { kind: 'begun', kernelId, from: { stdout: 0, stderr: 0 } });
    await say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 0 } });
  });
  expect(await run.run()).toEqual({ reason: 'finished', exitCode: 0 });
  expect(seen.said).toEqual([expect.stringContaining('the connection was lost')]);
});

it('continues the messages of a kernel of Jupyter over cuts, and gives each once', async () => {
  const said = (text: string, id = 'run.r1.1') => {
    const parts = [{ msg_type: 'stream' }, { msg_id: id }, {}, { name: 'stdout', text }];
    return joinRecord({ channel: 'iopub', parts: parts.map((part) => bytes(JSON.stringify(part))) });
  };
  const log = Buffer.concat([said('one '), said('theirs', 'other'), said('two '), said('three')]);
  const { run, seen } = start(async (stream, open, cut) => {
    const at = open.after?.stdout ?? 10;
    stream.opened({});
    await say(stream, { kind: 'begun', kernelId, from: { stdout: at, stderr: 0 }, requests: 'run.r1.' });
    stream.seek(channels.stdout, at);
    const piece = log.subarray(at - 10, at - 10 + 300);
    if (piece.byteLength > 0) await stream.write(channels.stdout, piece);
    if (at - 10 + 300 < log.byteLength) setTimeout(cut, 20);
    else await say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 0 } });
  });
  expect(await run.run()).toEqual({ reason: 'finished', exitCode: 0 });
  expect(seen).toEqual({ out: 'one two three', records: [], said: [] });
});

it('asks once for each line, answers by its place, and interrupts a run that nobody answers', async () => {
  const heard: unknown[] = [];
  const { run } = start(
    async (stream) => {
      stream.opened({});
      await say(stream, { kind: 'begun', kernelId, from: { stdout: 0, stderr: 0 } });
      await stream.write(channels.stdout, bytes('123456789'));
      for (const at of [5, 5, 9]) await say(stream, { kind: 'waiting', at, prompt: `${at}? `, password: false });
      for await (const { bytes: said, end } of stream.read()) {
        if (end) continue;
        heard.push(JSON.parse(new TextDecoder().decode(said)));
        if (heard.length === 2) break;
      }
      await say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 130 } });
    },
    (prompt) => Promise.resolve(prompt === '5? ' ? 'five' : undefined),
  );
  expect(statusOfRun((await run.run())!)).toBe(130);
  expect(heard).toEqual([{ kind: 'input', at: 5, text: 'five' }, { kind: 'interrupt' }]);
});

it('interrupts again behind a cut that came just then, and not a program that went on long ago', async () => {
  const realNow = performance.now.bind(performance);
  const now = vi.spyOn(performance, 'now');
  const heard: number[] = [];
  const interrupted = Promise.withResolvers<void>();
  try {
    const { run } = start(async (stream, _, cut, visit) => {
      stream.opened({});
      await say(stream, { kind: 'begun', kernelId, from: { stdout: 0, stderr: 0 } });
      setTimeout(interrupted.resolve, 20);
      if (visit === 2)
        setTimeout(() => void say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 0 } }), 50);
      for await (const { end } of stream.read()) {
        if (end) continue;
        heard.push(visit);
        // The second stream lives on for an hour.
        if (visit === 1) now.mockImplementation(() => realNow() + 3_600_000);
        cut();
      }
    });
    const ended = run.run();
    await interrupted.promise;
    run.interrupt();
    expect(await ended).toEqual({ reason: 'finished', exitCode: 0 });
    expect(heard).toEqual([0, 1]);
  } finally {
    now.mockRestore();
  }
});

it.each(['between two streams', 'into a dead stream'])(
  '[S15] gives a line that was typed %s to the next one, and asks the person once',
  async (when) => {
    const heard: unknown[] = [];
    const typed = Promise.withResolvers<string>();
    let asked = 0;
    let tries = 0;
    const { run } = start(
      async (stream, open, cut) => {
        tries++;
        stream.opened({});
        await say(stream, { kind: 'begun', kernelId, from: { stdout: open.after?.stdout ?? 0, stderr: 0 } });
        if (tries === 1) await stream.write(channels.stdout, bytes('123456789'));
        await say(stream, { kind: 'waiting', at: 9, prompt: 'name? ', password: false });
        if (tries === 1) {
          // Half open: what comes is read by nobody.
          setTimeout(() => (when === 'between two streams' ? cut() : typed.resolve('Ada')), 20);
          setTimeout(() => (when === 'between two streams' ? typed.resolve('Ada') : cut()), 60);
          return;
        }
        for await (const { bytes: said, end } of stream.read()) {
          if (end) continue;
          heard.push(JSON.parse(new TextDecoder().decode(said)));
          break;
        }
        await say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 0 } });
      },
      () => {
        asked++;
        return typed.promise;
      },
    );
    expect(await run.run()).toEqual({ reason: 'finished', exitCode: 0 });
    expect([heard, asked]).toEqual([[{ kind: 'input', at: 9, text: 'Ada' }], 1]);
  },
);

it.each<[string, (stream: Stream) => Promise<void>]>([
  ['a piece', (stream) => (stream.seek(channels.stdout, 4), stream.write(channels.stdout, bytes('two\n')))],
  ['its begin', (stream) => stream.write(channels.stderr, bytes('x'))],
  ['a request for a line', (stream) => say(stream, { kind: 'waiting', at: 8, prompt: '', password: false })],
  [
    'the end',
    (stream) =>
      say(stream, { kind: 'finished', outcome: { reason: 'finished', exitCode: 1 }, ends: { stdout: 8, stderr: 0 } }),
  ],
])('[S2] [S15] asks again where %s overtook output', async (what, overtakes) => {
  let tries = 0;
  const { run, seen } = start(async (stream, open) => {
    const at = open.after?.stdout ?? 0;
    stream.opened({});
    tries += 1;
    if (tries > 1 || what !== 'its begin')
      await say(stream, { kind: 'begun', kernelId, from: { stdout: at, stderr: 0 } });
    if (tries === 1) return overtakes(stream);
    stream.seek(channels.stdout, at);
    await stream.write(channels.stdout, bytes('one\ntwo\n'.slice(at)));
    await say(stream, {
      kind: 'finished',
      outcome: { reason: 'finished', exitCode: 0 },
      ends: { stdout: 8, stderr: 0 },
    });
  });
  expect(await run.run()).toEqual({ reason: 'finished', exitCode: 0 });
  expect([seen.out, tries]).toEqual(['one\ntwo\n', 2]);
});

it.each([2, 'waits'] as const)(
  '[I6] is started once, though its session goes to another placement (%s)',
  async (next) => {
    let served = 0;
    const serve: ServeStream<'execute'> = async (stream, _open, cut) => {
      served++;
      stream.opened({});
      await say(stream, { kind: 'begun', kernelId, from: { stdout: 10, stderr: 0 } });
      setTimeout(cut, 20);
    };
    const { run } = start(serve, undefined, (dial) => (dial === 0 ? 1 : next));
    await expect(run.run()).rejects.toMatchObject({ code: 'session_generation_stale', status: 125 });
    expect(served).toBe(1);
  },
);

it('[S2] gives up a far end that never goes on where it should', async () => {
  const { run } = start(async (stream) => {
    stream.opened({});
    await say(stream, { kind: 'begun', kernelId, from: { stdout: 0, stderr: 0 } });
    stream.seek(channels.stdout, 4);
    await stream.write(channels.stdout, bytes('two\n'));
  });
  await expect(run.run()).rejects.toMatchObject({ code: 'tunnel_frame_invalid' });
}, 30_000);

it('says what is missing, and fails for good where waiting does not help', async () => {
  const { run, seen } = start(async (stream) => {
    stream.opened({});
    await say(stream, { kind: 'begun', kernelId, from: { stdout: 0, stderr: 0 } });
    await say(stream, { kind: 'gap', stream: 'stdout', from: 0, to: 7, reason: 'spool-full' });
    stream.seek(channels.stdout, 7);
    await stream.write(channels.stdout, bytes('rest'));
    await say(stream, { kind: 'finished', outcome: { reason: 'oom', signal: 'SIGKILL' } });
  });
  expect(statusOfRun((await run.run())!)).toBe(137);
  expect(seen).toMatchObject({ out: 'rest', said: ['7 bytes of stdout are missing (spool-full)'] });
  const refused = start(async (stream) => stream.reset('kernel_run_conflict', 'no'));
  await expect(refused.run.run()).rejects.toMatchObject({ code: 'kernel_run_conflict' });
});

it.each([
  [{ reason: 'finished', exitCode: 3 }, 3],
  [{ reason: 'timeout', exitCode: 130 }, 124],
  [{ reason: 'exited', signal: 'SIGSEGV' }, 139],
  [{ reason: 'exited', signal: 'SIGABRT' }, 134],
  [{ reason: 'exited', signal: 'SIGTERM' }, 143],
  [{ reason: 'session-ended' }, 137],
])('of the end %j a shell sees %i', (outcome, status) => expect(statusOfRun(outcome)).toBe(status));
