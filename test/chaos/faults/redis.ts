/** Redis dies, stands still, is slow, or forgets everything. */
import { type Fault, fault } from '../fault.ts';
import type { World } from '../world.ts';
import { signalQuietly } from './signals.ts';

function onRedis(name: string, what: string, inject: (world: World) => Promise<() => Promise<void>>): Fault {
  return fault<World>({ name, appliesTo: (world) => [world], on: () => `redis ${what}`, inject });
}

export const redisFaults: Fault[] = [
  onRedis('kill -9 of redis-server', 'server', async ({ redis }) => {
    signalQuietly(redis.serverPid, 'SIGKILL');
    return async () => {};
  }),
  onRedis('redis-server stands still', 'server', async ({ redis }) => {
    const pid = redis.serverPid;
    signalQuietly(pid, 'SIGSTOP');
    return async () => signalQuietly(pid, 'SIGCONT');
  }),
  onRedis('kill -9 of the gateway of Redis', 'gateway', async ({ redis }) => {
    await redis.process.kill9();
    return async () => void (await redis.start());
  }),
  onRedis('FLUSHALL', 'data', async ({ redis }) => {
    // A Redis that is down has forgotten nothing, and is tried by another fault.
    await redis.command('FLUSHALL').catch(() => {});
    return async () => {};
  }),
  onRedis('slow Redis', 'link', async ({ redisLink }) => {
    redisLink.set('down', { latencyMs: 3000 });
    return async () => redisLink.heal();
  }),
];
