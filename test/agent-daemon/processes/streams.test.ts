import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { newId } from '../../../schema/ids.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import { logsStream, processStream, processesCall } from '../../../agent-daemon/processes/streams.ts';
import type { Session } from '../../../agent-daemon/sessions/session.ts';
import { systemRandom } from '../../../agent-daemon/platform.ts';
import { type Dockerd, startDockerd } from '../../support/dockerd.ts';
import { importBusybox } from '../../support/images.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { CoreBench, freshSessionId, never } from '../sessions/bench.ts';
import { TestStream } from './test-stream.ts';

const dir = tmpDir('strm');
let engine: Dockerd;
let core: CoreBench;
let sessionId: string;

beforeAll(async () => {
  engine = await startDockerd();
  await importBusybox(engine.docker);
  core = await new CoreBench(engine.socket, join(dir.path, 'a')).start();
  sessionId = freshSessionId();
  await core.create(sessionId, { type: 'interactive', env: { FROM: 'session' } });
}, 120_000);

afterAll(async () => {
  await core?.stop();
  await engine?.stop();
  dir.remove();
}, 60_000);

const newProcessId = () => newId('process', Date.now(), systemRandom.bytes(10));
const actorId = 'usr_test';
const of = () => ({
  find: (id: string, generation: number) => core.sessions.find(id, generation),
  spools: core.host.spools,
  nowMs: () => Date.now(),
});

type ProcessOpen = Omit<Extract<StreamOpen, { op: 'process' }>, 'op'>;
type LogsOpen = Omit<Extract<StreamOpen, { op: 'logs' }>, 'op'>;

interface Run {
  stream: TestStream;
  done: Promise<void>;
}

function open(options: ProcessOpen, id = sessionId, stream = new TestStream()): Run {
  const done = processStream(of())(
    { sessionId: id, generation: 1, actorId, open: { op: 'process', ...options } },
    stream,
  );
  done.catch(() => undefined);
  return { stream, done };
}

async function logs(options: LogsOpen, id = sessionId): Promise<TestStream> {
  const stream = new TestStream();
  await logsStream(of())({ sessionId: id, generation: 1, actorId, open: { op: 'logs', ...options } }, stream);
  return stream;
}

const sh = (script: string) => ['sh', '-c', script];

it('[S10] runs a command, with its output before its exit', async () => {
  const { stream, done } = open({
    processId: newProcessId(),
    spawn: { argv: sh('echo $FROM $OWN $BACKENDAI_CLUSTER_ROLE; pwd; echo bad >&2; exit 3'), env: { OWN: 'own' } },
  });
  await done;
  expect(stream.text()).toBe('session own main\n/home/work\n');
  expect(stream.text('stderr')).toBe('bad\n');
  expect(stream.events).toEqual([{ kind: 'exit', exitCode: 3, reason: 'exited', ends: { stdout: 28, stderr: 4 } }]);
});

it('[S9] starts a process once: the same id attaches, another command is a conflict', async () => {
  const processId = newProcessId();
  const spawn = { argv: sh('date +%s%N; sleep 0.3; exit 4') };
  const first = open({ processId, spawn });
  const second = open({ processId, spawn });
  await Promise.all([first.done, second.done]);
  expect(second.stream.text()).toBe(first.stream.text());
  expect(second.stream.exit).toEqual(first.stream.exit);
  const third = open({ processId, spawn });
  await third.done;
  expect(third.stream.text()).toBe(first.stream.text());
  await expect(open({ processId, spawn: { argv: ['true'] } }).done).rejects.toMatchObject({ code: 'process_conflict' });
});

it('passes input to its end and says so, and takes up input where the process has it', async () => {
  const processId = newProcessId();
  const spawn = { argv: ['cat'], stdin: true };
  const first = open({ processId, spawn });
  await until(() => first.stream.info, { what: 'opened' });
  first.stream.input('hello ');
  await first.stream.whenText('hello ');
  first.stream.cut();
  await first.done;
  const second = open({ processId, spawn, after: { stdout: 6, stderr: 0 } });
  await until(() => second.stream.info, { what: 'opened' });
  expect(second.stream.info?.inputOffset).toBe(6);
  // A client that is not sure sends some of it again.
  second.stream.inputAt(2, 'llo world');
  second.stream.endInput();
  await second.done;
  expect(second.stream.text()).toBe('world');
  expect(second.stream.events.map((event) => event.kind)).toEqual(['inputEnded', 'exit']);
});

