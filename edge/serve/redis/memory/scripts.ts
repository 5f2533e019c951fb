/**
 * The scripts of `schema/redis-scripts.ts` in TypeScript, found by the SHA-1 of their Lua text. The memory store has no Lua:
 * a script without a twin is refused. A twin makes the same calls in the same order as its Lua.
 */
import { createHash } from 'node:crypto';

import { publishScript, writeReportsScript } from '../../../../schema/redis-scripts.ts';
import { RedisError, Status } from '../backend.ts';
import { toInteger } from './arguments.ts';
import type { CommandContext, CommandTable, MemoryReply } from './command.ts';

type Call = CommandContext['call'];
type Twin = (call: Call, keys: readonly string[], args: readonly string[]) => MemoryReply;

const publish: Twin = (call, [generationKey = '', stream = '', published = ''], args) => {
  const [proposed = '', channel = '', max = '', ...pairs] = args;
  call('SET', generationKey, proposed, 'NX');
  const generation = String(call('GET', generationKey));
  const answer: MemoryReply[] = [generation];
  for (let index = 0; index < pairs.length; index += 2) {
    const [eventId = '', json = ''] = pairs.slice(index, index + 2);
    let id = '';
    if (call('ZSCORE', published, eventId) === null) {
      id = String(call('XADD', stream, 'MAXLEN', '~', max, '*', 'e', json));
      call('ZADD', published, id.replace(/-.*/, ''), eventId);
      call('PUBLISH', channel, `{"cursor":"${generation}.${id}","event":${json}}`);
    }
    answer.push(id);
  }
  call('ZREMRANGEBYRANK', published, '0', String(-(toInteger(max) + 1)));
  return answer;
};

const writeReports: Twin = (call, [hub = ''], [expirySeconds = '', ...pairs]) => {
  call('DEL', hub);
  if (pairs.length > 0) {
    call('HSET', hub, ...pairs);
    call('EXPIRE', hub, expirySeconds);
  }
  return pairs.length / 2;
};

const twins = new Map([
  [sha1(publishScript), publish],
  [sha1(writeReportsScript), writeReports],
]);

function sha1(text: string): string {
  return createHash('sha1').update(text, 'latin1').digest('hex');
}

/** The scripting commands of one store: it knows a script by its hash once that was loaded or run, as Redis does. */
export function scriptCommands(): CommandTable {
  const loaded = new Set<string>();

  function runTwin(context: CommandContext, hash: string, [count, ...words]: readonly string[]): MemoryReply {
    const keyCount = toInteger(count);
    if (keyCount < 0) throw new RedisError("ERR Number of keys can't be negative");
    if (keyCount > words.length) throw new RedisError("ERR Number of keys can't be greater than number of args");
    const twin = twins.get(hash);
    if (twin === undefined) throw unknownScript(hash);
    return twin(context.call, words.slice(0, keyCount), words.slice(keyCount));
  }

  function script(_context: CommandContext, [word = '', ...args]: readonly string[]): MemoryReply {
    switch (word.toUpperCase()) {
      case 'LOAD': {
        const hash = sha1(args[0] ?? '');
        if (!twins.has(hash)) throw unknownScript(hash);
        loaded.add(hash);
        return hash;
      }
      case 'EXISTS':
        return args.map((hash) => (loaded.has(hash.toLowerCase()) ? 1 : 0));
      case 'FLUSH':
        loaded.clear();
        return new Status('OK');
      default:
        throw new RedisError(`ERR unknown subcommand '${word}'. Try SCRIPT HELP.`);
    }
  }

  return {
    EVAL: {
      arity: -3,
      run: (context, [text = '', ...rest]) => {
        const hash = sha1(text);
        if (twins.has(hash)) loaded.add(hash);
        return runTwin(context, hash, rest);
      },
    },
    EVALSHA: {
      arity: -3,
      run: (context, [name = '', ...rest]) => {
        const hash = name.toLowerCase();
        if (!loaded.has(hash)) throw new RedisError('NOSCRIPT No matching script. Please use EVAL.');
        return runTwin(context, hash, rest);
      },
    },
    SCRIPT: { arity: -2, run: script },
  };
}

function unknownScript(hash: string): RedisError {
  return new RedisError(
    `ERR the memory store has no Lua and knows only Causeway's own scripts; this one (SHA-1 ${hash}) needs a redis-server`,
  );
}
