/**
 * npm `wetty`, a terminal in a browser as people serve it today: a pseudo-terminal of its own host behind Socket.IO. It is
 * not ours to depend on: CAUSEWAY_WETTY names a folder in which `npm install wetty` was run (and node-pty built).
 */
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { freePort } from '../../support/free-port.ts';
import { start } from '../../support/process.ts';
import { tmpDir } from '../../support/tmp.ts';
import { until } from '../../support/wait.ts';
import { canConnect } from './tcp.ts';

/** What of a client of Socket.IO is used. */
interface IoSocket {
  on(event: 'data', listener: (text: string) => void): this;
  on(event: 'connect', listener: () => void): this;
  emit(event: 'input' | 'commit', what: string | number): this;
  emit(event: 'resize', size: { cols: number; rows: number }): this;
  disconnect(): void;
}
type Io = (url: string, options: { path: string; transports: string[] }) => IoSocket;

/** As its own page confirms what it has drawn. */
const confirmedBytes = 262_144;

export interface WettyTerminal {
  type(bytes: Uint8Array): void;
  stop(): Promise<void>;
}

/** Runs a shell script in a terminal of wetty; `hear` is given its output. */
export async function openWetty(script: string, hear: (bytes: Buffer) => void): Promise<WettyTerminal> {
  const folder = process.env['CAUSEWAY_WETTY'];
  if (folder === undefined || !existsSync(join(folder, 'node_modules/wetty')))
    throw new Error('this row needs npm wetty: run `npm install wetty` in a folder, and name that in CAUSEWAY_WETTY');
  const dir = tmpDir('wetty');
  const command = join(dir.path, 'command');
  writeFileSync(command, `#!/bin/sh\n${script}\n`);
  chmodSync(command, 0o755);
  const port = await freePort();
  const program = join(folder, 'node_modules/wetty/build/main.js');
  const args = [program, '--host', '127.0.0.1', '--port', String(port), '--base', '/', '--command', command];
  const server = start(process.execPath, args, { name: 'wetty', env: { ...process.env, NODE_ENV: 'production' } });
  const end = async (): Promise<void> => {
    await server.kill9();
    dir.remove();
  };
  try {
    await until(() => canConnect(port), {
      what: 'wetty to listen',
      timeoutMs: 30_000,
      giveUp: () => (server.exit === undefined ? undefined : server.output()),
    });
    const { io } = createRequire(program)('socket.io-client') as { io: Io };
    const socket = io(`http://127.0.0.1:${port}`, { path: '/socket.io', transports: ['websocket'] });
    let unconfirmed = 0;
    socket.on('connect', () => void socket.emit('resize', { cols: 80, rows: 24 }));
    socket.on('data', (text) => {
      hear(Buffer.from(text));
      for (unconfirmed += text.length; unconfirmed >= confirmedBytes; unconfirmed -= confirmedBytes)
        socket.emit('commit', confirmedBytes);
    });
    return {
      type: (bytes) => void socket.emit('input', Buffer.from(bytes).toString()),
      stop: async () => {
        socket.disconnect();
        await end();
      },
    };
  } catch (error) {
    await end();
    throw error;
  }
}
