/**
 * A TCP door to a unix socket, as a program of its own: it listens on the loopback of the network namespace in which it is
 * started, where a private engine looks for its registry. `node registry-door.ts PORT SOCKET`; says `ready` with its port.
 */
import { type AddressInfo, connect, createServer } from 'node:net';

const [port = '0', socketPath = ''] = process.argv.slice(2);
const server = createServer((client) => {
  const target = connect(socketPath);
  for (const [from, to] of [
    [client, target],
    [target, client],
  ] as const) {
    from.on('error', () => to.destroy()).on('close', () => to.destroy());
    from.pipe(to);
  }
});
server.listen(Number(port), '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ msg: 'ready', port: (server.address() as AddressInfo).port })}\n`);
});
