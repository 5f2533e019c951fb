/** The only way to Redis for the edge: the door that is configured, one for each isolate, or none. */
import { systemClock } from './clock.ts';
import { readConfig } from './config.ts';
import { type EdgeRedis, edgeRedis } from './redis-door.ts';

const doors = new WeakMap<object, EdgeRedis>();

/** Redis as configured by UPSTASH_REDIS_REST_URL and _TOKEN; undefined when it is not. */
export function redisOf(env: Env): EdgeRedis | undefined {
  const { redis } = readConfig(env);
  if (!redis) return undefined;
  const known = doors.get(env);
  if (known) return known;
  const door = edgeRedis(redis, systemClock);
  doors.set(env, door);
  return door;
}
