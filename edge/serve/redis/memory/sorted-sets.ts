/** Commands of the memory store on sorted sets. */
import { RedisError } from '../backend.ts';
import { fromFloat, syntaxError, toCount, toFloat, toIndex, toInteger, toPairs, toSlice } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import { scanOptions } from './keys.ts';
import type { Keyspace } from './keyspace.ts';
import { type Scored, SortedSetValue } from './values.ts';

type Test = (element: Scored) => boolean;

function sortedOf(keys: Keyspace, key: string): readonly Scored[] {
  return keys.read(key, SortedSetValue)?.sorted ?? [];
}

const addFlags = ['NX', 'XX', 'GT', 'LT', 'CH', 'INCR'];

interface Addition {
  readonly flags: ReadonlySet<string>;
  readonly pairs: readonly [score: number, member: string][];
}

function parseAddition(words: readonly string[]): Addition {
  const firstScore = words.findIndex((word) => !addFlags.includes(word.toUpperCase()));
  const flags = new Set(words.slice(0, firstScore).map((word) => word.toUpperCase()));
  if (firstScore === -1) throw syntaxError();
  const texts = toPairs(words.slice(firstScore), syntaxError);
  if (flags.has('NX') && flags.has('XX')) {
    throw new RedisError('ERR XX and NX options at the same time are not compatible');
  }
  if ((flags.has('GT') && flags.has('LT')) || (flags.has('NX') && (flags.has('GT') || flags.has('LT')))) {
    throw new RedisError('ERR GT, LT, and/or NX options at the same time are not compatible');
  }
  if (flags.has('INCR') && texts.length !== 1) {
    throw new RedisError('ERR INCR option supports a single increment-element pair');
  }
  const pairs = texts.map(([score, member]) => [toFloat(score), member] as [number, string]);
  return { flags, pairs };
}

/** The score to store, or undefined when the flags forbid it. */
function nextScore(old: number | undefined, given: number, flags: ReadonlySet<string>): number | undefined {
  if (old === undefined) return flags.has('XX') ? undefined : given;
  if (flags.has('NX')) return undefined;
  const next = flags.has('INCR') ? old + given : given;
  if (Number.isNaN(next)) throw new RedisError('ERR resulting score is not a number (NaN)');
  if ((flags.has('GT') && next <= old) || (flags.has('LT') && next >= old)) return undefined;
  return next;
}

function add({ keys }: CommandContext, [key = '', ...words]: readonly string[]): MemoryReply {
  const { flags, pairs } = parseAddition(words);
  return keys.edit(key, SortedSetValue, (set) => {
    let added = 0;
    let changed = 0;
    let last: number | undefined;
    for (const [score, member] of pairs) {
      const old = set.score(member);
      last = nextScore(old, score, flags);
      if (last === undefined || last === old) continue;
      set.set(member, last);
      if (old === undefined) added += 1;
      else changed += 1;
    }
    if (flags.has('INCR')) return last === undefined ? null : fromFloat(last);
    return flags.has('CH') ? added + changed : added;
  });
}

/** `5`, `(5`, `-inf`: a test for one side of a range of scores. */
function scoreBound(text: string | undefined, side: 'min' | 'max'): Test {
  const isOpen = text?.startsWith('(') === true;
  let bound: number;
  try {
    bound = toFloat(isOpen ? text?.slice(1) : text);
  } catch {
    throw new RedisError('ERR min or max is not a float');
  }
  if (side === 'min') return ({ score }) => (isOpen ? score > bound : score >= bound);
  return ({ score }) => (isOpen ? score < bound : score <= bound);
}

/** `[a`, `(a`, `-`, `+`: a test for one side of a range of members. */
function lexBound(text: string | undefined, side: 'min' | 'max'): Test {
  if (text === '-') return () => side === 'min';
  if (text === '+') return () => side === 'max';
  const bound = text?.slice(1) ?? '';
  if (text?.startsWith('[') === true) return ({ member }) => (side === 'min' ? member >= bound : member <= bound);
  if (text?.startsWith('(') === true) return ({ member }) => (side === 'min' ? member > bound : member < bound);
  throw new RedisError('ERR min or max not valid string range item');
}

type Bound = typeof scoreBound;

type Select = (sorted: readonly Scored[]) => readonly Scored[];

/** Reads both sides of a range at once, so that a malformed one is refused before the key is looked at. */
function between(bound: Bound, min?: string, max?: string): Select {
  const tests = [bound(min, 'min'), bound(max, 'max')];
  return (sorted) => sorted.filter((element) => tests.every((test) => test(element)));
}

function byIndex(first?: string, last?: string): Select {
  const bounds = [toIndex(first), toIndex(last)] as const;
  return (sorted) => sorted.slice(...toSlice(...bounds, sorted.length));
}

interface RangeOptions {
  readonly by: 'index' | 'score' | 'lex';
  readonly isReversed: boolean;
  readonly withScores: boolean;
  readonly limit: readonly [offset: number, count: number] | undefined;
}

function rangeOptions(words: readonly string[], preset: Partial<RangeOptions>): RangeOptions {
  let options: RangeOptions = { by: 'index', isReversed: false, withScores: false, limit: undefined, ...preset };
  for (let index = 0; index < words.length; index += 1) {
    const word = words[index]?.toUpperCase();
    if (word === 'BYSCORE') options = { ...options, by: 'score' };
    else if (word === 'BYLEX') options = { ...options, by: 'lex' };
    else if (word === 'REV') options = { ...options, isReversed: true };
    else if (word === 'WITHSCORES') options = { ...options, withScores: true };
    else if (word === 'LIMIT') {
      options = { ...options, limit: [toInteger(words[index + 1]), toInteger(words[index + 2])] };
      index += 2;
    } else throw syntaxError();
  }
  if (options.limit !== undefined && options.by === 'index') {
    throw new RedisError('ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX');
  }
  return options;
}

