/** Commands of the memory store on streams: adding, ranges, trimming, reading without waiting. No consumer groups. */
import { RedisError } from '../backend.ts';
import { syntaxError, toInteger, wrongArity } from './arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './command.ts';
import type { Keyspace } from './keyspace.ts';
import {
  compareIds,
  firstId,
  formatId,
  lastPossibleId,
  nextId,
  type StreamEntry,
  type StreamId,
  StreamValue,
  uint64Max,
} from './stream-value.ts';

const invalidId = () => new RedisError('ERR Invalid stream ID specified as stream command argument');

function toUint64(text: string): bigint {
  if (!/^\d{1,20}$/.test(text)) throw invalidId();
  const value = BigInt(text);
  if (value > uint64Max) throw invalidId();
  return value;
}

/** `ms` or `ms-seq`; without the sequence it is `seq`. Throws RedisError. */
function parseId(text: string, seq: bigint): StreamId {
  const dash = text.indexOf('-');
  if (dash === -1) return { ms: toUint64(text), seq };
  return { ms: toUint64(text.slice(0, dash)), seq: toUint64(text.slice(dash + 1)) };
}

/** The id of a new entry: `*`, `ms-*`, or a full one. Throws RedisError. */
function newId(text: string, last: StreamId, now: number): StreamId {
  if (text === '*') {
    const ms = BigInt(Math.floor(now));
    return ms > last.ms ? { ms, seq: 0n } : nextId(last);
  }
  if (!text.endsWith('-*')) return parseId(text, 0n);
  const ms = toUint64(text.slice(0, -2));
  if (ms === last.ms) return ms === 0n && last.seq === 0n ? { ms, seq: 1n } : { ms, seq: nextId(last).seq };
  return { ms, seq: 0n };
}

/** Whether the stream decides a part of the id. Throws RedisError when the rest is malformed. */
function isAutomatic(text: string): boolean {
  if (text.endsWith('-*')) toUint64(text.slice(0, -2));
  return text === '*' || text.endsWith('-*');
}

interface Trim {
  readonly approximately: boolean;
  /** How many entries are too many. */
  excess(stream: StreamValue): number;
}

/** `MAXLEN|MINID [=|~] threshold [LIMIT count]`; answers the trim and the number of words it took. Throws RedisError. */
function parseTrim(words: readonly string[]): [trim: Trim, taken: number] {
  const strategy = words[0]?.toUpperCase();
  const hasMark = words[1] === '=' || words[1] === '~';
  const approximately = words[1] === '~';
  const threshold = words[hasMark ? 2 : 1];
  let taken = hasMark ? 3 : 2;
  if (threshold === undefined) throw syntaxError();
  if (words[taken]?.toUpperCase() === 'LIMIT') {
    if (!approximately) throw new RedisError('ERR syntax error, LIMIT cannot be used without the special ~ option');
    if (toInteger(words[taken + 1]) < 0) throw new RedisError('ERR The LIMIT argument must be >= 0.');
    taken += 2;
  }
  if (strategy === 'MINID') {
    const id = parseId(threshold, 0n);
    return [{ approximately, excess: (stream) => stream.position(id) }, taken];
  }
  const max = toInteger(threshold);
  if (max < 0) throw new RedisError('ERR The MAXLEN argument must be >= 0.');
  return [{ approximately, excess: (stream) => stream.entries.length - max }, taken];
}

function isTrim(word: string | undefined): boolean {
  return ['MAXLEN', 'MINID'].includes(word?.toUpperCase() ?? '');
}

function add({ keys }: CommandContext, [key = '', ...words]: readonly string[]): MemoryReply {
  let rest = words;
  let mayCreate = true;
  let trim: Trim | undefined;
  for (;;) {
    if (rest[0]?.toUpperCase() === 'NOMKSTREAM') {
      mayCreate = false;
      rest = rest.slice(1);
    } else if (isTrim(rest[0])) {
      const [parsed, taken] = parseTrim(rest);
      trim = parsed;
      rest = rest.slice(taken);
    } else break;
  }
  const [id = '', ...fields] = rest;
  const isZero = !isAutomatic(id) && compareIds(parseId(id, 0n), firstId) === 0;
  if (fields.length === 0 || fields.length % 2 !== 0) throw wrongArity('xadd');
  if (isZero) throw new RedisError('ERR The ID specified in XADD must be greater than 0-0');
  if (!mayCreate && keys.read(key, StreamValue) === undefined) return null;
  return keys.edit(key, StreamValue, (stream) => {
    stream.append(newId(id, stream.lastId, keys.now), fields);
    if (trim !== undefined) stream.trim(trim.excess(stream), trim.approximately);
    return formatId(stream.lastId);
  });
}