it('[S2] refuses input behind a hole, and takes it from the client that comes again', async () => {
  const processId = newProcessId();
  const spawn = { argv: ['cat'], stdin: true };
  const first = open({ processId, spawn });
  await until(() => first.stream.info, { what: 'opened' });
  first.stream.input('hello ');
  await first.stream.whenText('hello ');
  first.stream.inputAt(9, 'behind a hole');
  await first.done;
  expect(first.stream.closed.reason).toMatchObject({ code: 'tunnel_frame_invalid' });
  const second = open({ processId, spawn, after: { stdout: 6, stderr: 0 } });
  await until(() => second.stream.info, { what: 'opened' });
  expect(second.stream.info?.inputOffset).toBe(6);
  second.stream.input('world');
  second.stream.endInput();
  await second.done;
  expect(second.stream.text()).toBe('world');
});

it('gives a terminal with its size, follows it, and passes signals and hang-ups', async () => {
  const { stream, done } = open({
    processId: newProcessId(),
    spawn: {
      argv: sh('stty size; trap "stty size" WINCH; trap "echo int; exit 5" INT; while :; do sleep 0.05; done'),
      tty: { rows: 10, columns: 40 },
    },
  });
  await stream.whenText('10 40');
  stream.control({ kind: 'resize', rows: 20, columns: 100 });
  await stream.whenText('20 100');
  stream.control({ kind: 'signal', signal: 'INT' });
  await done;
  expect(stream.text()).toContain('int');
  expect(stream.exit).toMatchObject({ kind: 'exit', exitCode: 5, reason: 'exited' });
});

it('says which signal ended a process, and why a program could not be started', async () => {
  const killed = open({ processId: newProcessId(), spawn: { argv: sh('kill -9 $$') } });
  await killed.done;
  expect(killed.stream.exit).toEqual({
    kind: 'exit',
    signal: 'SIGKILL',
    reason: 'exited',
    ends: { stdout: 0, stderr: 0 },
  });
  const missing = open({ processId: newProcessId(), spawn: { argv: ['no-such-program'] } });
  await missing.done;
  expect(missing.stream.exit).toMatchObject({ exitCode: 127 });
  expect(missing.stream.text('stderr')).toContain('no-such-program');
});

it.each([
  ['what a process can not be given', 'a\0'],
  ['more than an init takes', 'a'.repeat(300_000)],
])('refuses %s, and keeps nothing of it', async (_, word) => {
  const processId = newProcessId();
  const { done } = open({ processId, spawn: { argv: ['echo', word] } });
  await expect(done).rejects.toMatchObject({ code: 'request_body_invalid' });
  expect(core.sessions.find(sessionId, 1)?.supervisor?.isLive(processId)).toBe(false);
  const { processes } = await processesCall(of())({ sessionId, generation: 1 }, never);
  expect(processes.map((each) => each.processId)).not.toContain(processId);
  // The id is as good as new.
  const again = open({ processId, spawn: { argv: ['echo', 'short'] } });
  await again.done;
  expect(again.stream.text()).toBe('short\n');
});

it('continues output after any cut at any offset, byte for byte', async () => {
  const processId = newProcessId();
  const spawn = { argv: sh('i=0; while [ $i -lt 60000 ]; do echo "line $i of the output"; i=$((i+1)); done') };
  const whole = createHash('sha256');
  let at = 0;
  for (let cuts = 0; ; cuts++) {
    const { stream, done } = open({ processId, spawn, after: { stdout: at, stderr: 0 }, input: false });
    if (cuts < 10) {
      await until(() => stream.received.stdout.length > 0, { what: 'some output' });
      stream.cut();
    }
    await done.catch(() => undefined);
    const bytes = Buffer.concat(stream.received.stdout);
    whole.update(bytes);
    at += bytes.byteLength;
    if (stream.exit !== undefined) break;
  }
  const expected = Array.from({ length: 60_000 }, (_, i) => `line ${i} of the output\n`).join('');
  expect(at).toBe(Buffer.byteLength(expected));
  expect(whole.digest('hex')).toBe(createHash('sha256').update(expected).digest('hex'));
}, 120_000);

it('keeps both streams in the order in which they were written', async () => {
  const { stream, done } = open({
    processId: newProcessId(),
    spawn: { argv: sh('for i in 1 2 3 4 5; do echo out$i; sleep 0.02; echo err$i >&2; sleep 0.02; done') },
  });
  await done;
  const kept = await logs({ processId: newProcessId(), streams: 'both', follow: false }).catch(
    (error: unknown) => error,
  );
  expect(kept).toMatchObject({ code: 'process_not_found' });
  const order = stream.writes.map((write) => write.channel);
  expect(order.filter((channel, index) => channel !== order[index - 1])).toHaveLength(10);
});

