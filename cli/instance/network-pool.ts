/**
 * Which addresses the containers of an instance get. Agents take 10.213.0.0/16 when nobody tells them otherwise; the instances
 * of one machine take quarters of the ten ranges after it, found by the instance's id, so that two of them do not meet.
 */
import { readFileSync } from 'node:fs';

/** A range in CIDR notation, such as `10.214.64.0/18`: room for 1,024 networks of 14 addresses. */
export type NetworkPool = string;

type Range = { first: number; last: number };

const PREFIX = 18;
const SIZE = 2 ** (32 - PREFIX);
const candidates = Array.from({ length: 40 }, (_, n) => (10 * 256 + 214) * 65_536 + n * SIZE);

/** The first free range, in an order that the id decides; the id's own first choice when none is free. */
export function pickPool(id: string, routed: Range[] = hostRoutes()): NetworkPool {
  const start = Buffer.from(id).reduce((sum, byte) => (sum * 31 + byte) % candidates.length, 7);
  const order = candidates.map((_, n) => candidates[(start + n) % candidates.length] ?? 0);
  const free = order.find((first) => !routed.some((r) => r.first <= first + SIZE - 1 && r.last >= first));
  return `${toText(free ?? order[0] ?? 0)}/${PREFIX}`;
}

/** The ranges that this host routes somewhere, without the default route. */
function hostRoutes(): Range[] {
  try {
    return parseRoutes(readFileSync('/proc/net/route', 'utf8'));
  } catch {
    return [];
  }
}

/** Reads /proc/net/route: hexadecimal, bytes reversed. */
export function parseRoutes(table: string): Range[] {
  return table
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/))
    .map((fields) => ({ first: fromHex(fields[1] ?? '0'), mask: fromHex(fields[7] ?? '0') }))
    .filter(({ mask }) => mask !== 0)
    .map(({ first, mask }) => ({ first, last: first + (2 ** 32 - 1 - mask) }));
}

function fromHex(text: string): number {
  return Buffer.from(text.padStart(8, '0'), 'hex').readUInt32LE();
}

function toText(address: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256).join('.');
}
