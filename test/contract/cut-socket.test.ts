import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { cutUnixSockets } from '../support/cut-socket.ts';
import { start } from '../support/process.ts';
import { tmpDir } from '../support/tmp.ts';

it('cuts the connections of a process on a unix socket and leaves its listener', async () => {
  using dir = tmpDir('sock');
  const path = join(dir.path, 'agent.sock');
  const server = createServer((socket) => void socket.on('error', () => {}).on('end', () => socket.destroy()));
  server.listen(path);
  await once(server, 'listening');
  const program = `
    const client = require('node:net').connect(${JSON.stringify(path)});
    client.on('connect', () => console.log('{"msg":"open"}')).on('close', () => console.log('{"msg":"closed"}'));`;
  const dialler = start(process.execPath, ['--eval', program]);
  await dialler.line('open');
  expect(await cutUnixSockets(process.pid, path)).toBeGreaterThan(0);
  await dialler.line('closed');
  const again = start(process.execPath, ['--eval', program]);
  await again.line('open');
  for (const each of [dialler, again]) await each.kill9();
  server.close();
});
