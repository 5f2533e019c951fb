/**
 * Reading a command's arguments, and the texts in which Redis refuses them. Pure.
 * All text in the memory store is a binary string: one character a byte, which compares, hashes and slices as the bytes do.
 */
import { RedisError } from '../backend.ts';

export const syntaxError = () => new RedisError('ERR syntax error');
export const notAnInteger = () => new RedisError('ERR value is not an integer or out of range');
export const notAFloat = () => new RedisError('ERR value is not a valid float');
export const wrongType = () => new RedisError('WRONGTYPE Operation against a key holding the wrong kind of value');
export const wrongArity = (name: string) =>
  new RedisError(`ERR wrong number of arguments for '${name.toLowerCase()}' command`);

const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n };

/** A signed 64-bit integer in its only decimal form. Throws RedisError. */
export function toInt64(text: string | undefined): bigint {
  if (text === undefined || !/^(0|-?[1-9]\d{0,18})$/.test(text)) throw notAnInteger();
  return inInt64(BigInt(text), notAnInteger);
}

export function inInt64(value: bigint, refuse: () => RedisError): bigint {
  if (value < int64.min || value > int64.max) throw refuse();
  return value;
}

/** An integer that a double holds exactly. Throws RedisError. */
export function toInteger(text: string | undefined): number {
  const value = Number(toInt64(text));
  if (!Number.isSafeInteger(value)) throw notAnInteger();
  return value;
}

/** A place in a sequence: any 64-bit integer, since what lies far outside only has to stay there. Throws RedisError. */
export function toIndex(text: string | undefined): number {
  return Number(toInt64(text));
}

/** How many to take: an integer from 0. Throws RedisError. */
export function toCount(text: string | undefined): number {
  if (text === undefined || !/^\d{1,15}$/.test(text))
    throw new RedisError('ERR value is out of range, must be positive');
  return Number(text);
}

/** As Redis answers integers: a number where that is exact. */
export function fromInt64(value: bigint): number | bigint {
  const small = Number(value);
  return Number.isSafeInteger(small) ? small : value;
}

/** A double; `inf` and `-inf` are allowed. Throws RedisError. */
export function toFloat(text: string | undefined): number {
  if (text === undefined) throw notAFloat();
  if (/^\+?inf(inity)?$/i.test(text)) return Infinity;
  if (/^-inf(inity)?$/i.test(text)) return -Infinity;
  if (!/^[+-]?(\d+(?:\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) throw notAFloat();
  return Number(text);
}

/** As Redis writes doubles: the shortest decimal that reads back the same. */
export function fromFloat(value: number): string {
  if (value === Infinity) return 'inf';
  if (value === -Infinity) return '-inf';
  return Object.is(value, -0) ? '-0' : String(value);
}

/** A sum as INCRBYFLOAT shows it: without the noise of binary fractions. Throws RedisError. */
export function sumOfFloats(a: number, b: number): string {
  const sum = a + b;
  if (!Number.isFinite(sum)) throw new RedisError('ERR increment would produce NaN or Infinity');
  return fromFloat(Number(sum.toPrecision(15)));
}

/** Turns a pair of indexes, negative from the end, into [start, end) within `length`. */
export function toSlice(first: number, last: number, length: number): [start: number, end: number] {
  const start = Math.max(0, first < 0 ? length + first : first);
  const end = Math.min(length, (last < 0 ? length + last : last) + 1);
  return [start, Math.max(start, end)];
}

/** Pairs of a flat list; throws `refuse` when one half is missing. */
export function toPairs(flat: readonly string[], refuse: () => RedisError): [string, string][] {
  if (flat.length === 0 || flat.length % 2 !== 0) throw refuse();
  const pairs: [string, string][] = [];
  for (let index = 0; index < flat.length; index += 2) pairs.push([flat[index] ?? '', flat[index + 1] ?? '']);
  return pairs;
}
