/** Commands of the memory store on keys of any type: existence, names, expiry. */
import { RedisError, Status } from '../backend.ts';
import { syntaxError, toInt64, toInteger } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable } from './command.ts';
import { glob } from './glob.ts';
import type { Keyspace } from './keyspace.ts';

const ok = new Status('OK');

/** How an expiry command counts: in which unit, from now or from 1970. */
function expireCommand(unitMs: number, absolute: boolean, name: string): CommandSpec {
  return {
    arity: -3,
    run: ({ keys }, [key = '', amount, ...words]) => {
      const flags = words.map((word) => word.toUpperCase());
      const unknown = flags.findIndex((flag) => !['NX', 'XX', 'GT', 'LT'].includes(flag));
      if (unknown !== -1) throw new RedisError(`ERR Unsupported option ${words[unknown]}`);
      const at = toExpiry(amount, unitMs, absolute, keys.now, name);
      return mayExpire(keys, key, at, flags) && keys.expire(key, at) ? 1 : 0;
    },
  };
}

/** Milliseconds since 1970 of an expiry argument. Throws RedisError when it is beyond what a clock can reach. */
export function toExpiry(
  amount: string | undefined,
  unitMs: number,
  absolute: boolean,
  now: number,
  name: string,
): number {
  const at = Number(toInt64(amount)) * unitMs + (absolute ? 0 : now);
  if (!Number.isSafeInteger(at)) throw new RedisError(`ERR invalid expire time in '${name}' command`);
  return at;
}

/** NX, XX, GT, LT: no expiry counts as an infinite one. */
function mayExpire(keys: Keyspace, key: string, at: number, flags: readonly string[]): boolean {
  const old = keys.expiry(key);
  for (const flag of flags) {
    if (flag === 'NX' && old !== undefined) return false;
    if (flag === 'XX' && old === undefined) return false;
    if (flag === 'GT' && at <= (old ?? Infinity)) return false;
    if (flag === 'LT' && at >= (old ?? Infinity)) return false;
  }
  return true;
}

/** -2 without the key, -1 without an expiry, else what `toUnit` makes of the expiry. */
function expiryCommand(toUnit: (at: number, now: number) => number): CommandSpec {
  return {
    arity: 2,
    run: ({ keys }, [key = '']) => {
      if (!keys.has(key)) return -2;
      const at = keys.expiry(key);
      return at === undefined ? -1 : toUnit(at, keys.now);
    },
  };
}

const remove: CommandSpec = {
  arity: -2,
  run: ({ keys }, names) => names.filter((key) => keys.remove(key)).length,
};

const countExisting: CommandSpec = {
  arity: -2,
  run: ({ keys }, names) => names.filter((key) => keys.has(key)).length,
};

/** One reply with everything, whatever COUNT hints: cursor 0 means that nothing is left. */
function scan({ keys }: CommandContext, [cursor, ...options]: readonly string[]) {
  if (toInteger(cursor) !== 0) return ['0', []];
  const { matches, type } = scanOptions(options);
  const found = [...keys.keys()].filter((key) => matches(key) && (type === undefined || keys.type(key) === type));
  return ['0', found];
}

/** MATCH, COUNT and TYPE of the SCAN family. Throws RedisError. */
export function scanOptions(options: readonly string[]): { matches: (text: string) => boolean; type?: string } {
  let matches: (text: string) => boolean = () => true;
  let type: string | undefined;
  for (let index = 0; index < options.length; index += 2) {
    const word = options[index]?.toUpperCase();
    const value = options[index + 1];
    if (value === undefined) throw syntaxError();
    if (word === 'MATCH') matches = glob(value);
    else if (word === 'TYPE') type = value.toLowerCase();
    else if (word !== 'COUNT' || toInteger(value) < 1) throw syntaxError();
  }
  return type === undefined ? { matches } : { matches, type };
}

function rename(keys: Keyspace, from: string, to: string): void {
  if (!keys.rename(from, to)) throw new RedisError('ERR no such key');
}

function flush({ keys }: CommandContext, flags: readonly string[]) {
  if (flags.some((flag) => !['ASYNC', 'SYNC'].includes(flag.toUpperCase()))) throw syntaxError();
  keys.clear();
  return ok;
}

export const keyCommands: CommandTable = {
  DEL: remove,
  UNLINK: remove,
  EXISTS: countExisting,
  TOUCH: countExisting,
  TYPE: { arity: 2, run: ({ keys }, [key = '']) => new Status(keys.type(key) ?? 'none') },
  KEYS: {
    arity: 2,
    run: ({ keys }, [pattern = '']) => [...keys.keys()].filter(glob(pattern)),
  },
  SCAN: { arity: -2, run: scan },
  RANDOMKEY: { arity: 1, run: ({ keys }) => keys.keys().next().value ?? null },
  RENAME: {
    arity: 3,
    run: ({ keys }, [from = '', to = '']) => {
      rename(keys, from, to);
      return ok;
    },
  },
  RENAMENX: {
    arity: 3,
    run: ({ keys }, [from = '', to = '']) => {
      if (keys.has(from) && keys.has(to)) return 0;
      rename(keys, from, to);
      return 1;
    },
  },
  EXPIRE: expireCommand(1000, false, 'expire'),
  PEXPIRE: expireCommand(1, false, 'pexpire'),
  EXPIREAT: expireCommand(1000, true, 'expireat'),
  PEXPIREAT: expireCommand(1, true, 'pexpireat'),
  TTL: expiryCommand((at, now) => Math.round((at - now) / 1000)),
  PTTL: expiryCommand((at, now) => at - now),
  EXPIRETIME: expiryCommand((at) => Math.round(at / 1000)),
  PEXPIRETIME: expiryCommand((at) => at),
  PERSIST: {
    arity: 2,
    run: ({ keys }, [key = '']) => (keys.expiry(key) !== undefined && keys.expire(key, undefined) ? 1 : 0),
  },
  DBSIZE: {
    arity: 1,
    run: ({ keys }) => {
      keys.sweep(true);
      return keys.size;
    },
  },
  FLUSHALL: { arity: -1, run: flush },
  FLUSHDB: { arity: -1, run: flush },
};
