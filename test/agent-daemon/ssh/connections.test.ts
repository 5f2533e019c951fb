/** The agent's SSH server over a stream, with a real init beside it; the client is ssh2's own, which is light. */
import { readFileSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Client, type ClientChannel, utils } from 'ssh2';
import { limits } from '../../../schema/protocol/limits.ts';
import type { Channel } from '../../../schema/protocol/frame.ts';
import { freshId } from '../../../agent-daemon/fresh-id.ts';
import { unixDoor } from '../../../agent-daemon/init/door.ts';
import { Loops } from '../../../agent-daemon/loops.ts';
import { Spools } from '../../../agent-daemon/output/spools.ts';
import { systemDisk, systemSoon } from '../../../agent-daemon/platform.ts';
import { Supervisor } from '../../../agent-daemon/processes/supervisor.ts';
import type { Session } from '../../../agent-daemon/sessions/session.ts';
import { makeKey, SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { type Started, start } from '../../support/process.ts';
import { tier } from '../../support/tier.ts';
import { type TmpDir, tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { initBinary } from '../init/harness.ts';
import { clock, random, timers } from '../init/ports.ts';
import { TestStream } from '../processes/test-stream.ts';
import { keptLog, noFailpoints } from '../ports.ts';
import { imageFacts, kernelSpec, sessionId } from '../support.ts';

/** A stream whose far end is what ssh2 dials by. */
class Dialled extends TestStream {
  readonly socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      this.input(chunk);
      done();
    },
    destroy: (_error, done) => {
      this.cut();
      done(null);
    },
  });

  override write(channel: Channel, bytes: Uint8Array): Promise<void> {
    this.socket.push(Buffer.from(bytes));
    return super.write(channel, bytes);
  }
}

const key = makeKey(utils);
const publicKey = key.public.split(' ').slice(0, 2).join(' ');
const log = keptLog();

let dir: TmpDir;
let spools: Spools;
let supervisor: Supervisor;
let init: Started;
let ssh: SshConnections;
const clients: Client[] = [];

beforeEach(async () => {
  dir = tmpDir('ssh');
  const loops = new Loops({ clock, timers, log });
  const failpoints = noFailpoints;
  spools = new Spools({
    root: join(dir.path, 'output'),
    totalBytes: 1024 ** 3,
    disk: systemDisk,
    clock,
    timers,
    loops,
    log,
    failpoints,
  });
  await spools.start();
  const runDir = join(dir.path, 'run');
  await systemDisk.mkdir(runDir, { recursive: true });
  const nothing = () => undefined;
  supervisor = new Supervisor(
    {
      sessionId,
      generation: 1,
      runDir,
      sessionKey: undefined,
      transport: 'socket',
      saveSessionKey: () => Promise.resolve(),
      connected: nothing,
      leaseExpired: nothing,
      reasonOf: () => Promise.resolve('exited'),
      ended: nothing,
    },
    { clock, timers, random, log, door: unixDoor, soon: systemSoon, failpoints, spools },
  );
  // There is no home of a session here.
  const spawn = supervisor.spawn.bind(supervisor);
  supervisor.spawn = (spec, record) => spawn({ ...spec, cwd: dir.path }, record);
  await supervisor.link.listen();
  init = start(initBinary, [join(runDir, 'agent.sock')]);
  const session = {
    sessionId,
    generation: 1,
    state: 'running',
    supervisor,
    placement: { sessionId, generation: 1, spec: kernelSpec() },
    image: () => Promise.resolve(imageFacts()),
  } as unknown as Session;
  const freshProcessId = () => freshId('process', { clock, random });
  ssh = new SshConnections({ find: () => session, spools, nowMs: () => Date.now(), timers, log, freshProcessId });
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  // It may be gone before its answer is.
  await Promise.race([supervisor.link.shutdown(true).catch(() => undefined), init.exited]);
  await supervisor.giveUp('session-ended');
  await init.kill9();
  await spools.stop();
  dir.remove();
});

/** Opens a connection; `done` is the agent's handler. */
function dial(stream = new Dialled()) {
  const open = { op: 'ssh' as const, publicKey };
  const done = ssh.serve({ sessionId, generation: 1, actorId: 'usr_test', open }, stream);
  done.catch(() => undefined);
  return { stream, done };
}

async function connect(privateKey = key.private) {
  const dialled = dial();
  const { socket } = dialled.stream;
  const client = new Client();
  clients.push(client);
  let hostKey = '';
  await new Promise<void>((resolve, reject) => {
    client.on('ready', resolve).on('error', reject);
    const hostVerifier = (shown: Buffer) => {
      hostKey = `ssh-ed25519 ${shown.toString('base64')}`;
      return true;
    };
    client.connect({ sock: socket, username: 'anybody', privateKey, hostVerifier });
  });
  return { ...dialled, client, hostKey };
}

function exec(client: Client, command: string, options: object = {}): Promise<ClientChannel> {
  return new Promise((resolve, reject) => {
    client.exec(command, options, (error, channel) => (error ? reject(error) : resolve(channel)));
  });
}

