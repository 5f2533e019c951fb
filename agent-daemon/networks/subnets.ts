/** Which /28 of the pool is free: arithmetic on IPv4 ranges, without a look at any host. Pure. */

/** An IPv4 range [first, last] as numbers. */
export interface Range {
  first: number;
  last: number;
}

/** Addresses of one session's network: gateway, broadcast and 13 containers. */
export const subnetSize = 16;

/** Parses `a.b.c.d/n`; undefined when it is none. A bare address is a /32. */
export function parseCidr(text: string): Range | undefined {
  const matched = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:\/(\d{1,2}))?$/.exec(text);
  if (matched === null) return undefined;
  const octets = matched.slice(1, 5).map(Number);
  const bits = matched[5] === undefined ? 32 : Number(matched[5]);
  if (octets.some((octet) => octet > 255) || bits > 32) return undefined;
  const address = octets.reduce((sum, octet) => sum * 256 + octet, 0);
  const size = 2 ** (32 - bits);
  const first = Math.floor(address / size) * size;
  return { first, last: first + size - 1 };
}

export function overlaps(a: Range, b: Range): boolean {
  return a.first <= b.last && b.first <= a.last;
}

/** The `index`-th /28 of the pool as text. */
export function subnetText(pool: Range, index: number): string {
  const address = pool.first + index * subnetSize;
  const octets = [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256);
  return `${octets.join('.')}/28`;
}

/**
 * The first free /28 of the pool that touches none of `taken`, looking from `start` on (any number: where to begin
 * differs by agent, so that two agents of one host do not race for the same one). Undefined when the pool is full.
 */
export function findSubnet(pool: Range, taken: readonly Range[], start: number): string | undefined {
  const count = Math.floor((pool.last - pool.first + 1) / subnetSize);
  for (let step = 0; step < count; step++) {
    const index = (start + step) % count;
    const first = pool.first + index * subnetSize;
    const range = { first, last: first + subnetSize - 1 };
    if (!taken.some((each) => overlaps(each, range))) return subnetText(pool, index);
  }
  return undefined;
}

/** Destinations of the kernel's routing table (`/proc/net/route`), without the default route. */
export function parseRoutes(table: string): Range[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const fields = line.split('\t');
      const destination = fromHex(fields[1]);
      const mask = fromHex(fields[7]);
      if (destination === undefined || mask === undefined || mask === 0) return [];
      return [{ first: destination, last: destination + (0xff_ff_ff_ff - mask) }];
    });
}

/** The kernel prints addresses in the machine's byte order. */
function fromHex(text: string | undefined): number | undefined {
  if (text === undefined || !/^[0-9A-F]{8}$/i.test(text)) return undefined;
  const bytes = [6, 4, 2, 0].map((at) => Number.parseInt(text.slice(at, at + 2), 16));
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0);
}
