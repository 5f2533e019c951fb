/**
 * The Redis of one machine, a process of its own: a private redis-server, or a store in memory, behind an
 * Upstash-compatible REST gateway. `node edge/serve/redis/index.ts --mode server|memory --port N --dir DIR`; see `options.ts`.
 * Prints JSON lines; the one with `"msg":"ready"` carries url, mode and redisPid. SIGTERM and SIGINT drain and stop.
 * Exit: 64 wrong usage, 69 no redis-server on this machine, 75 the directory is in use, 70 anything else.
 */
import { say } from '../say.ts';
import type { Backend } from './backend.ts';
import { type Gateway, startGateway } from './gateway.ts';
import { type KeptRedis, keepRedis } from './keep-redis.ts';
import { memoryBackend } from './memory.ts';
import { type Options, readOptions } from './options.ts';
import { RedisInUse, RedisMissing } from './redis-server.ts';
import { serverBackend } from './server-backend.ts';

interface Running {
  readonly gateway: Gateway;
  readonly backend: Backend;
  readonly redis: KeptRedis | undefined;
}

function leave(code: number, msg: string, error: unknown): never {
  say({ msg, error: error instanceof Error ? error.message : String(error) });
  process.exit(code);
}

async function run(options: Options): Promise<Running> {
  const redis = options.mode === 'server' ? await keepRedis({ ...options, say }) : undefined;
  const backend = redis === undefined ? memory(options) : serverBackend({ address: redis.address });
  const gateway = await startGateway({
    ...options,
    backend,
    log: (level, text) => say({ msg: 'gateway', level, text }),
  });
  return { gateway, backend, redis };
}

function memory({ maxMemoryBytes }: Options): Backend {
  say({
    msg: 'WARNING: Redis is a store in the memory of this process. Events and agent reports are lost when it ends. Install redis-server, or set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN.',
    level: 'warn',
  });
  return memoryBackend({ maxBytes: maxMemoryBytes, now: Date.now });
}

async function stop({ gateway, backend, redis }: Running): Promise<void> {
  await gateway.close();
  await backend.close();
  await redis?.stop();
}

function exitCode(error: unknown): number {
  if (error instanceof RedisMissing) return 69;
  return error instanceof RedisInUse ? 75 : 70;
}

async function main(): Promise<void> {
  let options: Options;
  try {
    options = readOptions(process.argv.slice(2), process.env);
  } catch (error) {
    leave(64, 'usage', error);
  }
  const running = await run(options).catch((error: unknown) => leave(exitCode(error), 'could not start', error));
  let stopping = false;
  const end = (signal: string) => {
    if (stopping) return;
    stopping = true;
    say({ msg: 'draining', signal });
    stop(running).then(
      () => {
        say({ msg: 'stopped' });
        process.exit(0);
      },
      (error: unknown) => leave(70, 'stopped hard', error),
    );
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => end(signal));
  const redisPid = running.redis?.pid();
  say({ msg: 'ready', url: running.gateway.url, mode: options.mode, ...(redisPid === undefined ? {} : { redisPid }) });
}

await main();
