/** The agent's SSH server over a stream, with a real init beside it; the client is ssh2's own, which is light. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Client, type ClientChannel, type SFTPWrapper, utils } from 'ssh2';
import { limits } from '../../../schema/protocol/limits.ts';
import { systemDisk } from '../../../agent-daemon/platform.ts';
import { makeKey, SshConnections } from '../../../agent-daemon/ssh/connections.ts';
import { tier } from '../../support/tier.ts';
import { until } from '../../support/wait.ts';
import { LiveSession } from '../live-session.ts';
import type { TestStream } from '../processes/test-stream.ts';
import { sessionId } from '../support.ts';
import { connectTo, dial as dialTo, exec, run } from './dialled.ts';

let live: LiveSession;
let ssh: SshConnections;
const clients: Client[] = [];
const dial = () => dialTo(ssh);
const connect = (privateKey?: string) => connectTo(ssh, clients, privateKey);

beforeEach(async () => {
  live = await LiveSession.start();
  ssh = new SshConnections(live.of);
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await live.stop();
});

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

it('heeds what comes for a process that is being started', async () => {
  const { client } = await connect();
  const resized = await exec(client, 'read line; stty size', { pty: { rows: 30, cols: 90, term: 'xterm' } });
  resized.setWindow(41, 101, 0, 0);
  resized.write('\n');
  expect((await run(resized)).stdout).toContain('41 101');
  const ended = await exec(client, 'exec sleep 1000');
  ended.signal('TERM');
  expect(await run(ended)).toMatchObject({ signal: 'SIGTERM' });
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
  const was = () => readFileSync(join(live.dir.path, 'was'), 'utf8');
  await until(() => systemDisk.stat(join(live.dir.path, 'was')).then(was, () => undefined), { what: 'the hang-up' });
  await until(async () => (await live.spools.processes(sessionId, 1)).length === 0, { what: 'nothing of it' });
});

it('lets other channels go on beside many that take nothing', async () => {
  const { client } = await connect();
  for (let n = 0; n < 8; n++) {
    const stuck = await exec(client, 'exec sleep 1000');
    stuck.write(Buffer.alloc(8 * 1024 * 1024));
  }
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
  await live.supervisor.link.terminate(5_000);
  await live.supervisor.whenAllEnded(new AbortController().signal);
  await live.supervisor.giveUp('session-ended');
  expect(await ran).toMatchObject({ code: 5, stdout: 'up\nbye\n' });
  await done;
});

it('serves files by its own server, and says so where the init is too old', async () => {
  const { client } = await connect();
  const sftp = await new Promise<SFTPWrapper>((resolve, reject) => {
    client.sftp((error, wrapper) => (error ? reject(error) : resolve(wrapper)));
  });
  const bytes = Buffer.alloc(3_000_000, 'bytes');
  await new Promise((resolve) => sftp.createWriteStream('there').on('close', resolve).end(bytes));
  expect(readFileSync(join(live.dir.path, 'there'))).toEqual(bytes);
  expect(await buffer(sftp.createReadStream('there'))).toEqual(bytes);
  await new Promise<void>((resolve) => sftp.rename('there', 'then', () => resolve()));
  expect(existsSync(join(live.dir.path, 'then'))).toBe(true);
  sftp.end();
  live.withoutTools();
  const channel = await new Promise<ClientChannel>((resolve, reject) => {
    client.subsys('sftp', (error, opened) => (error ? reject(error) : resolve(opened)));
  });
  expect((await run(channel)).stderr).toContain('causeway: The session runs since before');
});

it('says what a program needs that the image has not', async () => {
  const { client } = await connect();
  live.path = '/none';
  expect(await run(await exec(client, 'rsync here there'))).toMatchObject({
    code: 127,
    stderr: 'causeway: the image has no rsync: use scp, sftp or causeway cp\n',
  });
});
