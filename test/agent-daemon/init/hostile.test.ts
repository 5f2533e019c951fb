/** Everything that a process of the tenant may do to the socket, and to the init that shares its container. */
import { execFileSync } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { helloTag, socketName } from '../../../agent-daemon/init/session-key.ts';
import { start } from '../../support/process.ts';
import { until } from '../../support/wait.ts';
import { shell, TestSession } from './harness.ts';

const frame = (type: number, payload: Uint8Array): Buffer => {
  const header = Buffer.alloc(12);
  header.writeUInt32LE(payload.length, 0);
  header[8] = type;
  return Buffer.concat([header, payload]);
};

const hello = (hasKey: boolean, nonce: Uint8Array, tag: Uint8Array): Buffer =>
  frame(1, Buffer.concat([Buffer.from([1, 0, hasKey ? 1 : 0, 0]), nonce, tag]));

/** A connection that remembers what it was told. */
async function dial(path: string): Promise<{ socket: Socket; received: Buffer[]; closed: Promise<unknown> }> {
  const socket = connect(path);
  const received: Buffer[] = [];
  socket.on('error', () => {});
  socket.on('data', (chunk: Buffer) => received.push(chunk));
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  return { socket, received, closed };
}

/** A session whose init was there and is gone for now: the agent listens for it alone. */
async function abandoned(): Promise<{ session: TestSession; path: string; key: Uint8Array }> {
  const session = await new TestSession().start();
  session.signalInit('SIGSTOP');
  await session.link.close();
  await session.openLink().listen();
  const key = session.key?.bytes ?? Buffer.alloc(0);
  return { session, path: `${session.dir}/${socketName(key)}`, key };
}

async function comesBack(session: TestSession): Promise<void> {
  session.signalInit('SIGCONT');
  await session.link.ready();
  const spec = shell('echo well');
  expect((await session.run(spec)).out).toBe('well\n');
}

describe('the socket', () => {
  it('[I6] [I7] is not there while the init is connected, and has a name that nobody can list', async () => {
    await using session = await new TestSession().start();
    expect(readdirSync(session.dir)).toEqual([]);
    expect((statSync(session.dir).mode & 0o777).toString(8)).toBe('311');
    await session.link.close();
    await session.openLink().listen();
    expect(existsSync(`${session.dir}/agent.sock`)).toBe(false);
    const asTenant = { uid: 65_534, gid: 65_534, stdio: 'pipe' as const };
    expect(() => execFileSync('ls', [session.dir], asTenant)).toThrow(/Permission denied/);
    await session.link.ready();
  });

  it('[I4] never gives the key once an init has it', async () => {
    const { session, path } = await abandoned();
    await using _ = session;
    const stranger = await dial(path);
    stranger.socket.write(hello(false, randomBytes(32), Buffer.alloc(32)));
    await stranger.closed;
    expect(stranger.received).toEqual([]);
    await comesBack(session);
  });

  it('[I5] [I7] closes a forged HELLO, garbage, a frame that is too long, and more than one frame, at once and silently', async () => {
    const { session, path } = await abandoned();
    await using _ = session;
    const nonce = randomBytes(32);
    const tooLong = Buffer.alloc(12);
    tooLong.writeUInt32LE(129, 0);
    tooLong[8] = 1;
    const attempts = [
      hello(true, nonce, randomBytes(32)),
      hello(true, nonce, Buffer.alloc(32)),
      randomBytes(200),
      tooLong,
      frame(4, randomBytes(32)),
      frame(36, randomBytes(64)),
      Buffer.concat([hello(false, nonce, Buffer.alloc(32)), frame(4, randomBytes(32))]),
    ];
    for (const attempt of attempts) {
      const stranger = await dial(path);
      stranger.socket.write(attempt);
      await stranger.closed;
      expect(stranger.received).toEqual([]);
    }
    await comesBack(session);
  });

  it('[I5] gains nothing by a replayed HELLO or a replayed proof', async () => {
    // One that has seen a whole conversation (nobody can) knows a right HELLO and a right proof for older nonces.
    const { session, path, key } = await abandoned();
    await using _ = session;
    const nonce = randomBytes(32);
    const oldProof = createHmac('sha256', key)
      .update('causeway-init proof')
      .update(randomBytes(32))
      .update(nonce)
      .digest();
    const stranger = await dial(path);
    stranger.socket.write(hello(true, nonce, helloTag(key, nonce)));
    await until(() => stranger.received.length > 0, { what: 'the challenge' });
    stranger.socket.write(frame(4, oldProof));
    await stranger.closed;
    expect(Buffer.concat(stranger.received)).toHaveLength(12 + 64); // the challenge alone
    const reflected = await dial(path);
    reflected.socket.write(hello(true, nonce, helloTag(key, nonce)));
    await until(() => reflected.received.length > 0, { what: 'the challenge' });
    reflected.socket.write(frame(4, Buffer.concat(reflected.received).subarray(12 + 32)));
    await reflected.closed;
    expect(session.link.state).toBe('waiting');
    await comesBack(session);
  });

  it('[I7] gives up who is silent or stays in the middle of the handshake', async () => {
    const { session, path, key } = await abandoned();
    await using _ = session;
    const silent = await dial(path);
    const half = await dial(path);
    half.socket.write(hello(true, randomBytes(32), Buffer.alloc(32)).subarray(0, 40));
    const nonce = randomBytes(32);
    const waiting = await dial(path);
    waiting.socket.write(hello(true, nonce, helloTag(key, nonce)));
    await Promise.all([silent.closed, half.closed, waiting.closed]);
    expect([...silent.received, ...half.received]).toEqual([]);
    await comesBack(session);
  });

  it('[I7] is found by the init through a flood of connections, even by one who knows the name', async () => {
    const { session, path } = await abandoned();
    await using _ = session;
    const flood = `
      const net = require('net');
      let open = 0;
      const dial = () => {
        open++;
        const socket = net.connect(${JSON.stringify(path)});
        if (Math.random() < 0.5) socket.write(Buffer.alloc(300, 7));
        socket.on('error', () => {}).on('close', () => { open--; setImmediate(dial); });
      };
      for (let i = 0; i < 200; i++) dial();
      setInterval(() => { while (open < 200) dial(); }, 1);`;
    const tenants = [1, 2].map(() => start(process.execPath, ['-e', flood], { name: 'a tenant' }));
    await sleep(500);
    await comesBack(session); // within the patience of a test, beside two processes that do nothing else
    await Promise.all(tenants.map((tenant) => tenant.kill9()));
  });

  it('[I1] drops an authenticated init that breaks the protocol, and takes it back', async () => {
    await using session = await new TestSession().start();
    const spec = shell('echo kept; read line', { stdin: 'open' });
    await session.link.spawn(spec);
    await session.outputHas(spec.processId, 'kept');
    // Acknowledging what was never written is such a breach, from the other side: the init hangs up and dials again.
    session.link.ack(spec.processId, 1, 1_000_000);
    await until(() => session.record.disconnects > 0, { what: 'the init to hang up' });
    await session.replaceAgent();
    await session.link.closeStdin(spec.processId);
    expect(await session.finished(spec.processId)).toMatchObject({ kind: 'code' });
  });
});

