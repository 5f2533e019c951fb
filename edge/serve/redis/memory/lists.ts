/** Commands of the memory store on lists. */
import { RedisError, Status } from '../backend.ts';
import { syntaxError, toCount, toIndex, toInteger, toSlice } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import { ListValue } from './values.ts';

type End = 'left' | 'right';

function itemsOf(keys: Keyspace, key: string): readonly string[] {
  return keys.read(key, ListValue)?.items ?? [];
}

/** Puts items at an end, one after the other; answers the new length. */
function add(keys: Keyspace, key: string, end: End, items: readonly string[]): number {
  return keys.edit(key, ListValue, (list) => {
    const ordered = end === 'left' ? items.toReversed() : items;
    list.splice(end === 'left' ? 0 : list.items.length, 0, ...ordered);
    return list.items.length;
  });
}

/** Takes up to `count` items from an end, nearest first. */
function take(keys: Keyspace, key: string, end: End, count: number): string[] {
  return keys.edit(key, ListValue, (list) => {
    const from = end === 'left' ? 0 : Math.max(0, list.items.length - count);
    const taken = list.splice(from, count);
    return end === 'left' ? taken : taken.toReversed();
  });
}

function push(end: End, onlyExisting: boolean): CommandSpec {
  return {
    arity: -3,
    grows: true,
    run: ({ keys }, [key = '', ...items]) =>
      onlyExisting && itemsOf(keys, key).length === 0 ? 0 : add(keys, key, end, items),
  };
}

function pop(end: End): CommandSpec {
  return {
    arity: -2,
    run: ({ keys }, [key = '', count, ...rest]) => {
      if (rest.length > 0) throw syntaxError();
      if (count === undefined) return take(keys, key, end, 1)[0] ?? null;
      const most = toCount(count);
      return itemsOf(keys, key).length === 0 ? null : take(keys, key, end, most);
    },
  };
}

function move(keys: Keyspace, from: string, to: string, source: End, target: End): MemoryReply {
  if (itemsOf(keys, from).length === 0) return null;
  itemsOf(keys, to);
  const [item] = take(keys, from, source, 1);
  if (item === undefined) return null;
  add(keys, to, target, [item]);
  return item;
}

function toEnd(word: string | undefined): End {
  const end = word?.toLowerCase();
  if (end !== 'left' && end !== 'right') throw syntaxError();
  return end;
}

function removeEqual({ keys }: CommandContext, [key = '', count, item = '']: readonly string[]): MemoryReply {
  const wanted = toInteger(count);
  return keys.edit(key, ListValue, (list) => {
    const found = list.items.flatMap((candidate, index) => (candidate === item ? [index] : []));
    const doomed = wanted === 0 ? found : wanted > 0 ? found.slice(0, wanted) : found.slice(wanted);
    for (const index of doomed.toReversed()) list.splice(index, 1);
    return doomed.length;
  });
}

function replaceAt({ keys }: CommandContext, [key = '', at, item = '']: readonly string[]): MemoryReply {
  const { length } = itemsOf(keys, key);
  if (length === 0) throw new RedisError('ERR no such key');
  const index = toInteger(at);
  const place = index < 0 ? length + index : index;
  if (place < 0 || place >= length) throw new RedisError('ERR index out of range');
  keys.edit(key, ListValue, (list) => list.splice(place, 1, item));
  return new Status('OK');
}

function trim({ keys }: CommandContext, [key = '', first, last]: readonly string[]): MemoryReply {
  const bounds = [toIndex(first), toIndex(last)] as const;
  keys.edit(key, ListValue, (list) => {
    const [start, end] = toSlice(...bounds, list.items.length);
    list.splice(end, list.items.length - end);
    list.splice(0, Math.min(start, list.items.length));
  });
  return new Status('OK');
}

export const listCommands: CommandTable = {
  LPUSH: push('left', false),
  RPUSH: push('right', false),
  LPUSHX: push('left', true),
  RPUSHX: push('right', true),
  LPOP: pop('left'),
  RPOP: pop('right'),
  LLEN: { arity: 2, run: ({ keys }, [key = '']) => itemsOf(keys, key).length },
  LINDEX: {
    arity: 3,
    run: ({ keys }, [key = '', at]) => {
      const items = itemsOf(keys, key);
      return items.length === 0 ? null : (items.at(toIndex(at)) ?? null);
    },
  },
  LRANGE: {
    arity: 4,
    run: ({ keys }, [key = '', first, last]) => {
      const bounds = [toIndex(first), toIndex(last)] as const;
      const items = itemsOf(keys, key);
      return items.slice(...toSlice(...bounds, items.length));
    },
  },
  LSET: { arity: 4, grows: true, run: replaceAt },
  LREM: { arity: 4, run: removeEqual },
  LTRIM: { arity: 4, run: trim },
  LMOVE: {
    arity: 5,
    grows: true,
    run: ({ keys }, [from = '', to = '', source, target]) => move(keys, from, to, toEnd(source), toEnd(target)),
  },
  RPOPLPUSH: { arity: 3, grows: true, run: ({ keys }, [from = '', to = '']) => move(keys, from, to, 'right', 'left') },
};
