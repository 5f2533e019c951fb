/** The follower against a far end made of the real stream engine, cut at chosen moments. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { type ProcessIo, ProcessFollower, processTarget, statusOf } from '../../cli/process/follow.ts';
import { InputLog } from '../../schema/protocol/input-log.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { farEnd as farEndOf, type ServeStream } from '../support/far-end.ts';

const farEnd = (serve: ServeStream<'process'>, placement?: (dial: number) => number | 'waits') =>
  farEndOf(serve, placement);

function recorder(): { io: ProcessIo; out: string[]; said: string[]; warned: string[] } {
  const out: string[] = [];
  const warned: string[] = [];
  const said: string[] = [];
  const write = (bytes: Uint8Array) => {
    out.push(new TextDecoder().decode(bytes));
    return Promise.resolve();
  };
  const io = {
    writeStdout: write,
    writeStderr: write,
    say: (line: string) => said.push(line),
    warn: (line: string) => warned.push(line),
  };
  return { io, out, said, warned };
}

const bytes = (text: string) => new TextEncoder().encode(text);

it('continues output after the last byte that was written, over cuts, and passes the exit on', async () => {
  const whole = '0123456789'.repeat(5000);
  const { io, out } = recorder();
  const follower = new ProcessFollower(
    farEnd(async (stream, open, cut, visit) => {
      const from = open.after?.stdout ?? 0;
      stream.opened({});
      stream.seek(channels.stdout, from);
      if (visit < 3) {
        await stream.write(channels.stdout, bytes(whole.slice(from, from + 7777)));
        setTimeout(cut, 20);
        return;
      }
      await stream.write(channels.stdout, bytes(whole.slice(from)));
      await stream.writeControl({ kind: 'exit', exitCode: 3, reason: 'exited', ends: { stdout: whole.length } });
      stream.finish();
    }),
    processTarget('main'),
    io,
  );
  expect(await follower.run()).toEqual({ exitCode: 3, signal: undefined, reason: 'exited' });
  expect(out.join('')).toBe(whole);
});

it('[S2] writes nothing behind an unannounced hole, nor anything twice, and fetches what is missing', async () => {
  const { io, out } = recorder();
  const whole = 'abcdefghij'.repeat(100);
  const follower = new ProcessFollower(
    farEnd(async (stream, open, _cut, visit) => {
      const from = open.after?.stdout ?? 0;
      stream.opened({});
      stream.seek(channels.stdout, from);
      await stream.write(channels.stdout, bytes(whole.slice(from, from + 300)));
      if (visit === 0) stream.seek(channels.stdout, 500);
      const at = visit === 0 ? 500 : from + 300;
      await stream.write(channels.stdout, bytes(whole.slice(at)));
      await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: { stdout: whole.length } });
      stream.finish();
    }),
    processTarget('main'),
    io,
  );
  expect((await follower.run())?.exitCode).toBe(0);
  expect(out.join('')).toBe(whole);
});

it.each(['exit', 'gap'] as const)('[S10] takes no %s that overtook output, and loses none', async (early) => {
  const { io, out, said } = recorder();
  const whole = 'abcdefghij'.repeat(10);
  const ends = { stdout: whole.length, stderr: 0 };
  const follower = new ProcessFollower(
    farEnd(async (stream, open, _cut, visit) => {
      const from = open.after?.stdout ?? 0;
      stream.opened({});
      stream.seek(channels.stdout, from);
      await stream.write(channels.stdout, bytes(whole.slice(from, 60)));
      const missing = { kind: 'gap', stream: 'stdout', from: 90, to: 100, reason: 'spool-full' };
      const exit = { kind: 'exit', exitCode: 0, reason: 'exited', ends };
      if (visit === 0) await stream.writeControl(early === 'gap' ? missing : exit);
      await stream.write(channels.stdout, bytes(whole.slice(60, early === 'gap' ? 90 : 100)));
      if (early === 'gap') await stream.writeControl(missing);
      await stream.writeControl(exit);
      stream.finish();
    }),
    processTarget('main'),
    io,
  );
  expect((await follower.run())?.exitCode).toBe(0);
  expect(out.join('')).toBe(early === 'gap' ? whole.slice(0, 90) : whole);
  expect(said.filter((line) => line.includes('missing'))).toHaveLength(early === 'gap' ? 1 : 0);
});

it('[S2] gives up on a far end that never continues where it is asked to', async () => {
  let visits = 0;
  const follower = new ProcessFollower(
    farEnd(async (stream) => {
      visits++;
      stream.opened({});
      stream.seek(channels.stdout, 7);
      await stream.write(channels.stdout, bytes('behind a hole'));
    }),
    processTarget('main'),
    recorder().io,
  );
  await expect(follower.run()).rejects.toMatchObject({ code: 'tunnel_frame_invalid' });
  expect(visits).toBeGreaterThan(2);
});

it('sends input again from the byte that the far end names', async () => {
  const input = new InputLog();
  for (let part = 0; part < 100; part++) input.push(bytes(`line ${part}\n`), () => {});
  input.end();
  let got = '';
  const follower = new ProcessFollower(
    farEnd(async (stream, _open, cut, visit) => {
      stream.opened({ inputOffset: got.length });
      for await (const item of stream.read()) {
        if (item.channel !== channels.input) continue;
        expect(item.offset).toBe(got.length);
        if (item.end) break;
        const text = new TextDecoder().decode(item.bytes);
        got += visit < 2 ? text.slice(0, 100) : text;
        if (visit < 2) {
          cut();
          return;
        }
      }
      await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: {} });
      stream.finish();
    }),
    processTarget('main', undefined, input),
    recorder().io,
  );
  expect((await follower.run())?.exitCode).toBe(0);
  expect(got).toBe(Array.from({ length: 100 }, (_, part) => `line ${part}\n`).join(''));
});

it('[S7] passes the exit on of a far end that is done while input still comes', async () => {
  const input = new InputLog();
  input.push(bytes('first'), () => {});
  const follower = new ProcessFollower(
    farEnd(async (stream) => {
      stream.opened({});
      await stream.write(channels.stdout, bytes('x'));
      await stream.writeControl({ kind: 'exit', exitCode: 4, reason: 'exited', ends: { stdout: 1 } });
      stream.finish();
    }),
    processTarget('main', undefined, input),
    {
      ...recorder().io,
      writeStdout: async () => {
        await sleep(20); // the far end's words are all here
        input.push(bytes('more'), () => {});
        await sleep(20);
      },
    },
  );
  expect((await follower.run())?.exitCode).toBe(4);
});

it('tells a refusal that waiting can not cure from one that it can', async () => {
  const follower = new ProcessFollower(
    farEnd(async (stream, _open, _cut, visit) => {
      stream.reset(visit === 0 ? 'agent_unreachable' : 'process_conflict');
    }),
    processTarget('prc_x'),
    recorder().io,
  );
  await expect(follower.run()).rejects.toMatchObject({ code: 'process_conflict', status: 125 });
});

it('says exactly what is missing', async () => {
  const { io, said } = recorder();
  const follower = new ProcessFollower(
    farEnd(async (stream) => {
      stream.opened({});
      await stream.write(channels.stdout, bytes('0123456789'));
      await stream.writeControl({ kind: 'gap', stream: 'stdout', from: 10, to: 30, reason: 'spool-full' });
      await stream.writeControl({ kind: 'exit', signal: 'KILL', reason: 'oom', ends: { stdout: 30, stderr: 0 } });
      stream.finish();
    }),
    processTarget('main'),
    io,
  );
  expect(statusOf((await follower.run())!)).toBe(137);
  expect(said).toEqual(['20 bytes of stdout are missing (spool-full): 10 to 30']);
});

it.each([
  ['disk-full', 125],
  ['damaged', 125],
  ['retention', 0],
] as const)('[I5] tells a script that output is not whole where its machine failed (%s)', async (reason, status) => {
  const { io, said, warned } = recorder();
  const follower = new ProcessFollower(
    farEnd(async (stream) => {
      stream.opened({});
      await stream.writeControl({ kind: 'gap', stream: 'stdout', from: 0, to: 30, reason });
      await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: { stdout: 30, stderr: 0 } });
      stream.finish();
    }),
    processTarget('main'),
    io,
  );
  expect(statusOf((await follower.run())!)).toBe(status);
  // What is lost is said also where only the program is to speak.
  expect(status === 0 ? said : warned).toEqual([`30 bytes of stdout are missing (${reason}): 0 to 30`]);
});

it('[S9] asks to start a command until it was answered, and then only to go on with it', async () => {
  const spawn = { argv: ['cat'] };
  const asked: unknown[] = [];
  const follower = new ProcessFollower(
    farEnd(async (stream, open, cut, visit) => {
      asked.push(open.spawn);
      if (visit === 0) return cut();
      if (visit === 3) return stream.reset('process_not_found');
      stream.opened({});
      setTimeout(cut, 20);
    }),
    processTarget('prc_1', spawn),
    recorder().io,
  );
  await expect(follower.run()).rejects.toMatchObject({ code: 'process_not_found', status: 125 });
  expect(asked).toEqual([spawn, spawn, undefined, undefined]);
});

/** The first placement writes so much and is cut; the next writes something else, from where it is asked to. */
const twoPlacements: ServeStream<'process'> = async (stream, open, cut, visit) => {
  const from = open.after?.stdout ?? 0;
  const whole = visit === 0 ? 'the first begins' : 'and the second writes';
  stream.opened({ inputOffset: 0 });
  stream.seek(channels.stdout, from);
  await stream.write(channels.stdout, bytes(whole.slice(from)));
  if (visit === 0) return void setTimeout(cut, 20);
  await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: { stdout: whole.length } });
  stream.finish();
};