/** `-`, `+`, an id, or an exclusive `(id`: the smallest or largest id of a range. */
function rangeBound(text: string, side: 'start' | 'end'): StreamId {
  if (text === '-') return firstId;
  if (text === '+') return lastPossibleId;
  const isOpen = text.startsWith('(');
  const id = parseId(isOpen ? text.slice(1) : text, side === 'start' ? 0n : uint64Max);
  if (!isOpen) return id;
  if (side === 'start') return nextId(id);
  if (compareIds(id, firstId) === 0) throw new RedisError('ERR invalid end ID for the interval');
  return id.seq > 0n ? { ms: id.ms, seq: id.seq - 1n } : { ms: id.ms - 1n, seq: uint64Max };
}

function toReply(entries: readonly StreamEntry[]): MemoryReply[] {
  return entries.map((entry) => [formatId(entry), [...entry.fields]]);
}

function range(isReversed: boolean): CommandSpec {
  return {
    arity: -4,
    run: ({ keys }, [key = '', first = '', last = '', ...options]) => {
      const start = rangeBound(isReversed ? last : first, 'start');
      const end = rangeBound(isReversed ? first : last, 'end');
      const most = countOption(options);
      const stream = keys.read(key, StreamValue);
      if (stream === undefined) return [];
      if (most === 0) return null;
      const from = stream.position(start);
      const to = compareIds(end, lastPossibleId) === 0 ? stream.entries.length : stream.position(nextId(end));
      if (isReversed) return toReply(stream.entries.slice(Math.max(from, to - most), to).toReversed());
      return toReply(stream.entries.slice(from, Math.min(to, from + most)));
    },
  };
}

function countOption(options: readonly string[]): number {
  if (options.length === 0) return Infinity;
  if (options.length !== 2 || options[0]?.toUpperCase() !== 'COUNT') throw syntaxError();
  return Math.max(0, toInteger(options[1]));
}

function read({ keys }: CommandContext, words: readonly string[]): MemoryReply {
  const at = words.findIndex((word) => word.toUpperCase() === 'STREAMS');
  if (at === -1) throw syntaxError();
  const most = countOption(words.slice(0, at)) || Infinity;
  const rest = words.slice(at + 1);
  const half = rest.length / 2;
  if (rest.length === 0 || !Number.isInteger(half)) {
    throw new RedisError(
      "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', or '$' must be specified.",
    );
  }
  const found = rest.slice(0, half).flatMap((key, index): MemoryReply[] => {
    const entries = entriesAfter(keys, key, rest[half + index] ?? '', most);
    return entries.length === 0 ? [] : [[key, toReply(entries)]];
  });
  return found.length === 0 ? null : found;
}

function entriesAfter(keys: Keyspace, key: string, after: string, most: number): readonly StreamEntry[] {
  const stream = keys.read(key, StreamValue);
  if (after === '$') return [];
  if (after === '+') return stream?.entries.slice(-1) ?? [];
  const id = parseId(after, 0n);
  if (stream === undefined) return [];
  const from = stream.position(nextId(id));
  return stream.entries.slice(from, from + most);
}

export const streamCommands: CommandTable = {
  XADD: { arity: -5, grows: true, run: add },
  XLEN: { arity: 2, run: ({ keys }, [key = '']) => keys.read(key, StreamValue)?.entries.length ?? 0 },
  XRANGE: range(false),
  XREVRANGE: range(true),
  XREAD: { arity: -4, run: read },
  XDEL: {
    arity: -3,
    run: ({ keys }, [key = '', ...ids]) => {
      if (keys.read(key, StreamValue) === undefined) return 0;
      const wanted = ids.map((id) => parseId(id, 0n));
      return keys.edit(key, StreamValue, (stream) => wanted.filter((id) => stream.delete(id)).length);
    },
  },
  XTRIM: {
    arity: -4,
    run: ({ keys }, [key = '', ...words]) => {
      if (!isTrim(words[0])) throw syntaxError();
      const [trim, taken] = parseTrim(words);
      if (taken !== words.length) throw syntaxError();
      if (keys.read(key, StreamValue) === undefined) return 0;
      return keys.edit(key, StreamValue, (stream) => stream.trim(trim.excess(stream), trim.approximately));
    },
  },
};
