/** A proxy for tests as companies have them: CONNECT alone, with or without a user name and a password. */
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';

export interface ConnectProxy {
  readonly port: number;
  /** `host:port` of every tunnel that was asked for, and how it was answered. */
  readonly asked: { target: string; status: number }[];
  /** Tunnels that are open. */
  open(): number;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ConnectProxyOptions {
  /** `user:password`; without it everybody may. */
  credentials?: string;
  /** Answers every CONNECT with this status instead. */
  status?: number;
  host?: string;
  /** Addresses of names that nobody else knows. */
  hosts?: Record<string, string>;
}

export async function startConnectProxy(options: ConnectProxyOptions = {}): Promise<ConnectProxy> {
  const asked: ConnectProxy['asked'] = [];
  const sockets = new Set<Socket>();
  const wanted =
    options.credentials === undefined ? undefined : `Basic ${Buffer.from(options.credentials).toString('base64')}`;
  const server = createServer((request, answer) => {
    void text(request).then(() => answer.writeHead(405).end());
  });
  const judge = ({ headers }: IncomingMessage): number =>
    wanted !== undefined && headers['proxy-authorization'] !== wanted ? 407 : (options.status ?? 200);
  server.on('connect', (request: IncomingMessage, client: Socket, head: Buffer) => {
    const target = request.url ?? '';
    const status = judge(request);
    asked.push({ target, status });
    client.on('error', () => client.destroy());
    if (status !== 200) return client.end(`HTTP/1.1 ${status} No\r\nconnection: close\r\n\r\n`);
    const { hostname, port } = new URL(`http://${target}`);
    const name = hostname.replace(/^\[(.*)\]$/, '$1');
    const upstream = connect({ host: options.hosts?.[name] ?? name, port: Number(port) || 80 });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
    }
    upstream.on('error', () => client.destroy());
    upstream.on('close', () => client.destroy());
    client.on('close', () => upstream.destroy());
    upstream.on('connect', () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.write(head);
      client.pipe(upstream).pipe(client);
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, options.host ?? '127.0.0.1', resolve));
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    open: () => Math.ceil(sockets.size / 2),
    stop,
    [Symbol.asyncDispose]: stop,
  };
}
