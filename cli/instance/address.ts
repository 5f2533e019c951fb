/** The address of this machine as others see it: what a join line names when nobody said another. */
import { readFileSync } from 'node:fs';
import { hostname, networkInterfaces } from 'node:os';

/** The IPv4 address on the way to everywhere else, or the first one that is not loopback, or the host name. */
export function addressOfMachine(): string {
  const interfaces = networkInterfaces();
  const outward = defaultDevice();
  const candidates = [
    ...(outward === undefined ? [] : (interfaces[outward] ?? [])),
    ...Object.values(interfaces).flat(),
  ];
  return candidates.find((each) => each?.family === 'IPv4' && !each.internal)?.address ?? hostname();
}

/** Device of the default route. */
function defaultDevice(): string | undefined {
  try {
    const rows = readFileSync('/proc/net/route', 'utf8').split('\n').slice(1);
    return rows
      .map((row) => row.split('\t'))
      .find(([, destination, , flags]) => destination === '00000000' && flags !== undefined)?.[0];
  } catch {
    return undefined;
  }
}
