import { type AddressInfo, type Server, type Socket, connect, createServer } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createNatHost, type NatHost } from '../support/netns.ts';
import { runToEnd } from '../support/process.ts';
import { until } from '../support/wait.ts';

let host: NatHost;
let echo: Server;
const sockets = new Set<Socket>();

beforeAll(async () => {
  host = await createNatHost();
  echo = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).pipe(socket);
  });
  await new Promise<void>((resolve) => void echo.listen(0, host.outsideAddress, resolve));
}, 60_000);

afterAll(async () => {
  sockets.forEach((socket) => socket.destroy());
  echo?.close();
  await host?.stop();
});

it('reaches a server outside, which sees the address of the NAT', async () => {
  const client = dial();
  client.child.stdin?.write('hello\n');
  await client.line((line) => line.text === 'hello');
  expect([...sockets].map((socket) => socket.remoteAddress)).toEqual([host.natAddress]);
  expect(await host.inboundAttempts()).toBe(0);
  await client.kill9();
});

it('counts and drops an attempt to come in, through the NAT or around it', async () => {
  await attempt(host.natAddress);
  await until(async () => (await host.inboundAttempts()) > 0, { what: 'the attempt at the NAT to be counted' });
  const before = await host.inboundAttempts();
  await runToEnd('ip', ['route', 'add', host.address, 'via', host.natAddress]);
  await attempt(host.address);
  await until(async () => (await host.inboundAttempts()) > before, { what: 'the attempt at the host to be counted' });
});

it('silences one direction of an open connection and delivers after it heals', async () => {
  const client = dial();
  client.child.stdin?.write('one\n');
  await client.line((line) => line.text === 'one');
  await host.silence('out');
  const server = [...sockets].at(-1)!;
  server.write('from outside\n');
  await client.line((line) => line.text === 'from outside');
  const before = server.bytesRead;
  client.child.stdin?.write('two\n');
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(server.bytesRead).toBe(before);
  await host.heal();
  await client.line((line) => line.text === 'two');
  await client.kill9();
});

it('carries everything in spite of lost packets', async () => {
  await host.lose('both', 0.1);
  const client = dial();
  for (let n = 0; n < 100; n++) client.child.stdin?.write(`line ${n}\n`);
  await client.line((line) => line.text === 'line 99');
  expect(client.lines.map((line) => line.text)).toEqual(Array.from({ length: 100 }, (_, n) => `line ${n}`));
  await client.kill9();
  await host.heal();
});

/** A program on the host that connects its stdin and stdout to the echo server. */
function dial() {
  const { port } = echo.address() as AddressInfo;
  return host.start('busybox', ['nc', host.outsideAddress, String(port)], { stdin: true });
}

/** Tries to connect for a moment; nothing may answer, not even with a refusal. */
async function attempt(address: string): Promise<void> {
  const socket = connect({ host: address, port: 22 });
  const answered = new Promise((resolve) => socket.once('connect', resolve).once('error', resolve));
  const silence = new Promise((resolve) => setTimeout(resolve, 200, 'silence'));
  expect(await Promise.race([answered, silence])).toBe('silence');
  socket.destroy();
}