it('[I5] shows a main process from its beginning where its session was placed anew, and says so', async () => {
  const { io, out, said } = recorder();
  const placements = [1, 'waits', 'waits', 2] as const;
  const dial = farEnd(twoPlacements, (at) => placements[at] ?? 2);
  const follower = new ProcessFollower(dial, processTarget('main'), io);
  expect((await follower.run())?.exitCode).toBe(0);
  expect(out.join('|')).toBe('the first begins|and the second writes');
  expect(said).toEqual([
    'the session lost its machine and waits for the next ...',
    'the session was placed anew: it begins again, and so does its output',
    'resumed',
  ]);
  expect(follower.position).toEqual({ stdout: 21, stderr: 0, generation: 2 });
});

it.each([
  ['is placed anew', [1, 2]],
  ['waits to be', [1, 'waits']],
] as const)('[I6] starts no command a second time where its session %s', async (_, placements) => {
  const { io, out } = recorder();
  let served = 0;
  const serve: ServeStream<'process'> = (...visit) => {
    served++;
    return twoPlacements(...visit);
  };
  const dial = farEnd(serve, (at) => placements[at] ?? 2);
  const follower = new ProcessFollower(dial, processTarget('prc_1', { argv: ['cat'] }), io);
  await expect(follower.run()).rejects.toMatchObject({ code: 'session_generation_stale', status: 125 });
  expect(out.join('')).toBe('the first begins');
  expect(served).toBe(1);
});

