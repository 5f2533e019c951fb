/** Commands of the memory store on strings and counters. */
import { RedisError, Status } from '../backend.ts';
import {
  fromInt64,
  inInt64,
  notAFloat,
  sumOfFloats,
  syntaxError,
  toFloat,
  toIndex,
  toInt64,
  toInteger,
  toPairs,
  toSlice,
  wrongArity,
} from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import { toExpiry } from './keys.ts';
import type { Keyspace } from './keyspace.ts';
import { StringValue } from './values.ts';

const ok = new Status('OK');

/** Longest string that APPEND and SETRANGE build, in bytes (Redis: 512 MiB; here the store itself is smaller). */
const stringMax = 32 * 1024 * 1024;

/** Units and origin of the options that carry an expiry. */
const expiryOptions: Readonly<Record<string, { unitMs: number; absolute: boolean }>> = {
  EX: { unitMs: 1000, absolute: false },
  PX: { unitMs: 1, absolute: false },
  EXAT: { unitMs: 1000, absolute: true },
  PXAT: { unitMs: 1, absolute: true },
};

function get(keys: Keyspace, key: string): string | null {
  return keys.read(key, StringValue)?.data ?? null;
}

function put(keys: Keyspace, key: string, data: string): void {
  const value = new StringValue();
  value.data = data;
  keys.replace(key, value);
}

/** An expiry that must lie in the future of 1970. Throws RedisError. */
function positiveExpiry(keys: Keyspace, word: string, amount: string | undefined, name: string): number {
  const { unitMs, absolute } = expiryOptions[word] ?? { unitMs: 1, absolute: true };
  if (toInt64(amount) <= 0n) throw new RedisError(`ERR invalid expire time in '${name}' command`);
  return toExpiry(amount, unitMs, absolute, keys.now, name);
}

interface SetOptions {
  readonly flags: ReadonlySet<string>;
  readonly expiresAt: number | undefined;
}

function setOptions(keys: Keyspace, words: readonly string[]): SetOptions {
  const flags = new Set<string>();
  let expiresAt: number | undefined;
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index]?.toUpperCase() ?? '';
    if (word in expiryOptions) {
      if (expiresAt !== undefined || index + 1 === words.length) throw syntaxError();
      index += 1;
      expiresAt = positiveExpiry(keys, word, words[index], 'set');
    } else if (['NX', 'XX', 'GET', 'KEEPTTL'].includes(word)) flags.add(word);
    else throw syntaxError();
  }
  if ((flags.has('NX') && flags.has('XX')) || (flags.has('KEEPTTL') && expiresAt !== undefined)) throw syntaxError();
  return { flags, expiresAt };
}

function set({ keys }: CommandContext, [key = '', data = '', ...words]: readonly string[]): MemoryReply {
  const { flags, expiresAt } = setOptions(keys, words);
  const old = flags.has('GET') ? get(keys, key) : null;
  const exists = keys.has(key);
  const refused = (flags.has('NX') && exists) || (flags.has('XX') && !exists);
  if (!refused) {
    const kept = flags.has('KEEPTTL') ? keys.expiry(key) : expiresAt;
    put(keys, key, data);
    if (kept !== undefined) keys.expire(key, kept);
  }
  if (flags.has('GET')) return old;
  return refused ? null : ok;
}

function setWithExpiry(word: 'EX' | 'PX', name: string): CommandSpec {
  return {
    arity: 4,
    grows: true,
    run: ({ keys }, [key = '', amount, data = '']) => {
      const at = positiveExpiry(keys, word, amount, name);
      put(keys, key, data);
      keys.expire(key, at);
      return ok;
    },
  };
}

function getAndExpire({ keys }: CommandContext, [key = '', word, amount, ...rest]: readonly string[]): MemoryReply {
  const option = word?.toUpperCase();
  const isPersist = option === 'PERSIST' && amount === undefined;
  if (rest.length > 0 || (option !== undefined && !isPersist && !(option in expiryOptions))) throw syntaxError();
  if (option !== undefined && !isPersist && amount === undefined) throw syntaxError();
  const data = get(keys, key);
  if (data === null || option === undefined) return data;
  keys.expire(key, isPersist ? undefined : positiveExpiry(keys, option, amount, 'getex'));
  return data;
}

