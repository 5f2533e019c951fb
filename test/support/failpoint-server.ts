/**
 * The other end of the edge's failpoints: workerd can not kill itself, so it asks here when it reached its failpoint, and
 * waits to be killed. Asked again after it came back, it is told that the failpoint is spent.
 */
import { type AddressInfo } from 'node:net';
import { createServer } from 'node:http';
import { once } from 'node:events';

export interface FailpointServer {
  /** Variables that arm the edge. */
  env: Record<string, string>;
  hits(): number;
  stop(): void;
}

export async function startFailpointServer(failpoint: string, kill: () => void): Promise<FailpointServer> {
  let hits = 0;
  const server = createServer((request, response) => {
    request.resume();
    hits++;
    response.end(hits === 1 ? 'dying' : 'spent');
    if (hits === 1 && !failpoint.endsWith(':unknown')) response.once('finish', kill);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    env: { CAUSEWAY_FAILPOINT: failpoint, CAUSEWAY_FAILPOINT_URL: `http://127.0.0.1:${port}/` },
    hits: () => hits,
    stop: () => void server.close(),
  };
}