it('[I6] starts a command in the next placement when the first did not take it', async () => {
  const { io, out } = recorder();
  const placements = [1, 2];
  const dial = farEnd(
    async (stream, open, cut, visit) => {
      if (visit === 0) stream.reset('session_not_running', 'not yet');
      else await twoPlacements(stream, open, cut, visit);
    },
    (at) => placements[at] ?? 2,
  );
  const follower = new ProcessFollower(dial, processTarget('prc_1', { argv: ['cat'] }), io);
  expect((await follower.run())?.exitCode).toBe(0);
  expect(out.join('')).toBe('and the second writes');
});

it('[I6] starts no command a second time that may have been started', async () => {
  const dial = farEnd(
    async (_stream, _open, cut) => cut(),
    (at) => at + 1,
  );
  const follower = new ProcessFollower(dial, processTarget('prc_1', { argv: ['cat'] }), recorder().io);
  await expect(follower.run()).rejects.toMatchObject({ code: 'session_generation_stale' });
});

it('goes on after a cut where the last lines began, of an output of which nothing came as well', async () => {
  const { io, out } = recorder();
  const asked: unknown[] = [];
  const follower = new ProcessFollower(
    farEndOf<'logs'>(async (stream, open, cut, visit) => {
      asked.push(open.tailLines ?? open.after);
      stream.opened({ keptFrom: visit === 0 ? { stdout: 90, stderr: 800 } : { stdout: 94, stderr: 800 } });
      if (visit === 1) return void setTimeout(cut, 20);
      stream.seek(channels.stdout, visit === 0 ? 90 : 94);
      stream.seek(channels.stderr, 800);
      await stream.write(channels.stdout, bytes(visit === 0 ? 'one\n' : 'two\n'));
      if (visit === 0) return void setTimeout(cut, 20);
      await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: { stdout: 98, stderr: 800 } });
      stream.finish();
    }),
    {
      open: (after) => ({
        op: 'logs',
        processId: 'main',
        streams: 'both',
        follow: true,
        ...(follower.hasBegun ? { after } : { tailLines: 1 }),
      }),
      startsAnywhere: true,
    },
    io,
  );
  expect((await follower.run())?.exitCode).toBe(0);
  expect(out.join('')).toBe('one\ntwo\n');
  const behind = { stdout: 94, stderr: 800 };
  expect(asked).toEqual([1, behind, behind]);
});

it('goes on with what was written during a cut of no last lines', async () => {
  const { io, out } = recorder();
  const follower = new ProcessFollower(
    farEndOf<'logs'>(async (stream, open, cut, visit) => {
      stream.opened({ keptFrom: { stdout: 0, stderr: 0 } });
      if (visit === 0) return void setTimeout(cut, 20);
      if (open.after !== undefined) await stream.write(channels.stdout, bytes('meanwhile'));
      await stream.writeControl({ kind: 'exit', exitCode: 0, reason: 'exited', ends: { stdout: 9, stderr: 0 } });
      stream.finish();
    }),
    {
      open: (after) => ({
        op: 'logs',
        processId: 'main',
        streams: 'both',
        follow: true,
        ...(follower.hasBegun ? { after } : { tailLines: 0 }),
      }),
      startsAnywhere: true,
    },
    io,
  );
  await follower.run();
  expect(out.join('')).toBe('meanwhile');
});
