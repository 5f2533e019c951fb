/** Random commands, run on redis-server and on the memory store: every reply must be the same, errors word by word. */
import { type Arbitrary, array, assert, asyncProperty, constant, constantFrom, oneof, tuple } from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Command, RedisError, type Reply, Status } from '../../edge/serve/redis/backend.ts';
import { startTestRedis, type TestRedis } from '../support/redis.ts';

/** The same commands every day; others each time in the full tier. */
const seed = process.env['CAUSEWAY_TIER'] === 'full' ? {} : { seed: 20_261_124 };

let server: TestRedis;
let memory: TestRedis;
beforeAll(async () => {
  [server, memory] = await Promise.all([startTestRedis('server'), startTestRedis('memory')]);
});
afterAll(() => Promise.all([server.stop(), memory.stop()]));

const key = constantFrom('a', 'b', 'c', 'd');
const text = constantFrom('', 'x', 'y', '7', '-3', '1.5', 'ÿ', '12abc', '3000000000', '-9223372036854775808');
const field = constantFrom('f', 'g', 'h', '1');
const integer = constantFrom('0', '1', '2', '-1', '-2', '5', '100', '-100', 'x', '1.0', '9223372036854775807');
const score = constantFrom('0', '1', '-1', '2.5', 'inf', '-inf', '1e3', 'x');
const bound = constantFrom('-inf', '+inf', '(1', '0', '2.5', '(2.5', 'x');
/** Ranges by member mean something only where all scores are equal: in `z`. */
const lex = constantFrom('-', '+', '[f', '(f', '[h', 'g');
const id = constantFrom('0-1', '1-1', '1-*', '2', '2-5', '3-0', '0-0', '0', '-', 'x-1', '7-7');
const range = constantFrom('-', '+', '0', '1', '1-1', '(1-1', '2-5', '(2', '3-0', 'x', '(0-0');
const member = array(field, { minLength: 1, maxLength: 3 });
const row = (...parts: Arbitrary<string | string[]>[]) => tuple(...parts).map((words) => words.flat());
const is = (word: string) => constant(word);
const option = (...words: string[][]) => constantFrom<string[]>([], ...words);

