/** Commands of the memory store on hashes. */
import { RedisError, Status } from '../backend.ts';
import { fromInt64, inInt64, sumOfFloats, toFloat, toInt64, toInteger, toPairs, wrongArity } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import { scanOptions } from './keys.ts';
import type { Keyspace } from './keyspace.ts';
import { HashValue } from './values.ts';

function fieldsOf(keys: Keyspace, key: string): ReadonlyMap<string, string> {
  return keys.read(key, HashValue)?.fields ?? new Map<string, string>();
}

/** Sets the pairs; answers how many fields are new. */
function setFields(keys: Keyspace, key: string, flat: readonly string[], name: string): number {
  const pairs = toPairs(flat, () => wrongArity(name));
  return keys.edit(key, HashValue, (hash) => pairs.filter(([field, value]) => hash.set(field, value)).length);
}

function addInteger({ keys }: CommandContext, [key = '', field = '', amount]: readonly string[]): MemoryReply {
  const by = toInt64(amount);
  const old = fieldsOf(keys, key).get(field) ?? '0';
  if (!/^(0|-?[1-9]\d{0,18})$/.test(old)) throw new RedisError('ERR hash value is not an integer');
  const sum = inInt64(toInt64(old) + by, () => new RedisError('ERR increment or decrement would overflow'));
  keys.edit(key, HashValue, (hash) => hash.set(field, sum.toString()));
  return fromInt64(sum);
}

function addFloat({ keys }: CommandContext, [key = '', field = '', amount]: readonly string[]): MemoryReply {
  const by = toFloat(amount);
  const sum = sumOfFloats(toFloat(fieldsOf(keys, key).get(field) ?? '0'), by);
  keys.edit(key, HashValue, (hash) => hash.set(field, sum));
  return sum;
}

/** One reply with everything, as Redis does for small hashes. */
function scan({ keys }: CommandContext, [key = '', cursor, ...options]: readonly string[]): MemoryReply {
  toInteger(cursor);
  const { matches } = scanOptions(options);
  return ['0', [...fieldsOf(keys, key)].filter(([field]) => matches(field)).flat()];
}

function read(arity: number, answer: (fields: ReadonlyMap<string, string>, names: readonly string[]) => MemoryReply) {
  return {
    arity,
    run: ({ keys }, [key = '', ...names]) => answer(fieldsOf(keys, key), names),
  } satisfies CommandSpec;
}

export const hashCommands: CommandTable = {
  HSET: { arity: -4, grows: true, run: ({ keys }, [key = '', ...flat]) => setFields(keys, key, flat, 'hset') },
  HMSET: {
    arity: -4,
    grows: true,
    run: ({ keys }, [key = '', ...flat]) => {
      setFields(keys, key, flat, 'hmset');
      return new Status('OK');
    },
  },
  HSETNX: {
    arity: 4,
    grows: true,
    run: ({ keys }, [key = '', field = '', value = '']) =>
      fieldsOf(keys, key).has(field) ? 0 : setFields(keys, key, [field, value], 'hsetnx'),
  },
  HDEL: {
    arity: -3,
    run: ({ keys }, [key = '', ...names]) =>
      keys.edit(key, HashValue, (hash) => names.filter((field) => hash.delete(field)).length),
  },
  HGET: read(3, (fields, [name = '']) => fields.get(name) ?? null),
  HMGET: read(-3, (fields, names) => names.map((name) => fields.get(name) ?? null)),
  HGETALL: read(2, (fields) => [...fields].flat()),
  HEXISTS: read(3, (fields, [name = '']) => (fields.has(name) ? 1 : 0)),
  HLEN: read(2, (fields) => fields.size),
  HKEYS: read(2, (fields) => [...fields.keys()]),
  HVALS: read(2, (fields) => [...fields.values()]),
  HSTRLEN: read(3, (fields, [name = '']) => fields.get(name)?.length ?? 0),
  HINCRBY: { arity: 4, grows: true, run: addInteger },
  HINCRBYFLOAT: { arity: 4, grows: true, run: addFloat },
  HSCAN: { arity: -3, run: scan },
};
