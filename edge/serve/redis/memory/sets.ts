/** Commands of the memory store on sets. */
import { RedisError } from '../backend.ts';
import { toCount, toInteger } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import { scanOptions } from './keys.ts';
import type { Keyspace } from './keyspace.ts';
import { SetValue } from './values.ts';

function membersOf(keys: Keyspace, key: string): ReadonlySet<string> {
  return keys.read(key, SetValue)?.members ?? new Set<string>();
}

type Combination = 'union' | 'intersection' | 'difference';

function combine(keys: Keyspace, how: Combination, names: readonly string[]): string[] {
  const [first = new Set<string>(), ...others] = names.map((key) => membersOf(keys, key));
  if (how === 'union') return [...new Set([first, ...others].flatMap((members) => [...members]))];
  const isKept =
    how === 'intersection'
      ? (member: string) => others.every((members) => members.has(member))
      : (member: string) => others.every((members) => !members.has(member));
  return [...first].filter(isKept);
}

function combination(how: Combination): CommandSpec {
  return { arity: -2, run: ({ keys }, names) => combine(keys, how, names) };
}

function combinationInto(how: Combination): CommandSpec {
  return {
    arity: -3,
    grows: true,
    run: ({ keys }, [target = '', ...names]) => {
      const value = new SetValue();
      for (const member of combine(keys, how, names)) value.add(member);
      keys.replace(target, value);
      return value.members.size;
    },
  };
}

/** Some members, in no order that means anything: the oldest first, and with a negative count one several times. */
function sample(members: ReadonlySet<string>, count: number): string[] {
  const all = [...members];
  if (count >= 0) return all.slice(0, count);
  return all.length === 0 ? [] : Array.from({ length: -count }, (_, index) => all[index % all.length] ?? '');
}

/** Most members that one reply repeats. */
const repeatedMax = 100_000;

function random({ keys }: CommandContext, [key = '', count]: readonly string[]): MemoryReply {
  const members = membersOf(keys, key);
  if (count === undefined) return sample(members, 1)[0] ?? null;
  const wanted = toInteger(count);
  if (wanted < -repeatedMax) throw new RedisError('ERR value is out of range');
  return sample(members, wanted);
}

function pop({ keys }: CommandContext, [key = '', count]: readonly string[]): MemoryReply {
  const taken = sample(membersOf(keys, key), count === undefined ? 1 : toCount(count));
  keys.edit(key, SetValue, (set) => taken.forEach((member) => set.delete(member)));
  return count === undefined ? (taken[0] ?? null) : taken;
}

function move({ keys }: CommandContext, [from = '', to = '', member = '']: readonly string[]): MemoryReply {
  if (membersOf(keys, from).size === 0) return 0;
  membersOf(keys, to);
  if (!keys.edit(from, SetValue, (set) => set.delete(member))) return 0;
  keys.edit(to, SetValue, (set) => set.add(member));
  return 1;
}

function scan({ keys }: CommandContext, [key = '', cursor, ...options]: readonly string[]): MemoryReply {
  toInteger(cursor);
  return ['0', [...membersOf(keys, key)].filter(scanOptions(options).matches)];
}

export const setCommands: CommandTable = {
  SADD: {
    arity: -3,
    grows: true,
    run: ({ keys }, [key = '', ...members]) =>
      keys.edit(key, SetValue, (set) => members.filter((member) => set.add(member)).length),
  },
  SREM: {
    arity: -3,
    run: ({ keys }, [key = '', ...members]) =>
      keys.edit(key, SetValue, (set) => members.filter((member) => set.delete(member)).length),
  },
  SMEMBERS: { arity: 2, run: ({ keys }, [key = '']) => [...membersOf(keys, key)] },
  SISMEMBER: { arity: 3, run: ({ keys }, [key = '', member = '']) => (membersOf(keys, key).has(member) ? 1 : 0) },
  SMISMEMBER: {
    arity: -3,
    run: ({ keys }, [key = '', ...members]) => members.map((member) => (membersOf(keys, key).has(member) ? 1 : 0)),
  },
  SCARD: { arity: 2, run: ({ keys }, [key = '']) => membersOf(keys, key).size },
  SPOP: { arity: -2, run: pop },
  SRANDMEMBER: { arity: -2, run: random },
  SMOVE: { arity: 4, run: move },
  SUNION: combination('union'),
  SINTER: combination('intersection'),
  SDIFF: combination('difference'),
  SUNIONSTORE: combinationInto('union'),
  SINTERSTORE: combinationInto('intersection'),
  SDIFFSTORE: combinationInto('difference'),
  SSCAN: { arity: -3, run: scan },
};