async function run(channel: ClientChannel) {
  let [stdout, stderr] = ['', ''];
  channel.on('data', (bytes: Buffer) => (stdout += bytes.toString()));
  channel.stderr.on('data', (bytes: Buffer) => (stderr += bytes.toString()));
  const end = await new Promise<{ code: number | null; signal: string | undefined }>((resolve) => {
    let seen: { code: number | null; signal: string | undefined } = { code: null, signal: undefined };
    channel.on('exit', (code: number | null, signal?: string) => (seen = { code, signal }));
    channel.on('close', () => resolve(seen));
  });
  return { ...end, stdout, stderr };
}

it('[S16] runs commands with input, both outputs, and how they end, by the host key that it told', async () => {
  const { client, hostKey, stream } = await connect();
  expect(stream.info).toEqual({ hostKey });
  const reading = await exec(client, 'cat; echo bad >&2; exit 7');
  reading.end('typed');
  expect(await run(reading)).toEqual({ code: 7, signal: undefined, stdout: 'typed', stderr: 'bad\n' });
  expect(await run(await exec(client, 'kill -KILL $$'))).toMatchObject({ code: null, signal: 'SIGKILL' });
  const asked = await exec(client, 'trap "echo asked; exit 3" USR1; echo up; while :; do sleep 0.05; done');
  asked.once('data', () => asked.signal('USR1'));
  expect(await run(asked)).toMatchObject({ code: 3, stdout: 'up\nasked\n' });
  const variables = { LC_ALL: 'C.UTF-8', LD_PRELOAD: '/evil.so' };
  expect(await run(await exec(client, 'echo "$LC_ALL,$LD_PRELOAD"', { env: variables }))).toMatchObject({
    stdout: 'C.UTF-8,\n',
  });
});

it('gives a terminal that follows the window', async () => {
  const { client } = await connect();
  const channel = await exec(client, 'stty size; read line; stty size', { pty: { rows: 30, cols: 90, term: 'xterm' } });
  channel.once('data', () => {
    channel.setWindow(41, 101, 0, 0);
    channel.write('\n');
  });
  expect((await run(channel)).stdout.replaceAll('\r', '')).toBe('30 90\n\n41 101\n');
});

it('neither loses nor doubles what waits for a client that reads one stream after the other', async () => {
  const { client, stream } = await connect();
  const bytes = 6 * 1024 * 1024;
  const channel = await exec(client, `head -c ${bytes} /dev/zero; head -c ${bytes} /dev/zero >&2`);
  const seen = { stdout: 0, stderr: 0 };
  await whenQuiet(stream);
  channel.on('data', (part: Buffer) => (seen.stdout += part.byteLength));
  await until(() => seen.stdout >= bytes, { what: 'all of stdout' });
  await whenQuiet(stream);
  channel.stderr.on('data', (part: Buffer) => (seen.stderr += part.byteLength));
  await new Promise((resolve) => channel.on('close', resolve));
  expect(seen).toEqual({ stdout: bytes, stderr: bytes });
});

/** Waits until the server has stopped for want of a window. */
async function whenQuiet(stream: TestStream): Promise<void> {
  let [writes, looks] = [0, 0];
  await until(
    () => {
      looks = stream.writes.length === writes ? looks + 1 : 0;
      writes = stream.writes.length;
      return looks >= 10;
    },
    { what: 'a full window' },
  );
}

it('takes no key but the one of the stream', async () => {
  await expect(connect(makeKey(utils).private)).rejects.toThrow('authentication methods failed');
});

it('hangs up on what a client that is gone had started, and keeps nothing of it', async () => {
  const { client, stream, done } = await connect();
  const channel = await exec(client, 'trap "echo hup > was; exit" HUP; echo up; while :; do sleep 0.05; done');
  await new Promise((resolve) => channel.once('data', resolve));
  stream.cut();
  await done;
  const was = () => readFileSync(join(dir.path, 'was'), 'utf8');
  await until(() => systemDisk.stat(join(dir.path, 'was')).then(was, () => undefined), { what: 'the hang-up' });
  await until(async () => (await spools.processes(sessionId, 1)).length === 0, { what: 'nothing of it' });
});

it('lets other channels go on beside one that takes nothing', async () => {
  const { client } = await connect();
  const stuck = await exec(client, 'exec sleep 1000');
  stuck.write(Buffer.alloc(8 * 1024 * 1024));
  expect(await run(await exec(client, 'echo beside'))).toMatchObject({ stdout: 'beside\n' });
});

it.runIf(tier === 'full')('refuses more channels and connections than it says', async () => {
  const { client } = await connect();
  await Promise.all(Array.from({ length: limits.sshChannelsPerConnection }, () => exec(client, 'exec cat')));
  await expect(exec(client, 'true')).rejects.toThrow('open failure');
  for (let n = 1; n < limits.sshConnectionsPerSession; n++) dial();
  await expect(dial().done).rejects.toMatchObject({ code: 'tunnel_stream_limit' });
});

it('ends when the session has, after the last word of its processes', async () => {
  const { client, done } = await connect();
  const channel = await exec(client, 'trap "echo bye; exit 5" TERM; echo up; while :; do sleep 0.05; done');
  const ran = run(channel);
  await new Promise((resolve) => channel.once('data', resolve));
  await supervisor.link.terminate(5_000);
  await supervisor.whenAllEnded(new AbortController().signal);
  await supervisor.giveUp('session-ended');
  expect(await ran).toMatchObject({ code: 5, stdout: 'up\nbye\n' });
  await done;
});