describe('the init', () => {
  it('[I5] talks only to who proves the key, whatever listens at its path', async () => {
    const { session, path } = await abandoned();
    await using _ = session;
    await session.link.close();
    const hellos: Buffer[] = [];
    const closes: Promise<unknown>[] = [];
    const impostor = createServer((socket) => {
      closes.push(once(socket, 'close'));
      socket.on('error', () => {});
      socket.on('data', (chunk: Buffer) => hellos.push(chunk));
      // A wrong proof; a key anew; a welcome without a proof.
      const answers = [frame(3, randomBytes(64)), frame(2, randomBytes(64)), frame(5, Buffer.alloc(0))];
      socket.write(answers[closes.length % answers.length] ?? '');
    });
    impostor.listen(path);
    await once(impostor, 'listening');
    session.signalInit('SIGCONT');
    await until(() => closes.length >= 4, { what: 'the init to dial four times' });
    await Promise.all(closes.slice(0, 3));
    impostor.close();
    for (const told of hellos) expect(told).toHaveLength(12 + 68); // HELLO alone, never a proof
    expect(new Set(hellos.map((told) => told.toString('hex'))).size).toBe(hellos.length);
    await session.openLink().listen();
    await comesBack(session);
  });

  it('[I3] can not be traced, read or robbed of its descriptors by its own user', async () => {
    const session = new TestSession({
      asPidOne: true,
      prefix: ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--no-new-privs'],
    });
    await using _ = session;
    await session.start();
    const probe = [
      'head -c1 /proc/1/mem',
      'cat /proc/1/environ',
      'cat /proc/1/maps',
      'cat /proc/1/auxv',
      'ls /proc/1/fd',
      'cat /proc/1/stack',
      'readlink /proc/1/exe',
      'echo 0 > /proc/1/oom_score_adj',
    ];
    const { out } = await session.run(shell(probe.map((line) => `${line} && echo "did: ${line}"`).join('\n')));
    expect(out).not.toContain('did:');
    expect((await session.run(shell('head -c1 /proc/$$/environ >/dev/null && echo can read its own'))).out).not.toBe(
      '',
    );
    expect((await session.run(shell('id -u; kill -0 1 && echo same user'))).out).toBe('65534\nsame user\n');
  });
});
