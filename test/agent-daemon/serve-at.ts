/** Servers of a test's own, to be connected to from somewhere else. */
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

/** Gives `use` each connection to a port of loopback, or to `path`. Adds the server to `servers`; answers the port. */
export async function serveAt(servers: Server[], use: (socket: Socket) => void, path?: string): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => use(socket.on('error', () => undefined)));
  servers.push(server);
  server.listen(path ?? { port: 0, host: '127.0.0.1' });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}