const commands: Arbitrary<string[]>[] = [
  row(is('GET'), key),
  row(
    is('SET'),
    key,
    text,
    option(
      ['NX'],
      ['XX'],
      ['GET'],
      ['NX', 'GET'],
      ['KEEPTTL'],
      ['EX', '100'],
      ['PX', '0'],
      ['EX'],
      ['XX', 'NX'],
      ['EXAT', '99999999999'],
      ['KEEPTTL', 'EX', '5'],
    ),
  ),
  row(is('SETNX'), key, text),
  row(is('GETSET'), key, text),
  row(is('GETDEL'), key),
  row(is('GETEX'), key, option(['PERSIST'], ['EX', '100'], ['EX', '-1'], ['FOO'])),
  row(is('MGET'), key, key),
  row(is('MSET'), key, text, key, text),
  row(is('MSET'), key, text, key),
  row(is('MSETNX'), key, text, key, text),
  row(is('APPEND'), key, text),
  row(is('STRLEN'), key),
  row(is('GETRANGE'), key, integer, integer),
  row(is('SETRANGE'), key, constantFrom('0', '3', '-1', 'x'), text),
  row(constantFrom('INCR', 'DECR'), key),
  row(constantFrom('INCRBY', 'DECRBY'), key, integer),
  row(is('DEL'), key, key),
  row(is('EXISTS'), key, key),
  row(is('TYPE'), key),
  row(is('KEYS'), constantFrom('*', '[ab]', '[^a]', '?', 'a*', '[a-c]', '\\a', '[b', '**b')),
  row(is('DBSIZE')),
  row(constantFrom('RENAME', 'RENAMENX'), key, key),
  row(
    constantFrom('EXPIRE'),
    key,
    constantFrom('100', '-1', '0', 'x', '9223372036854775807'),
    option(['NX'], ['XX'], ['GT'], ['LT'], ['FOO']),
  ),
  row(is('TTL'), key),
  row(is('PERSIST'), key),
  row(is('HSET'), key, field, text, option(['g', 'v'], ['g'])),
  row(is('HSETNX'), key, field, text),
  row(constantFrom('HGET', 'HEXISTS', 'HSTRLEN'), key, field),
  row(constantFrom('HMGET', 'HDEL'), key, member),
  row(constantFrom('HGETALL', 'HLEN', 'HKEYS', 'HVALS'), key),
  row(is('HINCRBY'), key, field, integer),
  row(constantFrom('LPUSH', 'RPUSH', 'LPUSHX', 'RPUSHX'), key, member),
  row(constantFrom('LPOP', 'RPOP'), key, option(['2'], ['0'], ['-1'], ['x'])),
  row(is('LLEN'), key),
  row(is('LINDEX'), key, integer),
  row(constantFrom('LRANGE', 'LTRIM'), key, integer, integer),
  row(is('LSET'), key, constantFrom('0', '1', '-1', '-2', '5', 'x'), text),
  row(is('LREM'), key, constantFrom('0', '1', '-1', '-2', 'x'), field),
  row(is('LMOVE'), key, key, constantFrom('LEFT', 'RIGHT', 'UP'), constantFrom('left', 'right')),
  row(is('RPOPLPUSH'), key, key),
  row(constantFrom('SADD', 'SREM', 'SMISMEMBER'), key, member),
  row(constantFrom('SMEMBERS', 'SCARD'), key),
  row(is('SISMEMBER'), key, field),
  row(is('SMOVE'), key, key, field),
  row(constantFrom('SUNION', 'SINTER', 'SDIFF'), key, key),
  row(constantFrom('SUNIONSTORE', 'SINTERSTORE', 'SDIFFSTORE'), key, key, key),
  row(
    is('ZADD'),
    key,
    option(['NX'], ['XX'], ['GT'], ['LT', 'CH'], ['INCR'], ['NX', 'XX'], ['GT', 'NX']),
    score,
    field,
    option(['3', 'g'], ['3']),
  ),
  row(is('ZINCRBY'), key, score, field),
  row(constantFrom('ZREM', 'ZMSCORE'), key, member),
  row(constantFrom('ZSCORE', 'ZRANK', 'ZREVRANK'), key, field),
  row(is('ZCARD'), key),
  row(is('ZCOUNT'), key, bound, bound),
  row(is('ZADD'), is('z'), is('0'), field),
  row(is('ZLEXCOUNT'), is('z'), lex, lex),
  row(is('ZRANGE'), key, integer, integer, option(['REV'], ['WITHSCORES'], ['LIMIT', '0', '1'], ['FOO'])),
  row(
    is('ZRANGE'),
    key,
    bound,
    bound,
    is('BYSCORE'),
    option(['REV'], ['WITHSCORES'], ['LIMIT', '1', '1'], ['LIMIT', '0', '-1']),
  ),
  row(is('ZRANGE'), is('z'), lex, lex, is('BYLEX'), option(['REV'], ['LIMIT', '-1', '2'])),
  row(constantFrom('ZREVRANGE', 'ZREMRANGEBYRANK'), key, integer, integer),
  row(constantFrom('ZRANGEBYSCORE', 'ZREVRANGEBYSCORE', 'ZREMRANGEBYSCORE'), key, bound, bound),
  row(constantFrom('ZRANGEBYLEX', 'ZREMRANGEBYLEX'), is('z'), lex, lex),
  row(constantFrom('ZPOPMIN', 'ZPOPMAX'), key, option(['2'], ['0'], ['-1'])),
  row(
    is('XADD'),
    key,
    option(
      ['NOMKSTREAM'],
      ['MAXLEN', '2'],
      ['MAXLEN', '=', '1'],
      ['MINID', '2'],
      ['MAXLEN', '~', '2', 'LIMIT', '1'],
      ['MAXLEN'],
    ),
    id,
    field,
    text,
    option(['g']),
  ),
  row(is('XLEN'), key),
  row(
    constantFrom('XRANGE', 'XREVRANGE'),
    key,
    range,
    range,
    option(['COUNT', '1'], ['COUNT', '0'], ['COUNT'], ['COUNT', 'x']),
  ),
  row(is('XDEL'), key, id),
  row(is('XTRIM'), key, constantFrom('MAXLEN', 'MINID', 'FOO'), option(['=']), constantFrom('0', '1', '2', 'x')),
  row(is('XREAD'), option(['COUNT', '1']), is('STREAMS'), key, key, constantFrom('0', '1-1', '$', '2-5'), is('0')),
  row(is('XREAD'), is('STREAMS'), key, key, is('0')),
  row(is('ECHO'), text),
  row(is('PING'), option(['x'])),
  row(constantFrom('GET', 'LPUSH', 'XADD', 'NOSUCH', 'hset', 'ZADD'), key),
  row(is('PUBLISH'), key, text),
];

/** Replies whose order means nothing. */
const unordered = new Set(['KEYS', 'HGETALL', 'HKEYS', 'HVALS', 'SMEMBERS', 'SUNION', 'SINTER', 'SDIFF']);

function shown(reply: Reply, name: string): unknown {
  if (Array.isArray(reply)) {
    const items = reply.map((item) => shown(item, ''));
    return unordered.has(name) ? items.map(String).sort() : items;
  }
  if (reply instanceof RedisError) return `-${reply.message}`;
  if (reply instanceof Status) return `+${reply.text}`;
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : reply;
}

const toCommand = (words: string[]): Command => words.map((word) => Buffer.from(word, 'latin1'));

it('answers as redis-server does, command by command', async () => {
  const batch = array(oneof(...commands), { minLength: 1, maxLength: 60 });
  await assert(
    asyncProperty(batch, async (rows) => {
      const all = [['FLUSHALL'], ...rows].map(toCommand);
      const [expected, actual] = await Promise.all([server.backend.pipeline(all), memory.backend.pipeline(all)]);
      const show = (replies: Reply[]) =>
        rows.map((words, n) => [words.join(' '), shown(replies[n + 1] ?? null, words[0] ?? '')]);
      expect(show(actual)).toEqual(show(expected));
    }),
    { numRuns: 600, ...seed },
  );
}, 120_000);

it('answers transactions as redis-server does', async () => {
  const batch = array(oneof(...commands), { minLength: 1, maxLength: 8 });
  const outcome = async (redis: TestRedis, rows: string[][]) => {
    await redis.backend.pipeline([toCommand(['FLUSHALL'])]);
    const replies = await redis.backend.transaction(rows.map(toCommand));
    return replies instanceof RedisError
      ? `-${replies.message}`
      : replies.map((reply, n) => shown(reply, rows[n]?.[0] ?? ''));
  };
  await assert(
    asyncProperty(batch, async (rows) => {
      expect(await outcome(memory, rows)).toEqual(await outcome(server, rows));
    }),
    { numRuns: 300, ...seed },
  );
}, 120_000);
