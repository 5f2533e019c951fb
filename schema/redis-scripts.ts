/**
 * The Lua scripts that Causeway runs inside Redis: their text, their keys, the order of their arguments, and how to build those.
 * Pure data. Every script here has a TypeScript twin in `edge/serve/redis/memory/scripts.ts`, found by the SHA-1 of its text;
 * the contract suite runs both. Rules: every key that is touched is in KEYS, the outcome depends on KEYS and ARGV alone,
 * and running a script twice with the same arguments does no harm (the SDK retries a request up to five times).
 */

/** Where an events stream, its index of published ids, the generation and a hub's agents live in Redis. */
export const redisKeys = {
  /** Plain string: the current generation of all event streams. Lost by FLUSHALL, which is what expires every cursor. */
  generation: 'cw:gen',
  /** Stream of one domain's events, about the last `eventStreamMaxLength`; one field `e` with the event's JSON. */
  events: (domain: string) => `cw:ev:${domain}`,
  /** Sorted set of the event ids last published for a domain, so that a repeated batch publishes nothing twice. */
  published: (domain: string) => `cw:ev:${domain}:ids`,
  /** Hash agentId -> JSON of the last report of every agent of a control hub. */
  agents: (hub: string) => `cw:agents:${hub}`,
} as const;

/** The channel on which a domain's events are announced as they are stored. */
export const eventChannel = (domain: string) => `cw:ev:${domain}`;

/** Events kept in a domain's stream (approximately: Redis trims whole nodes), and ids remembered against repetition (exactly). */
export const eventStreamMaxLength = 10_000;

/** Most events in one run of `publishScript`; the sink splits longer batches. */
export const publishBatchMax = 500;

/** The name of the only field of a stream entry. */
export const eventField = 'e';

/**
 * Publishes a batch of events of one domain, in order.
 *
 * KEYS: generation, the domain's stream, the domain's published ids.
 * ARGV: proposed generation (taken only when none is set), channel, max length, then n pairs (eventId, event as JSON).
 * An id that is still among the last `max length` published ones is skipped.
 * Each new event is announced on the channel as `{"cursor":"<generation>.<redisId>","event":<its JSON>}`.
 * Returns [generation, redisId of the first event, ...]; the id of a skipped event is the empty string.
 */
export const publishScript = `
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local generation = redis.call('GET', KEYS[1])
local max = tonumber(ARGV[3])
local answer = { generation }
for i = 4, #ARGV, 2 do
  local id = ''
  if not redis.call('ZSCORE', KEYS[3], ARGV[i]) then
    id = redis.call('XADD', KEYS[2], 'MAXLEN', '~', max, '*', 'e', ARGV[i + 1])
    redis.call('ZADD', KEYS[3], string.match(id, '^%d+'), ARGV[i])
    redis.call('PUBLISH', ARGV[2], '{"cursor":"' .. generation .. '.' .. id .. '","event":' .. ARGV[i + 1] .. '}')
  end
  answer[#answer + 1] = id
end
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -(max + 1))
return answer
`.trim();

/** One event of a batch, as `publishScript` takes it. */
export interface PublishedEvent {
  /** Stable over retries, unique in its domain. */
  readonly eventId: string;
  /** The event as JSON, on one line. */
  readonly json: string;
}

/** Keys and arguments of `publishScript` for one domain's batch; `generation` matches `[A-Za-z0-9]+`. */
export function publishArguments(domain: string, generation: string, events: readonly PublishedEvent[]) {
  return {
    keys: [redisKeys.generation, redisKeys.events(domain), redisKeys.published(domain)],
    args: [
      generation,
      eventChannel(domain),
      String(eventStreamMaxLength),
      ...events.flatMap(({ eventId, json }) => [eventId, json]),
    ],
  };
}

/**
 * Replaces what is known of a control hub's agents: agents that are not in the batch are forgotten.
 *
 * KEYS: the hub's hash. ARGV: expiry in seconds, then n pairs (agentId, report as JSON). Returns the number of agents.
 */
export const writeReportsScript = `
redis.call('DEL', KEYS[1])
for i = 2, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
if #ARGV > 1 then
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return (#ARGV - 1) / 2
`.trim();

/** Keys and arguments of `writeReportsScript`. `expirySeconds` is a positive integer; `reports` are pairs of agent id and JSON. */
export function writeReportsArguments(
  hub: string,
  expirySeconds: number,
  reports: readonly (readonly [agentId: string, json: string])[],
) {
  return { keys: [redisKeys.agents(hub)], args: [String(expirySeconds), ...reports.flat()] };
}
