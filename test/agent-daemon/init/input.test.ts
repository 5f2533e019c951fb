import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { until } from '../../support/wait.ts';
import { newProcessId, shell, TestSession } from './harness.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

describe('stdin', () => {
  it('[I26] [I27] passes megabytes, and the process sees their end', async () => {
    await using session = await new TestSession().start();
    const spec = shell('sha256sum', { stdin: 'open' });
    const data = randomBytes(3_000_001);
    await session.link.spawn(spec);
    expect(await session.link.writeStdin(spec.processId, 0, data)).toBe(data.length);
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe(`${sha256(data)}  -\n`);
  });

  it('[I26] goes on where the pipe is, over reconnects, with the bytes of before sent again', async () => {
    await using session = await new TestSession().start();
    const spec = shell('sha256sum', { stdin: 'open' });
    const data = randomBytes(2_000_000);
    await session.link.spawn(spec);
    for (let at = 0, turn = 0; at < data.length; turn++) {
      const from = Math.max(0, at - 1000);
      const piece = data.subarray(from, at + 90_000);
      const written = session.link.writeStdin(spec.processId, from, piece);
      if (turn % 3 === 0) {
        // The agent dies in the middle of it; nobody knows how much was written.
        await session.link.close();
        await written.catch(() => {});
        session.openLink();
        await session.link.ready();
        expect(await session.link.writeStdin(spec.processId, from, piece)).toBe(from + piece.length);
      } else {
        expect(await written).toBe(from + piece.length);
      }
      at = from + piece.length;
    }
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe(`${sha256(data)}  -\n`);
  });

  it('[I26] holds the agent back while the process does not read, and goes on when it does', async () => {
    await using session = await new TestSession().start();
    const go = session.file('go');
    const spec = shell(`while [ ! -e ${go} ]; do sleep 0.02; done; wc -c`, { stdin: 'open' });
    await session.link.spawn(spec);
    let written = false;
    const writing = session.link.writeStdin(spec.processId, 0, Buffer.alloc(500_000)).then(() => (written = true));
    await sleep(300);
    expect(written).toBe(false);
    session.file('go', '');
    await writing;
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe('500000\n');
  });

  it('[I26] says when nobody reads any more', async () => {
    await using session = await new TestSession().start();
    const spec = shell('exec <&-; echo closed; sleep 300', { stdin: 'open' });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'closed');
    const refused = { refusal: 'stdin_closed' };
    await expect(session.link.writeStdin(spec.processId, 0, Buffer.from('x'))).rejects.toMatchObject(refused);
    const ended = shell('exit 0', { stdin: 'open' });
    await session.run(ended);
    await expect(session.link.writeStdin(ended.processId, 0, Buffer.from('x'))).rejects.toMatchObject(refused);
    await expect(session.link.writeStdin(newProcessId(), 0, Buffer.from('x'))).rejects.toMatchObject(refused);
    const waiting = shell('while :; do sleep 1; done', { stdin: 'open' });
    await session.link.spawn(waiting);
    const writing = session.link.writeStdin(waiting.processId, 0, Buffer.alloc(1_000_000));
    const rejected = expect(writing).rejects.toMatchObject(refused);
    await session.link.signal(waiting.processId, 9);
    await rejected;
  });

  it('is empty where it was not asked for', async () => {
    await using session = await new TestSession().start();
    expect((await session.run(shell('cat; echo end'))).out).toBe('end\n');
  });

  it('refuses a hole in the input', async () => {
    await using session = await new TestSession().start();
    const spec = shell('cat', { stdin: 'open' });
    await session.link.spawn(spec);
    await expect(session.link.writeStdin(spec.processId, 5, Buffer.from('x'))).rejects.toThrow(RangeError);
  });
});

describe('a terminal', () => {
  const tty = { rows: 33, cols: 101 };

  it('[I11] is the controlling terminal of the process, of the size that was asked for', async () => {
    await using session = await new TestSession().start();
    const { out } = await session.run(
      shell('stty size < /dev/tty; test -t 0 && test -t 1 && test -t 2 && echo yes', { tty }),
    );
    expect(out).toBe('33 101\r\nyes\r\n');
  });

  it('[I11] works for another user', async () => {
    await using session = await new TestSession().start();
    const { out } = await session.run(
      shell('stty size < /dev/tty; echo > /dev/stderr; id -u', { tty, user: { uid: 1234, gid: 1234 } }),
    );
    expect(out).toBe('33 101\r\n\r\n1234\r\n');
  });

  it('changes its size, and the process hears of it', async () => {
    await using session = await new TestSession().start();
    const spec = shell('trap "stty size; exit 0" WINCH; echo ready; while :; do sleep 0.05; done', { tty });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'ready');
    await session.link.resize(spec.processId, 44, 55);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toBe('ready\r\n44 55\r\n');
    const pipe = shell('read line', { stdin: 'open' });
    await session.link.spawn(pipe);
    await expect(session.link.resize(pipe.processId, 1, 1)).rejects.toMatchObject({ refusal: 'wrong_state' });
  });

  it('turns ^C into SIGINT, and the end of the input into ^D', async () => {
    await using session = await new TestSession().start();
    const spec = shell('trap "echo caught" INT; cat; cat; echo end', { tty });
    await session.link.spawn(spec);
    await session.link.writeStdin(spec.processId, 0, Buffer.from('typed\n'));
    await until(() => session.record.text(spec.processId).split('typed').length === 3, { what: 'the echo and cat' });
    await session.link.writeStdin(spec.processId, 6, Buffer.from('\x03'));
    await session.outputHas(spec.processId, 'caught');
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toMatch(/end\r\n$/);
  });

  it('[I15] is hung up when its process ended and others still sit at it', async () => {
    await using session = await new TestSession().start();
    const left = session.file('left');
    const script = `trap "" HUP; (trap "echo hup > ${left}; exit" HUP; echo up; while :; do sleep 0.05; done) & sleep 0.3; exit 0`;
    const { exit } = await session.run(shell(script, { tty, drainMs: 100 }));
    expect(exit).toMatchObject({ kind: 'code', value: 0, final: true });
  });

  it('carries every byte in raw mode', async () => {
    await using session = await new TestSession().start();
    const spec = shell('stty raw -echo; echo ready; head -c 300000 | sha256sum', { tty });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'ready');
    const data = randomBytes(300_000);
    await session.link.writeStdin(spec.processId, 0, data);
    await session.finished(spec.processId);
    expect(session.record.text(spec.processId)).toContain(sha256(data));
  });
});
