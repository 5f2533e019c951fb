/** Keeps a directory's redis-server up, for one gateway: starts it again when it ends, kills it when it hangs; the gateway's client reconnects. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { claim } from './owned-process.ts';
import type { RedisAddress } from './resp-client.ts';
import {
  answersPing,
  RedisInUse,
  type RedisServer,
  type RedisServerOptions,
  startRedisServer,
} from './redis-server.ts';

export interface KeptRedis {
  /** Where it listens now; another port after a restart where a socket's path would be too long. */
  readonly address: () => RedisAddress;
  readonly pid: () => number;
  /** Stops it for good. */
  stop(): Promise<void>;
}

const probeEveryMs = 5_000;
const probeMs = 5_000;
const missesUntilKilled = 3;
const backoffMs = { first: 100, max: 5_000 };

/** Resolves when the first one answers; rejects when that can not be had. */
export async function keepRedis(options: RedisServerOptions): Promise<KeptRedis> {
  mkdirSync(options.dir, { recursive: true, mode: 0o700 });
  if (!claim(join(options.dir, 'gateway.pid'))) throw new RedisInUse('another gateway uses the directory');
  let server = await startRedisServer(options);
  let stopping = false;
  const restarts = async () => {
    for (;;) {
      const stopProbing = probe(server, options.say);
      await server.ended;
      stopProbing();
      if (stopping) return;
      options.say({ msg: 'redis ended, starting it again', pid: server.pid });
      const next = await startAgain(options, () => stopping);
      if (next === undefined) return;
      server = next;
    }
  };
  const loop = restarts();
  return {
    address: () => server.address,
    pid: () => server.pid,
    stop: async () => {
      stopping = true;
      await server.stop();
      await loop;
    },
  };
}

async function startAgain(options: RedisServerOptions, isStopping: () => boolean): Promise<RedisServer | undefined> {
  for (let pause = backoffMs.first; ; pause = Math.min(backoffMs.max, pause * 2)) {
    await sleep(pause);
    if (isStopping()) return undefined;
    try {
      const server = await startRedisServer(options);
      if (isStopping()) await server.stop();
      options.say({ msg: 'redis restarted', pid: server.pid });
      return server;
    } catch (error) {
      options.say({ msg: 'redis does not start', error: error instanceof Error ? error.message : String(error) });
    }
  }
}

/** Kills a server that does not answer three times in a row. */
function probe(server: RedisServer, say: RedisServerOptions['say']): () => void {
  let misses = 0;
  const timer = setInterval(() => {
    void answersPing(server.address, probeMs).then((answered) => {
      misses = answered ? 0 : misses + 1;
      if (misses < missesUntilKilled) return;
      say({ msg: 'redis hangs, killing it', pid: server.pid });
      misses = 0;
      server.kill();
    });
  }, probeEveryMs);
  timer.unref();
  return () => clearInterval(timer);
}
