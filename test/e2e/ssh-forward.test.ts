/** Ports and paths between here and a session: by the real OpenSSH client, as editors do it, and by `causeway port`. */
import type { ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { connect, type Server } from 'node:net';
import { join } from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { freePort } from '../support/free-port.ts';
import { emptyImage, importEmpty } from '../support/images.ts';
import { importPython, pythonImage } from '../support/python-image.ts';
import { type Stack, startStack } from '../support/stack.ts';
import { tier } from '../support/tier.ts';
import { until } from '../support/wait.ts';
import { serveAt } from '../agent-daemon/serve-at.ts';
import { OpenSsh } from './open-ssh.ts';

/** Sends back what comes, to its end, at port 7000 and at the path `echo.sock`. */
const echo = `
import socket, threading
def serve(s):
    while True:
        c, _ = s.accept()
        threading.Thread(target=answer, args=(c,), daemon=True).start()
def answer(c):
    while True:
        b = c.recv(65536)
        if not b: break
        c.sendall(b)
    c.shutdown(socket.SHUT_WR)
    c.close()
tcp = socket.create_server(('127.0.0.1', 7000), backlog=128)
path = socket.socket(socket.AF_UNIX); path.bind('/home/work/echo.sock'); path.listen(128)
threading.Thread(target=serve, args=(path,), daemon=True).start()
print('up', flush=True)
serve(tcp)
`;
const megabytes = 64;
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

describe.runIf(tier === 'full')('ports of a session', () => {
  let stack: Stack;
  let open: OpenSsh;
  const children: ChildProcess[] = [];
  const servers: Server[] = [];

  beforeAll(async () => {
    stack = await startStack();
    const { engine } = stack.agents[0]!;
    await importPython(engine.docker, engine.socket);
    await importEmpty(engine.docker);
    open = await OpenSsh.prepare(stack);
    await Promise.all([
      open.session('lab', pythonImage, ['--cpu', '0.5', '--mem', '512m']),
      open.session('empty', emptyImage),
    ]);
    const serving = open.cli.start(['exec', 'lab', '--', 'python3', '-c', echo], '');
    await serving.says(/^up$/m);
  }, 300_000);
  afterEach(async () => {
    for (const child of children.splice(0)) {
      child.kill();
      if (child.exitCode === null && child.signalCode === null) await once(child, 'close');
    }
    for (const server of servers.splice(0)) server.close();
  });
  afterAll(() => stack?.stop());

  /** `ssh` that stays, with what it says on stderr. */
  function stay(...args: string[]): { child: ChildProcess; said: () => string } {
    const child = open.start('ssh', args);
    children.push(child);
    let said = '';
    child.stderr!.on('data', (bytes: Buffer) => (said += bytes.toString()));
    return { child, said: () => said };
  }

  /** Sends `bytes` to a port or path here, and answers everything that comes back. */
  async function through(at: number | string, bytes: Uint8Array | string): Promise<Buffer> {
    const socket = typeof at === 'string' ? connect(at) : connect(at, '127.0.0.1');
    socket.end(bytes);
    return buffer(socket);
  }

  async function untilListening(at: number | string): Promise<void> {
    await until(
      () =>
        new Promise<boolean>((resolve) => {
          const socket = typeof at === 'string' ? connect(at) : connect(at, '127.0.0.1');
          socket.on('connect', () => (socket.destroy(), resolve(true))).on('error', () => resolve(false));
        }),
      { what: `somebody at ${at}`, timeoutMs: 60_000 },
    );
  }

  it(`[S22] carries ${megabytes} MiB through -L, to a port and to a path`, async () => {
    const port = await freePort();
    const path = join(stack.dir, 'l.sock');
    stay('-N', '-L', `${port}:localhost:7000`, '-L', `${path}:/home/work/echo.sock`, 'lab.causeway');
    await untilListening(port);
    await untilListening(path);
    const bytes = randomBytes(megabytes * 1024 ** 2);
    expect(sha(await through(port, bytes))).toBe(sha(bytes));
    expect(sha(await through(path, bytes))).toBe(sha(bytes));
    const many = await Promise.all(Array.from({ length: 50 }, (_, n) => through(port, `connection ${n}`)));
    expect(many.map(String)).toEqual(Array.from({ length: 50 }, (_, n) => `connection ${n}`));
  });

  it('[S22] goes where -D is told to, and says why it can not', async () => {
    const port = await freePort();
    const { said } = stay('-N', '-D', String(port), 'lab.causeway');
    await untilListening(port);
    const socks = async (host: string, to: number, word: string) => {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      socket.write(Buffer.from([5, 1, 0]));
      await once(socket, 'data');
      const answered = new Promise((resolve) => socket.once('data', resolve).once('close', resolve));
      socket.write(Buffer.from([5, 1, 0, 3, host.length, ...Buffer.from(host), to >> 8, to & 255]));
      await answered;
      socket.end(word);
      return text(socket);
    };
    expect(await socks('localhost', 7000, 'by a name')).toBe('by a name');
    expect(await socks('127.0.0.1', 7000, 'by an address')).toBe('by an address');
    await socks('localhost', 7001, 'nobody').catch(() => undefined);
    await until(() => said().includes('localhost:7001: Connection refused'), { what: said() });
  });

  it('[S22] says in an image without anything that nobody listens', async () => {
    const port = await freePort();
    const { said } = stay('-N', '-L', `${port}:localhost:7000`, 'empty.causeway');
    await untilListening(port);
    await through(port, 'a').catch(() => undefined);
    await until(() => said().includes('connect failed: localhost:7000: Connection refused'), { what: said() });
  });

  it('[S22] listens in the session for -R, at ports and paths', async () => {
    const here = await serveAt(servers, (socket) => socket.pipe(socket));
    const spec = ['-R', `7100:localhost:${here}`, '-R', `/home/work/r.sock:localhost:${here}`];
    stay('-N', ...spec, 'lab.causeway');
    const ask = `
import socket, sys
s = socket.socket(socket.AF_UNIX) if sys.argv[1] == 'path' else socket.socket()
s.connect('/home/work/r.sock' if sys.argv[1] == 'path' else ('127.0.0.1', 7100))
s.sendall(b'x' * 3000000); s.shutdown(socket.SHUT_WR)
n = 0
while True:
    b = s.recv(65536)
    if not b: break
    n += len(b)
print(n)
`;
    const asked = (what: string) => open.cli.run(['exec', 'lab', '--', 'python3', '-c', ask, what]);
    // Asked for one after the other: where the first is, the second may not be yet.
    for (const what of ['port', 'path'])
      await until(async () => (await asked(what)).status === 0, {
        what: `the listener at a ${what}`,
        timeoutMs: 60_000,
      });
    const all = await Promise.all(['port', 'path', 'port', 'path'].map(asked));
    expect(all.map(({ stdout }) => stdout)).toEqual(Array(4).fill('3000000\n'));
    const taken = await open.ssh(['-o', 'ExitOnForwardFailure=yes', '-R', '7100:localhost:1', 'lab.causeway', 'true']);
    expect(taken).toMatchObject({
      status: 255,
      stderr: expect.stringContaining('remote port forwarding failed') as string,
    });
    // Each of two is answered for itself, in their order.
    const two = ['-R', '7100:localhost:1', '-R', '/home/work/other.sock:localhost:1', 'lab.causeway'];
    const half = await open.ssh([...two, 'test', '-S', '/home/work/other.sock']);
    expect(half.stderr).toContain('remote port forwarding failed for listen port 7100');
    expect(half.stderr).not.toContain('other.sock');
    expect(half.status).toBe(0);
  });

  it('[S22] is added to a connection that others share, and taken away', async () => {
    const port = await freePort();
    const control = join(stack.dir, 'ctl');
    stay('-N', '-M', '-S', control, 'lab.causeway');
    await until(() => existsSync(control), { what: 'the master', timeoutMs: 60_000 });
    const ask = (...args: string[]) => open.ssh(['-S', control, ...args, 'lab.causeway']);
    expect(await ask('-O', 'forward', '-L', `${port}:localhost:7000`)).toMatchObject({ status: 0 });
    expect(String(await through(port, 'shared'))).toBe('shared');
    expect(await ask('-O', 'cancel', '-L', `${port}:localhost:7000`)).toMatchObject({ status: 0 });
    await expect(through(port, 'gone')).rejects.toThrow();
    expect(await ask('-O', 'exit')).toMatchObject({ status: 0 });
  });

  it('starts an editor as they do: a script into bash, a server of its own, and a socket to it', async () => {
    const script = `
set -eu
echo "start==$(uname -m)=="
mkdir -p "$HOME/.editor" && cd "$HOME/.editor"
cat > server.py <<'END'
import socket
s = socket.socket(socket.AF_UNIX); s.bind('server.sock'); s.listen(8)
while True:
    c, _ = s.accept(); c.sendall(b'editor ' + c.recv(100)); c.close()
END
rm -f server.sock
nohup python3 server.py > server.log 2>&1 < /dev/null &
i=0; while [ ! -S server.sock ] && [ $i -lt 100 ]; do sleep 0.1; i=$((i+1)); done
echo "listeningOn==$HOME/.editor/server.sock=="
echo "end=="
`;
    const begun = await open.ssh(['-T', 'lab.causeway', 'bash', '-s'], script);
    expect(begun.status, begun.stderr).toBe(0);
    const path = /listeningOn==(.*)==/.exec(begun.stdout)?.[1] ?? '';
    const near = join(stack.dir, 'editor.sock');
    stay('-N', '-L', `${near}:${path}`, 'lab.causeway');
    await untilListening(near);
    expect(String(await through(near, 'hello'))).toBe('editor hello');
  });

  it('[S21] forwards by `causeway port`, several at once, in words', async () => {
    const port = await freePort();
    const run = open.cli.start(['port', 'lab', '0:7000', `${port}:7001`]);
    children.push(run.child);
    await run.says(/-> lab:7001/);
    const at = Number(/^127\.0\.0\.1:(\d+) -> lab:7000$/m.exec(run.seen.stdout)?.[1]);
    const bytes = randomBytes(megabytes * 1024 ** 2);
    expect(sha(await through(at, bytes))).toBe(sha(bytes));
    const many = await Promise.all(Array.from({ length: 50 }, (_, n) => through(at, `connection ${n}`)));
    expect(many.map(String)).toEqual(Array.from({ length: 50 }, (_, n) => `connection ${n}`));
    await through(port, 'a').catch(() => undefined);
    await run.says(/lab:7001: localhost:7001: Connection refused/, 'stderr');
    const busy = await open.cli.run(['port', 'lab', `${port}:7000`]);
    expect(busy).toMatchObject({ status: 1, stderr: expect.stringContaining('the port is in use here') as string });
  });

  it('[S21] keeps its ports over a restart of the edge and of the agent, and refuses meanwhile', async () => {
    const run = open.cli.start(['port', 'lab', '0:7000']);
    children.push(run.child);
    await run.says(/-> lab:7000/);
    const at = Number(/:(\d+) -> lab:7000$/m.exec(run.seen.stdout)?.[1]);
    const answers = async () => String(await through(at, 'there').catch(() => ''));
    expect(await answers()).toBe('there');
    await stack.edge.restart();
    await run.says(/is lost: connections are refused/, 'stderr');
    await run.says(/it is back/, 'stderr');
    await until(async () => (await answers()) === 'there', { what: 'an answer', timeoutMs: 60_000 });
    await stack.agents[0]!.restart();
    await until(async () => (await answers()) === 'there', { what: 'an answer', timeoutMs: 60_000 });
  });

  it('ends with its session', async () => {
    await open.session('brief', emptyImage);
    const run = open.cli.start(['port', 'brief', '0:1']);
    children.push(run.child);
    await run.says(/-> brief:1/);
    const at = Number(/:(\d+) -> brief:1$/m.exec(run.seen.stdout)?.[1]);
    expect(await open.cli.run(['stop', 'brief'])).toMatchObject({ status: 0 });
    const asking = setInterval(() => void through(at, 'a').catch(() => undefined), 200);
    expect((await run.done).status).toBe(125);
    clearInterval(asking);
    expect(run.seen.stderr).toContain('has ended');
  });
});
