import { getPriority, setPriority } from 'node:os';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { SpawnSpec } from '../../../agent-daemon/init/messages.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { newProcessId, shell, TestSession } from './harness.ts';
import { clock } from './ports.ts';

const isAlive = (pid: number): boolean => {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

describe.each([
  ['an ordinary process', false],
  ['PID 1 of a namespace', true],
])('causeway-init as %s', (_, asPidOne) => {
  const open = (): Promise<TestSession> => new TestSession({ asPidOne }).start();

  it('[I11] starts a process with its argv, environment, directory, and nothing else', async () => {
    await using session = await open();
    const spec = shell('echo "$NAME in $PWD"; env | sort | tr "\\n" " "; ls /proc/self/fd | wc -l; exit 7', {
      cwd: '/tmp',
    });
    const { exit, out } = await session.run({ ...spec, env: { ...spec.env, NAME: 'x  y' } });
    expect(exit).toMatchObject({ kind: 'code', value: 7 });
    expect(out).toBe('x  y in /tmp\nNAME=x  y PATH=/usr/bin:/bin PWD=/tmp 4\n'); // 0, 1, 2 and that of ls itself
  });

  it('[I11] gives a process its own session, default signals, the lower chance to survive and the usual priority', async () => {
    await using session = await open();
    setPriority(session.initPid, getPriority() - 5);
    const { out } = await session.run(
      shell('cut -d" " -f1,5,6,19 /proc/$$/stat; cat /proc/self/oom_score_adj; cat /proc/self/status'),
    );
    const [ids = '', score] = out.split('\n');
    const [pid, group, leader, nice] = ids.split(' ');
    expect([group, leader]).toEqual([pid, pid]);
    expect(Number(nice)).toBe(getPriority());
    const masks = [...out.matchAll(/^Sig(?:Blk|Ign|Cgt):\t(.*)$/gm)].map(([, mask]) => mask);
    expect(masks).toEqual(Array(3).fill('0000000000000000'));
    const own = Number(readFileSync('/proc/self/oom_score_adj', 'utf8'));
    expect(Number(score)).toBe(Math.min(1000, own + 500));
    expect(Number(readFileSync(`/proc/${session.initPid}/oom_score_adj`, 'utf8'))).toBe(own);
  });

  it('[I10] starts an id once: while it starts, while it runs, after its end and after a reconnect', async () => {
    await using session = await open();
    const spec = shell(`echo once >> ${session.file('count', '')}; read line`, { stdin: 'open' });
    const [first, second] = await Promise.all([session.link.spawn(spec), session.link.spawn(spec)]);
    expect(second).toEqual(first);
    expect(await session.link.spawn(spec)).toEqual(first);
    await session.replaceAgent();
    expect(await session.link.spawn(spec)).toEqual(first);
    await session.link.closeStdin(spec.processId);
    await session.finished(spec.processId);
    expect(await session.link.spawn(spec)).toEqual(first);
    expect(readFileSync(session.file('count'), 'utf8')).toBe('once\n');
    await session.replaceAgent();
    await session.link.release(spec.processId);
    await session.link.spawn({ ...spec, argv: ['/bin/echo', 'born again'] });
    await session.outputHas(spec.processId, 'born again');
  });

  it('[I12] searches PATH of the environment that was sent', async () => {
    await using session = await open();
    const argv = ['true'];
    expect((await session.run({ processId: newProcessId(), argv, env: { PATH: '/nowhere:/bin' } })).exit.value).toBe(0);
    const { exit } = await session.run({ processId: newProcessId(), argv, env: { PATH: '/nowhere' } });
    expect(exit).toMatchObject({ kind: 'failed', value: 127, errno: 2, message: 'exec: No such file or directory' });
  });

  it('[I12] gives a script without "#!" to the shell', async () => {
    await using session = await open();
    const script = session.file('script', 'echo "script $1"\n');
    await session.run(shell(`chmod +x ${script}`));
    const { out } = await session.run({ processId: newProcessId(), argv: [script, 'a b'], env: {} });
    expect(out).toBe('script a b\n');
  });

  it.each<[string, number, string, Partial<SpawnSpec>]>([
    ['a program that is not there', 127, 'exec: No such file or directory', { argv: ['/nowhere/program'] }],
    ['a directory as a program', 126, 'exec: Permission denied', { argv: ['/tmp'] }],
    ['a directory that is not there', 126, 'chdir: No such file or directory', { cwd: '/nowhere' }],
    [
      'a limit that is not allowed',
      126,
      'setrlimit: Invalid argument',
      { rlimits: [{ resource: 7, soft: 1, hard: null }] },
    ],
  ])('[I12] reports %s as %i', async (_, value, message, more) => {
    await using session = await open();
    const { exit } = await session.run(shell('true', more));
    if (message.startsWith('setrlimit')) expect(exit.message).toMatch(/^setrlimit: /);
    else expect(exit.message).toBe(message);
    expect(exit).toMatchObject({ kind: 'failed', value, final: true });
  });

  it('[I11] applies resource limits and another user', async () => {
    await using session = await open();
    const { out } = await session.run(
      shell('ulimit -n; ulimit -c; id -u; id -g; id -G', {
        rlimits: [
          { resource: 7, soft: 77, hard: 99 },
          { resource: 4, soft: 0, hard: 0 },
        ],
        user: { uid: 1234, gid: 2345, groups: [3456] },
      }),
    );
    expect(out).toBe('77\n0\n1234\n2345\n2345 3456\n');
  });

  it.each([
    ['the same user', undefined],
    ['another user', { uid: 1234, gid: 1234 }],
  ])('[I13] lets %s open /dev/stdin, /dev/stdout and /dev/stderr again', async (_, user) => {
    await using session = await open();
    const spec = shell('echo out > /dev/stdout; echo err > /dev/stderr; echo more >> /dev/stderr; cat /dev/stdin', {
      stdin: 'open',
      ...(user ? { user } : {}),
    });
    await session.link.spawn(spec);
    await session.link.writeStdin(spec.processId, 0, Buffer.from('in\n'));
    await session.link.closeStdin(spec.processId);
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'code', value: 0 });
    expect(session.record.text(spec.processId, 1)).toBe('out\nin\n');
    expect(session.record.text(spec.processId, 2)).toBe('err\nmore\n');
  });

  it('[I14] reports a death by signal, and SIGPIPE ends a process as it should', async () => {
    await using session = await open();
    expect((await session.run(shell('kill -USR1 $$'))).exit).toMatchObject({ kind: 'signal', value: 10 });
    const { out } = await session.run(shell('(yes; echo $? >&2) 2>&1 | head -1; true'));
    expect(out).toBe('y\n');
  });

  it('[I14] reaps its own children and orphans, as many as come', async () => {
    await using session = await open();
    const { exit } = await session.run(
      shell('for i in $(seq 200); do (true & true); (sleep 0.2 &) >/dev/null 2>&1; done'),
    );
    expect(exit.value).toBe(0);
    const pid = session.initPid;
    await until(() => readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8') === '', {
      what: 'no child, no zombie',
    });
  });

  it('[I14] says at once that a process ended, and repeats it at each connect until it is released', async () => {
    await using session = await open();
    const spec = shell('exit 3');
    await session.run(spec);
    const told = session.record.exitsTold.length;
    await session.replaceAgent();
    await until(() => session.record.exitsTold.length > told, { what: 'the exit again' });
    expect(session.record.exitsTold.at(-1)?.exit).toMatchObject({ kind: 'code', value: 3, final: true });
    expect(session.record.lists.at(-1)).toMatchObject([{ processId: spec.processId, exit: { value: 3, final: true } }]);
    await session.link.release(spec.processId);
    await session.replaceAgent();
    expect(session.record.lists.at(-1)).toEqual([]);
  });

  it('[I14] lets a process close its streams and live on', async () => {
    await using session = await open();
    const spec = shell('exec >/dev/null 2>&1; read line; exit 5', { stdin: 'open' });
    await session.link.spawn(spec);
    await session.link.writeStdin(spec.processId, 0, Buffer.from('go on\n'));
    expect(await session.finished(spec.processId)).toMatchObject({ value: 5, ends: { 1: 0, 2: 0 } });
  });

  it('[I15] reports the end while descendants hold the pipe, reads what was written, and cuts after drainMs', async () => {
    await using session = await open();
    const alive = session.file('alive');
    const script = `echo before; (sleep 1; echo too late; echo lives > ${alive}) & exit 4`;
    const spec = shell(script, { drainMs: 200 });
    await session.link.spawn(spec);
    const exit = await session.finished(spec.processId);
    expect(exit).toMatchObject({ value: 4, ends: { 1: 7 } });
    expect(session.record.exitsTold.map((told) => told.exit.final)).toEqual([false, true]);
    await session.link.release(spec.processId);
    // What it writes after the cut is thrown away, and it does not die of it.
    await until(() => readFileSync(alive, 'utf8') === 'lives\n', { what: 'the descendant to survive its output' });
    expect(session.record.text(spec.processId)).toBe('before\n');
  });

  it('[I15] waits for descendants that end their output within drainMs', async () => {
    await using session = await open();
    const { out } = await session.run(shell('(sleep 0.3; echo late) & exit 0', { drainMs: 20_000 }));
    expect(out).toBe('late\n');
  });

  it('[I16] signals a group, a process alone, and a session with its background jobs, also after its end', async () => {
    await using session = await open();
    const trap = 'trap "echo caught" TERM; sleep 30 & wait; wait; echo end';
    const group = shell(trap);
    await session.link.spawn(group);
    await until(() => session.record.exits.size === 0, { what: 'the shell' });
    const one = shell('trap "" TERM; echo ready; sleep 30; echo "status $?"');
    await session.link.spawn(one);
    await session.outputHas(one.processId, 'ready');
    await session.link.signal(one.processId, 15, 'process');
    await session.link.signal(one.processId, 9);
    expect(await session.finished(one.processId)).toMatchObject({ kind: 'signal', value: 9 });

    const job = shell('set -m; sleep 300 & echo $!; exit 0', { drainMs: 0 });
    await session.link.spawn(job);
    await until(() => session.record.exits.get(job.processId)?.final, { what: 'the cut' });
    await expect(session.link.signal(job.processId, 9)).rejects.toMatchObject({ refusal: 'wrong_state' });
    await session.link.signal(job.processId, 9, 'session');
    await until(
      () =>
        session.link.signal(job.processId, 9, 'session').then(
          () => false,
          () => true,
        ),
      { what: 'an empty session' },
    );
    await expect(session.link.signal(newProcessId(), 9)).rejects.toMatchObject({ refusal: 'unknown_process' });
    await session.link.signal(group.processId, 9);
    await session.finished(group.processId);
  });

  it('[I16] does not release a process that lives', async () => {
    await using session = await open();
    const spec = shell('read line', { stdin: 'open' });
    await session.link.spawn(spec);
    await expect(session.link.release(spec.processId)).rejects.toMatchObject({ refusal: 'wrong_state' });
    await session.link.release(newProcessId());
  });

  it('[I17] ends everything: SIGTERM first, SIGKILL for those who ignore it, and starts nothing any more', async () => {
    await using session = await open();
    const polite = shell('trap "echo bye; exit 0" TERM; echo ready; while :; do :; done');
    const deaf = shell('trap "" TERM HUP; echo $$; echo ready; while :; do sleep 1; done');
    const terminal = shell('trap "" TERM; echo ready; while :; do sleep 0.05; done', { tty: { rows: 24, cols: 80 } });
    for (const spec of [polite, deaf, terminal]) {
      await session.link.spawn(spec);
      await session.outputHas(spec.processId, 'ready');
    }
    await session.link.terminate(700);
    expect(await session.finished(polite.processId)).toMatchObject({ kind: 'code', value: 0 });
    expect(await session.finished(terminal.processId)).toMatchObject({ kind: 'signal', value: 1 });
    expect(await session.finished(deaf.processId)).toMatchObject({ kind: 'signal', value: 9 });
    expect(session.record.text(polite.processId)).toBe('ready\nbye\n');
    await expect(session.link.spawn(shell('true'))).rejects.toMatchObject({ refusal: 'terminating' });
    await session.replaceAgent();
    expect(session.record.status?.terminating).toBe(true);
  });

  it('[I18] kills everything when the lease runs out, stays, says so, and starts nothing any more', async () => {
    await using session = await open();
    const spec = shell('trap "" TERM; echo ready; while :; do sleep 1; done');
    await session.link.lease(60);
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'ready');
    await session.link.lease(0.3);
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'signal', value: 9 });
    await until(() => session.record.leaseExpired === 1, { what: 'LEASE_EXPIRED' });
    await expect(session.link.spawn(shell('true'))).rejects.toMatchObject({ refusal: 'lease_expired' });
    await session.replaceAgent();
    expect(session.record.status?.leaseExpired).toBe(true);
    expect(session.record.text(spec.processId)).toBe('ready\n');
  });

  it.each([-200_000_000, 50_000_000])(
    '[I18] keeps the lease of an agent whose boot clock is %i ms off',
    async (offMs) => {
      await using session = await open();
      await session.replaceAgent({ clock: { ...clock, bootMs: () => clock.bootMs() + 1e8 + offMs } });
      const spec = shell('echo ready; while :; do sleep 1; done');
      await session.link.lease(3600);
      await session.link.spawn(spec);
      await session.outputHas(spec.processId, 'ready');
      await session.link.lease(0.1);
      expect(await session.finished(spec.processId)).toMatchObject({ kind: 'signal', value: 9 });
    },
  );

  it('[I18] is fenced by itself while there is no agent', async () => {
    await using session = await open();
    const spec = shell('while :; do sleep 0.1; done');
    const { pid } = await session.link.spawn(spec);
    await session.link.lease(0.5);
    await session.link.close();
    if (!asPidOne) await until(() => !isAlive(pid), { what: 'the end of the process' });
    session.openLink();
    await session.link.ready();
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'signal', value: 9 });
  });

  it('[I19] leaves when it is told to, with everything, or when all is released', async () => {
    await using session = await open();
    const spec = shell('exit 0');
    await session.run(spec);
    await session.link.shutdown();
    expect(session.initExited).toBe(false);
    await session.link.release(spec.processId);
    await until(() => session.initExited, { what: 'the init to leave' });
    expect(session.child?.exit).toEqual({ code: 0, signal: null });

    await using other = await open();
    await other.link.spawn(shell('sleep 300'));
    await other.link.shutdown(true).catch(() => {}); // the answer may be overtaken by the end
    await until(() => other.initExited, { what: 'the init to leave' });
  });

  it.runIf(tier === 'full')('[I19] leaves 10 s after the end of everything when no agent comes', async () => {
    await using session = await open();
    await session.link.spawn(shell('exec sleep 300'));
    await session.link.close();
    session.signalInit('SIGTERM');
    await until(() => session.initExited, { what: 'the init to leave' });
  });

  it('[I19] takes SIGTERM as the end of the session, and stays until the agent has everything', async () => {
    await using session = await open();
    const spec = shell('trap "echo bye; exit 0" TERM; echo ready; while :; do :; done');
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'ready');
    await session.link.close();
    session.signalInit('SIGTERM');
    session.openLink();
    await session.link.ready();
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'code', value: 0 });
    expect(session.record.text(spec.processId)).toBe('ready\nbye\n');
    expect(session.initExited).toBe(false);
    await session.link.release(spec.processId);
    await until(() => session.initExited, { what: 'the init to leave' });
  });
});
