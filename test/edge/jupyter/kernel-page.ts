/** A kernel that the gateway made, which runs, and pages at it: anew for each test of a file. */
import { afterEach, beforeEach, vi } from 'vitest';
import { v1Protocol } from '../../../edge/manager/jupyter/client-socket.ts';
import { type JupyterKernel, parseJupyterKernelId } from '../../../schema/api/jupyter.ts';
import { call } from '../client.ts';
import { type Client, dial, Gateway, type KernelStream, until } from './gateway.ts';

export interface KernelPages {
  readonly gateway: Gateway;
  /** One more page; `session`: the name under which it may come back. */
  connect(more?: { session?: string }): Promise<Client>;
  /** A page, and what the gateway opened to the kernel for it, of which nothing was said before. */
  connected(more?: { session?: string }): Promise<{ client: Client; kernel: KernelStream }>;
}

export function useKernelPages(): KernelPages {
  let gateway: Gateway;
  let path: string;
  let clients: Client[];

  beforeEach(async () => {
    gateway = new Gateway();
    clients = [];
    await gateway.begin();
    const made = await call<JupyterKernel>('POST', '/jupyter/api/kernels', { token: gateway.token, body: {} });
    path = `/jupyter/api/kernels/${made.body.id}/channels`;
    await gateway.run(parseJupyterKernelId(made.body.id)!.sessionId);
  });
  afterEach(async () => {
    for (const { socket, closed } of clients) if (!closed) socket.close(1000);
    await new Promise<void>((resolve) => void setTimeout(resolve, 50));
    vi.restoreAllMocks();
  });

  const connect: KernelPages['connect'] = async (more = {}) => {
    const client = await dial(path, { token: gateway.token, protocol: v1Protocol, ...more });
    clients.push(client);
    return client;
  };
  return {
    get gateway() {
      return gateway;
    },
    connect,
    connected: async (more) => {
      const client = await connect(more);
      return { client, kernel: (await gateway.stream()).accept().begin(1, 0) };
    },
  };
}

export const sees = (client: Client, count: number) =>
  until(`${count} messages, not ${client.seen.join(', ')}`, () => client.received.length >= count);
