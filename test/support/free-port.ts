/**
 * A port for a server that is killed and started again under its address. It is outside of the range from which the kernel
 * gives ports to whoever asks for any, so that no other program of this machine gets it meanwhile.
 */
import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';

/** Above all that `fetch` refuses to ask. */
const lowest = 11_000;
const highest = 65_535;
const looks = 1000;

/** One that nobody listens on at `host`; chosen at random, since others of these tests look for theirs at the same time. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const [first = 0, last = 0] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8')
    .trim()
    .split(/\s+/)
    .map(Number);
  for (let look = 0; look < looks; look++) {
    const port = randomInt(lowest, highest + 1);
    if ((port < first || port > last) && (await isFree(host, port))) return port;
  }
  throw new Error(`no port of ${lowest} to ${highest} outside of ${first} to ${last} is free at ${host}`);
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, host, () => server.close(() => resolve(true)));
  });
}