/** Adds to a counter, an absent one counts from 0; the expiry stays. */
function add(keys: Keyspace, key: string, by: bigint): MemoryReply {
  return keys.edit(key, StringValue, (value) => {
    const sum = inInt64(
      toInt64(keys.has(key) ? value.data : '0') + by,
      () => new RedisError('ERR increment or decrement would overflow'),
    );
    value.data = sum.toString();
    return fromInt64(sum);
  });
}

function counter(arity: number, toStep: (amount: string | undefined) => bigint): CommandSpec {
  return { arity, grows: true, run: ({ keys }, [key = '', amount]) => add(keys, key, toStep(amount)) };
}

function addFloat({ keys }: CommandContext, [key = '', amount]: readonly string[]): MemoryReply {
  const by = toFloat(amount);
  const old = get(keys, key);
  if (!Number.isFinite(by)) throw notAFloat();
  const sum = sumOfFloats(old === null ? 0 : toFloat(old), by);
  keys.edit(key, StringValue, (value) => (value.data = sum));
  return sum;
}

function setMany(keys: Keyspace, words: readonly string[], name: string, onlyNew: boolean): boolean {
  const pairs = toPairs(words, () => wrongArity(name));
  if (onlyNew && pairs.some(([key]) => keys.has(key))) return false;
  for (const [key, data] of pairs) put(keys, key, data);
  return true;
}

function refuseOverlong(length: number): void {
  if (length > stringMax) throw new RedisError('ERR string exceeds maximum allowed size (proto-max-bulk-len)');
}

function setRange({ keys }: CommandContext, [key = '', at, patch = '']: readonly string[]): MemoryReply {
  const offset = toInteger(at);
  if (offset < 0) throw new RedisError('ERR offset is out of range');
  refuseOverlong(offset + patch.length);
  if (patch === '') return get(keys, key)?.length ?? 0;
  return keys.edit(key, StringValue, (value) => {
    const padded = value.data.padEnd(offset, '\0');
    value.data = padded.slice(0, offset) + patch + padded.slice(offset + patch.length);
    return value.data.length;
  });
}

export const stringCommands: CommandTable = {
  GET: { arity: 2, run: ({ keys }, [key = '']) => get(keys, key) },
  SET: { arity: -3, grows: true, run: set },
  SETNX: {
    arity: 3,
    grows: true,
    run: ({ keys }, [key = '', data = '']) => (setMany(keys, [key, data], 'setnx', true) ? 1 : 0),
  },
  SETEX: setWithExpiry('EX', 'setex'),
  PSETEX: setWithExpiry('PX', 'psetex'),
  GETSET: {
    arity: 3,
    grows: true,
    run: ({ keys }, [key = '', data = '']) => {
      const old = get(keys, key);
      put(keys, key, data);
      return old;
    },
  },
  GETDEL: {
    arity: 2,
    run: ({ keys }, [key = '']) => {
      const old = get(keys, key);
      keys.remove(key);
      return old;
    },
  },
  GETEX: { arity: -2, run: getAndExpire },
  MGET: {
    arity: -2,
    run: ({ keys }, names) => names.map((key) => (keys.type(key) === 'string' ? get(keys, key) : null)),
  },
  MSET: {
    arity: -3,
    grows: true,
    run: ({ keys }, words) => {
      setMany(keys, words, 'mset', false);
      return ok;
    },
  },
  MSETNX: { arity: -3, grows: true, run: ({ keys }, words) => (setMany(keys, words, 'msetnx', true) ? 1 : 0) },
  APPEND: {
    arity: 3,
    grows: true,
    run: ({ keys }, [key = '', tail = '']) =>
      keys.edit(key, StringValue, (value) => {
        refuseOverlong(value.data.length + tail.length);
        value.data += tail;
        return value.data.length;
      }),
  },
  STRLEN: { arity: 2, run: ({ keys }, [key = '']) => get(keys, key)?.length ?? 0 },
  GETRANGE: {
    arity: 4,
    run: ({ keys }, [key = '', first, last]) => {
      const [start, end] = [toIndex(first), toIndex(last)];
      const data = get(keys, key) ?? '';
      if (start < 0 && end < 0 && start > end) return '';
      // Unlike a list's, an end before the beginning means the first byte.
      return data.slice(...toSlice(start, Math.max(end, -data.length), data.length));
    },
  },
  SETRANGE: { arity: 4, grows: true, run: setRange },
  INCR: counter(2, () => 1n),
  DECR: counter(2, () => -1n),
  INCRBY: counter(3, toInt64),
  DECRBY: counter(3, (amount) => -toInt64(amount)),
  INCRBYFLOAT: { arity: 3, grows: true, run: addFloat },
};
