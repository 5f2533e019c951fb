/**
 * A Redis for tests: the project's own gateway, in this process, before a private redis-server or the memory store.
 * The server dies with this process, whatever way that died.
 */
import { randomBytes } from 'node:crypto';
import { Redis, type RedisConfigNodejs } from '@upstash/redis';
import type { Backend } from '../../edge/serve/redis/backend.ts';
import { type Gateway, type GatewayLimits, startGateway } from '../../edge/serve/redis/gateway.ts';
import { memoryBackend } from '../../edge/serve/redis/memory.ts';
import { type RedisServer, startRedisServer } from '../../edge/serve/redis/redis-server.ts';
import { serverBackend } from '../../edge/serve/redis/server-backend.ts';
import { tmpDir } from './tmp.ts';

export type RedisKind = 'server' | 'memory';

export interface TestRedis {
  readonly kind: RedisKind;
  readonly url: string;
  readonly token: string;
  readonly gateway: Gateway;
  readonly backend: Backend;
  /** The redis-server, when there is one. */
  readonly server: RedisServer | undefined;
  /** The real client on it. No retries, so that a failure is seen as it is. */
  client(config?: Partial<RedisConfigNodejs>): Redis;
  stop(): Promise<void>;
}

export interface TestRedisOptions {
  readonly maxMemoryBytes?: number;
  readonly limits?: Partial<GatewayLimits>;
  readonly commandTimeoutMs?: number;
  /** Clock of the memory store. */
  readonly now?: () => number;
}

/** Starts one. Call `stop` at the end. */
export async function startTestRedis(kind: RedisKind, options: TestRedisOptions = {}): Promise<TestRedis> {
  const maxMemoryBytes = options.maxMemoryBytes ?? 64 * 1024 * 1024;
  const token = randomBytes(24).toString('hex');
  const dir = kind === 'server' ? tmpDir('redis') : undefined;
  const server =
    dir && (await startRedisServer({ dir: `${dir.path}/r`, maxMemoryBytes, diesWithParent: true, say: () => {} }));
  const { commandTimeoutMs } = options;
  const backend =
    server === undefined
      ? memoryBackend({ maxBytes: maxMemoryBytes, now: options.now ?? Date.now })
      : serverBackend({
          address: () => server.address,
          ...(commandTimeoutMs === undefined ? {} : { commandTimeoutMs }),
        });
  const gateway = await startGateway({
    backend,
    token,
    host: '127.0.0.1',
    port: 0,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  return {
    kind,
    url: gateway.url,
    token,
    gateway,
    backend,
    server,
    client: (config) => new Redis({ url: gateway.url, token, retry: false, enableTelemetry: false, ...config }),
    stop: async () => {
      await gateway.close();
      await backend.close();
      await server?.stop();
      dir?.remove();
    },
  };
}

/** Sends one request as it is, with the token. */
export function ask(redis: TestRedis, path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { authorization: `Bearer ${redis.token}`, ...(init.headers as Record<string, string> | undefined) };
  return fetch(`${redis.url}${path}`, { method: 'POST', ...init, headers });
}

/** Runs one command and answers the parsed JSON body. */
export async function command(
  redis: TestRedis,
  ...words: (string | number)[]
): Promise<{ result?: unknown; error?: string }> {
  const answer = await ask(redis, '', { body: JSON.stringify(words) });
  return (await answer.json()) as { result?: unknown; error?: string };
}
