/** Plain TCP jobs against `target.ts`: echoes and bulk reads, directly or through whatever leads to it. */
import { type Socket, connect } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { start } from '../../support/process.ts';

export interface Target {
  port: number;
  stop(): Promise<void>;
}

/** Starts the target in a process of its own, as an agent's side has. */
export async function startTarget(): Promise<Target> {
  const program = start(process.execPath, [fileURLToPath(new URL('target.ts', import.meta.url))], { name: 'target' });
  const { port } = await program.line('ready');
  return { port: Number(port), stop: async () => void (await program.kill9()) };
}

export async function canConnect(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

async function open(port: number, job: string): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  await once(socket, 'connect');
  socket.write(job);
  return socket;
}

/** Echoes 64 bytes `count` times, one after the other; returns each time in us. */
export async function echoTimes(port: number, count: number): Promise<number[]> {
  const socket = await open(port, 'echo\n');
  const times = await pingPong(count, (payload) => void socket.write(payload), socket);
  socket.destroy();
  return times;
}

/** Sends 64 bytes and waits for 64 bytes, `count` times after 100 unmeasured ones; returns each time in us. */
export async function pingPong(
  count: number,
  send: (payload: Buffer) => void,
  source: { on(event: 'data', listener: (data: Uint8Array) => void): unknown },
): Promise<number[]> {
  const payload = Buffer.alloc(64, 1);
  const times: number[] = [];
  let missing = 0;
  let arrived = (): void => {};
  source.on('data', (data) => {
    missing -= data.length;
    if (missing <= 0) arrived();
  });
  for (let n = -100; n < count; n++) {
    missing = payload.length;
    const startedMs = performance.now();
    await new Promise<void>((resolve) => {
      arrived = resolve;
      send(payload);
    });
    if (n >= 0) times.push((performance.now() - startedMs) * 1000);
  }
  return times;
}

/** Reads `totalBytes` in all over `streams` connections at once; returns MB/s. */
export async function readRate(port: number, streams: number, totalBytes: number): Promise<number> {
  const each = Math.floor(totalBytes / streams);
  const startedMs = performance.now();
  await Promise.all(Array.from({ length: streams }, async () => readAll(await open(port, `read ${each}\n`), each)));
  return (each * streams) / 1e6 / ((performance.now() - startedMs) / 1000);
}

async function readAll(socket: Socket, expected: number): Promise<void> {
  let got = 0;
  socket.on('data', (data) => (got += data.length));
  await once(socket, 'end');
  if (got !== expected) throw new Error(`read ${got} bytes, not ${expected}`);
}
