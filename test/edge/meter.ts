/**
 * Counts what is paid for, wherever in this Worker it happens: rows of D1 and of objects (an alarm is a row), calls of
 * objects, messages that wake a hub, commands of Redis. Undone by `vi.restoreAllMocks()` and `redis.remove()`.
 */
import { runInDurableObject } from 'cloudflare:test';
import { env } from 'cloudflare:workers';
import { vi } from 'vitest';
import { Access } from '../../edge/http/access-object.ts';
import { Admission } from '../../edge/manager/admission/admission-object.ts';
import { Ledger } from '../../edge/manager/scheduler/ledger-object.ts';
import { type Config, readConfig } from '../../edge/platform/config.ts';
import { ControlHub } from '../../edge/tunnel/control-hub-object.ts';

export interface Meter {
  d1Rows: number;
  objectRows: number;
  objectCalls: number;
  hubMessages: number;
}

/** Puts `around` around a method, wherever it is called. */
function wrap(target: object, name: string, around: (call: () => unknown) => unknown): void {
  const methods = target as Record<string, (...input: unknown[]) => unknown>;
  const method = methods[name]!;
  vi.spyOn(methods, name).mockImplementation(function (this: unknown, ...input: unknown[]) {
    return around(() => method.apply(this, input));
  });
}

/** Counts from now on. */
export async function startMeter(): Promise<Meter> {
  const counted: Meter = { d1Rows: 0, objectRows: 0, objectCalls: 0, hubMessages: 0 };
  const written = async <Answer>(call: () => unknown, metas: (answer: Answer) => D1Meta[]): Promise<Answer> => {
    const answer = await (call() as Promise<Answer>);
    for (const { rows_written } of metas(answer)) counted.d1Rows += rows_written;
    return answer;
  };
  const d1 = Object.getPrototypeOf(env.DB) as D1Database;
  wrap(d1, 'batch', (call) => written<D1Result[]>(call, (results) => results.map(({ meta }) => meta)));
  const statement = Object.getPrototypeOf(env.DB.prepare('SELECT 1')) as D1PreparedStatement;
  for (const verb of ['run', 'all']) wrap(statement, verb, (call) => written<D1Result>(call, ({ meta }) => [meta]));
  await runInDurableObject(env.LEDGER.getByName('1'), (_, state) => {
    wrap(Object.getPrototypeOf(state.storage.sql) as SqlStorage, 'exec', (call) => {
      const cursor = call() as SqlStorageCursor<Record<string, SqlStorageValue>>;
      counted.objectRows += cursor.rowsWritten;
      return cursor;
    });
    wrap(Object.getPrototypeOf(state.storage) as DurableObjectStorage, 'setAlarm', (call) => {
      counted.objectRows += 1;
      return call();
    });
  });
  for (const { prototype } of [Admission, Ledger, Access])
    for (const name of Object.getOwnPropertyNames(prototype).filter((each) => each !== 'constructor'))
      wrap(prototype as object, name, (call) => {
        counted.objectCalls += 1;
        return call();
      });
  wrap(ControlHub.prototype, 'webSocketMessage', (call) => {
    counted.hubMessages += 1;
    return call();
  });
  return counted;
}

export interface CountedRedis {
  commands: number;
  remove(): void;
}

/**
 * Gives objects that are made from now on a Redis that takes everything and keeps nothing. A script is one command, a
 * transaction as many as it has: https://upstash.com/docs/redis/overall/pricing
 */
export async function withRedis(): Promise<CountedRedis> {
  const url = 'https://redis.test';
  // Objects share one environment, and their configuration is read once.
  const inside: Env = await runInDurableObject(
    env.THROTTLE.getByName('meter'),
    (object) => (object as unknown as { env: Env }).env,
  );
  const config: Config = readConfig(inside);
  config.redis = { url, token: 'x' };
  const fetching = globalThis.fetch.bind(globalThis);
  const counted: CountedRedis = {
    commands: 0,
    remove: () => {
      config.redis = undefined;
      fetcher.mockRestore();
    },
  };
  const fetcher = vi.spyOn(globalThis, 'fetch').mockImplementation((input, init) => {
    const address = input instanceof Request ? input.url : String(input);
    if (!address.startsWith(url)) return fetching(input, init);
    const commands = JSON.parse(String(init?.body)) as unknown[];
    const many = Array.isArray(commands[0]);
    counted.commands += many ? commands.length : 1;
    return Promise.resolve(Response.json(many ? commands.map(() => ({ result: [] })) : { result: [] }));
  });
  return counted;
}
