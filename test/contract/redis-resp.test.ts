/** RESP2 and the REST formats as codecs: whatever the split of the bytes, whatever the bytes. */
import { type Arbitrary, array, assert, constant, integer, letrec, oneof, property, uint8Array } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RedisError, type Reply, Status } from '../../edge/serve/redis/backend.ts';
import { encodeCommands, ProtocolError, RespParser } from '../../edge/serve/redis/resp.ts';
import { parseCommand, renderReply } from '../../edge/serve/redis/wire.ts';

const max = 1024 * 1024;

function encode(reply: Reply): Buffer {
  if (reply === null) return Buffer.from('$-1\r\n');
  if (typeof reply === 'number' || typeof reply === 'bigint') return Buffer.from(`:${reply}\r\n`);
  if (reply instanceof Status) return Buffer.from(`+${reply.text}\r\n`);
  if (reply instanceof RedisError) return Buffer.from(`-${reply.message}\r\n`);
  if (Buffer.isBuffer(reply)) return Buffer.concat([Buffer.from(`$${reply.length}\r\n`), reply, Buffer.from('\r\n')]);
  return Buffer.concat([Buffer.from(`*${reply.length}\r\n`), ...reply.map(encode)]);
}

const replies = letrec<{ reply: Reply }>((tie) => ({
  reply: oneof(
    { maxDepth: 3 },
    constant(null),
    integer(),
    constant(9_223_372_036_854_775_807n),
    constant(new Status('OK')),
    constant(new RedisError('ERR no')),
    uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
    array(tie('reply') as Arbitrary<Reply>, { maxLength: 4 }),
  ),
})).reply;

function parse(bytes: Buffer, cuts: readonly number[]): Reply[] {
  const found: Reply[] = [];
  const parser = new RespParser((reply) => found.push(reply), max);
  let at = 0;
  for (const cut of cuts) {
    parser.push(bytes.subarray(at, at + cut));
    at += cut;
  }
  parser.push(bytes.subarray(at));
  return found;
}

describe('the RESP parser', () => {
  it('finds the same replies however the bytes are cut', () => {
    assert(
      property(
        array(replies, { maxLength: 6 }),
        array(integer({ min: 0, max: 12 }), { maxLength: 60 }),
        (sent, cuts) => {
          const bytes = Buffer.concat(sent.map(encode));
          expect(parse(bytes, cuts)).toEqual(sent);
          expect(
            parse(
              bytes,
              Array.from({ length: bytes.length }, () => 1),
            ),
          ).toEqual(sent);
        },
      ),
    );
  });

  it('never throws anything but its own error, and never hangs, on garbage', () => {
    assert(
      property(
        uint8Array({ maxLength: 200 }),
        array(integer({ min: 0, max: 20 }), { maxLength: 10 }),
        (bytes, cuts) => {
          try {
            parse(Buffer.from(bytes), cuts);
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolError);
          }
        },
      ),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['a length over the limit', `$${max + 1}\r\n`],
    ['an array that could not fit', `*${max}\r\n`],
    [
      'many small values in one reply',
      `*200000\r\n${':1\r\n'.repeat(200_000)}*200000\r\n${'$10\r\n0123456789\r\n'.repeat(200_000)}`,
    ],
    ['a line without end', '+'.repeat(70_000)],
    ['arrays nested without end', '*1\r\n'.repeat(100)],
    ['a string that is longer than it said', '$1\r\nxy\r\n'],
    ['a negative length', '$-2\r\n'],
    ['an integer that is none', ':1.5\r\n'],
    ['a type of a later protocol', '%1\r\n+a\r\n+b\r\n'],
  ])('refuses %s', (_what, text) => {
    expect(() => parse(Buffer.from(text), [])).toThrow(ProtocolError);
  });

  it('takes a value of eight megabytes in small pieces without copying it again and again', () => {
    const value = Buffer.alloc(8 * 1024 * 1024, 'v');
    const bytes = encode(value);
    const found: Reply[] = [];
    const parser = new RespParser((reply) => found.push(reply), 16 * 1024 * 1024);
    for (let at = 0; at < bytes.length; at += 1024) parser.push(bytes.subarray(at, at + 1024));
    expect(found).toHaveLength(1);
    expect(value.equals(found[0] as Buffer)).toBe(true);
  });
});

describe('the formats', () => {
  it('carries any argument from JSON to RESP', () => {
    assert(
      property(array(oneof(integer(), constant(true), constant('é\r\n\0"')), { minLength: 1 }), (words) => {
        const command = parseCommand(Buffer.from(JSON.stringify(['CMD', ...words])));
        expect(command.slice(1).map(String)).toEqual(words.map(String));
        expect(parse(encodeCommands([command]), [])).toEqual([command]);
      }),
    );
  });

  it('renders JSON that reads back as the reply', () => {
    assert(
      property(replies, (reply) => {
        if (reply instanceof RedisError) return;
        const body = JSON.parse(renderReply(reply, true)) as { result: unknown };
        expect(body.result).toEqual(asJson(reply, 0));
      }),
    );
  });
});

/** What a client of the base64 encoding is to find. */
function asJson(reply: Reply, depth: number): unknown {
  if (reply === null || typeof reply === 'number') return reply;
  if (typeof reply === 'bigint') return Number(reply);
  if (Array.isArray(reply)) return reply.map((item) => asJson(item, depth + 1));
  if (Buffer.isBuffer(reply)) return reply.toString('base64');
  if (reply instanceof Status) return depth === 0 ? reply.text : Buffer.from(reply.text).toString('base64');
  return Buffer.from(reply.message).toString('base64');
}