function rangeSelect(first: string, last: string, { by, isReversed, limit }: RangeOptions): Select {
  const [min, max] = isReversed ? [last, first] : [first, last];
  const select = by === 'index' ? byIndex(first, last) : between(by === 'score' ? scoreBound : lexBound, min, max);
  return (sorted) => {
    const found = select(isReversed ? sorted.toReversed() : sorted);
    return limit === undefined ? found : limited(found, ...limit);
  };
}

function range(keys: Keyspace, key: string, first: string, last: string, options: RangeOptions): MemoryReply {
  const select = rangeSelect(first, last, options);
  return select(sortedOf(keys, key)).flatMap(({ member, score }) =>
    options.withScores ? [member, fromFloat(score)] : [member],
  );
}

function limited(found: readonly Scored[], offset: number, count: number): readonly Scored[] {
  if (offset < 0) return [];
  return count < 0 ? found.slice(offset) : found.slice(offset, offset + count);
}

function rangeCommand(preset: Partial<RangeOptions>): CommandSpec {
  return {
    arity: -4,
    run: ({ keys }, [key = '', first = '', last = '', ...words]) =>
      range(keys, key, first, last, rangeOptions(words, preset)),
  };
}

/** Removes what `select` picks; answers how many. */
function removal(parse: (first?: string, last?: string) => Select) {
  return {
    arity: 4,
    run: ({ keys }, [key = '', first, last]) => {
      const select = parse(first, last);
      return keys.edit(
        key,
        SortedSetValue,
        (set) => [...select(set.sorted)].filter(({ member }) => set.delete(member)).length,
      );
    },
  } satisfies CommandSpec;
}

function pop(end: 'min' | 'max'): CommandSpec {
  return {
    arity: -2,
    run: ({ keys }, [key = '', count = '1']) => {
      const most = toCount(count);
      return keys.edit(key, SortedSetValue, (set) => {
        const taken = (end === 'min' ? set.sorted : set.sorted.toReversed()).slice(0, most);
        for (const { member } of taken) set.delete(member);
        return taken.flatMap(({ member, score }) => [member, fromFloat(score)]);
      });
    },
  };
}

function rank(isReversed: boolean): CommandSpec {
  return {
    arity: 3,
    run: ({ keys }, [key = '', member = '']) => {
      const set = keys.read(key, SortedSetValue);
      const place = set?.rank(member);
      if (set === undefined || place === undefined) return null;
      return isReversed ? set.sorted.length - 1 - place : place;
    },
  };
}

function scoreOf(keys: Keyspace, key: string, member: string): MemoryReply {
  const score = keys.read(key, SortedSetValue)?.score(member);
  return score === undefined ? null : fromFloat(score);
}

function scan({ keys }: CommandContext, [key = '', cursor, ...options]: readonly string[]): MemoryReply {
  toInteger(cursor);
  const { matches } = scanOptions(options);
  const found = sortedOf(keys, key).filter(({ member }) => matches(member));
  return ['0', found.flatMap(({ member, score }) => [member, fromFloat(score)])];
}

export const sortedSetCommands: CommandTable = {
  ZADD: { arity: -4, grows: true, run: add },
  ZINCRBY: {
    arity: 4,
    grows: true,
    run: (context, [key = '', by = '', member = '']) => add(context, [key, 'INCR', by, member]),
  },
  ZREM: {
    arity: -3,
    run: ({ keys }, [key = '', ...members]) =>
      keys.edit(key, SortedSetValue, (set) => members.filter((member) => set.delete(member)).length),
  },
  ZSCORE: { arity: 3, run: ({ keys }, [key = '', member = '']) => scoreOf(keys, key, member) },
  ZMSCORE: {
    arity: -3,
    run: ({ keys }, [key = '', ...members]) => members.map((member) => scoreOf(keys, key, member)),
  },
  ZCARD: { arity: 2, run: ({ keys }, [key = '']) => sortedOf(keys, key).length },
  ZCOUNT: {
    arity: 4,
    run: ({ keys }, [key = '', min, max]) => between(scoreBound, min, max)(sortedOf(keys, key)).length,
  },
  ZLEXCOUNT: {
    arity: 4,
    run: ({ keys }, [key = '', min, max]) => between(lexBound, min, max)(sortedOf(keys, key)).length,
  },
  ZRANGE: rangeCommand({}),
  ZREVRANGE: rangeCommand({ isReversed: true }),
  ZRANGEBYSCORE: rangeCommand({ by: 'score' }),
  ZREVRANGEBYSCORE: rangeCommand({ by: 'score', isReversed: true }),
  ZRANGEBYLEX: rangeCommand({ by: 'lex' }),
  ZRANK: rank(false),
  ZREVRANK: rank(true),
  ZREMRANGEBYRANK: removal(byIndex),
  ZREMRANGEBYSCORE: removal((min, max) => between(scoreBound, min, max)),
  ZREMRANGEBYLEX: removal((min, max) => between(lexBound, min, max)),
  ZPOPMIN: pop('min'),
  ZPOPMAX: pop('max'),
  ZSCAN: { arity: -3, run: scan },
};