it('shows the last lines of both streams together, and what is kept from any offset', async () => {
  const processId = newProcessId();
  const argv = sh('for i in 1 2 3 4 5 6; do echo out$i; sleep 0.01; echo err$i >&2; sleep 0.01; done');
  await open({ processId, spawn: { argv } }).done;
  const tail = await logs({ processId, streams: 'both', tailLines: 3, follow: false });
  expect([tail.text(), tail.text('stderr')]).toEqual(['out6\n', 'err5\nerr6\n']);
  expect(tail.exit).toMatchObject({ exitCode: 0 });
  const one = await logs({ processId, streams: 'stdout', tailLines: 2, follow: false });
  expect([one.text(), one.text('stderr')]).toEqual(['out5\nout6\n', '']);
  const from = await logs({ processId, streams: 'stdout', after: { stdout: 15, stderr: 0 }, follow: true });
  expect(from.text()).toBe('out4\nout5\nout6\n');
  const all = await logs({ processId, streams: 'stdout', tailLines: 1000, follow: false });
  expect(all.text().split('\n')).toHaveLength(7);
});

it('follows a log to the end of the process', async () => {
  const processId = newProcessId();
  const running = open({ processId, spawn: { argv: sh('echo first; sleep 0.5; echo last; exit 2') } });
  await running.stream.whenText('first');
  const followed = await logs({ processId, streams: 'both', follow: true });
  expect(followed.text()).toBe('first\nlast\n');
  expect(followed.exit).toMatchObject({ exitCode: 2 });
  await running.done;
});

it('lists processes, the newest first', async () => {
  const processId = newProcessId();
  await open({ processId, spawn: { argv: sh('exit 9') } }).done;
  const { processes } = await processesCall(of())({ sessionId, generation: 1 }, never);
  expect(processes[0]).toEqual({ processId, argv: ['sh', '-c', 'exit 9'], state: 'ended', exitCode: 9 });
  expect(processes.length).toBeGreaterThan(5);
});

it('goes on through a restart of the agent: output, input and the exit are all there', async () => {
  const processId = newProcessId();
  const spawn = { argv: sh('while read line; do echo "got $line"; done; echo bye; exit 6'), stdin: true };
  const first = open({ processId, spawn });
  await until(() => first.stream.info, { what: 'opened' });
  first.stream.input('one\n');
  await first.stream.whenText('got one');
  first.stream.cut();
  await core.restart();
  const second = open({ processId, spawn, after: { stdout: 8, stderr: 0 } });
  await until(() => second.stream.info, { what: 'opened' });
  expect(second.stream.info?.inputOffset).toBe(4);
  second.stream.input('two\n');
  second.stream.endInput();
  await second.done;
  expect(second.stream.text()).toBe('got two\nbye\n');
  expect(second.stream.exit).toMatchObject({ exitCode: 6 });
});

it('[S9] takes no input for a session that is not taken over yet, as nobody would ever read it', async () => {
  const processId = newProcessId();
  const first = open({ processId, spawn: { argv: ['cat'], stdin: true } });
  await until(() => first.stream.info, { what: 'opened' });
  const none = { owns: () => false };
  const session = { state: 'running', supervisor: undefined, kernels: none, terminals: none } as unknown as Session;
  const untaken = { ...of(), find: () => session };
  const attach = (input: boolean) =>
    ({ sessionId, generation: 1, actorId, open: { op: 'process', processId, input } }) as const;
  await expect(processStream(untaken)(attach(true), new TestStream())).rejects.toMatchObject({
    code: 'session_not_running',
  });
  const watching = new TestStream();
  const watched = processStream(untaken)(attach(false), watching);
  await until(() => watching.info, { what: 'a watcher to be let in' });
  first.stream.endInput();
  await Promise.all([first.done, watched]);
});

it('refuses a bad message on the control channel, an unknown process and a session that is not there', async () => {
  const { stream, done } = open({ processId: newProcessId(), spawn: { argv: ['sleep', '5'] } });
  stream.control({ kind: 'reboot' });
  await done;
  expect(stream.closed.reason).toMatchObject({ code: 'tunnel_frame_invalid' });
  await expect(open({ processId: newProcessId() }).done).rejects.toMatchObject({ code: 'process_not_found' });
  await expect(open({ processId: 'main' }).done).rejects.toMatchObject({ code: 'process_not_found' });
  const gone = freshSessionId();
  await expect(open({ processId: 'main' }, gone).done).rejects.toMatchObject({ code: 'session_output_gone' });
  await expect(open({ processId: newProcessId(), spawn: { argv: ['true'] } }, gone).done).rejects.toMatchObject({
    code: 'session_ended',
  });
});
