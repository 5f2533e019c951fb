/**
 * What the gateway refuses whatever the store behind it: commands that block, change or end the shared connection,
 * or administer the server. The REST protocol has no connection that they could mean.
 */
import { type Command, RedisError } from './backend.ts';

const transactions = ['MULTI', 'EXEC', 'DISCARD', 'WATCH', 'UNWATCH'];
const subscriptions = [
  'SUBSCRIBE',
  'PSUBSCRIBE',
  'SSUBSCRIBE',
  'UNSUBSCRIBE',
  'PUNSUBSCRIBE',
  'SUNSUBSCRIBE',
  'MONITOR',
];
const connection = ['AUTH', 'HELLO', 'SELECT', 'RESET', 'QUIT', 'CLIENT', 'READONLY', 'READWRITE', 'ASKING'];
const blocking = [
  'BLPOP',
  'BRPOP',
  'BLMOVE',
  'BRPOPLPUSH',
  'BLMPOP',
  'BZPOPMIN',
  'BZPOPMAX',
  'BZMPOP',
  'WAIT',
  'WAITAOF',
];
const administration = [
  'ACL',
  'BGREWRITEAOF',
  'BGSAVE',
  'CLUSTER',
  'CONFIG',
  'DEBUG',
  'FAILOVER',
  'MIGRATE',
  'MODULE',
  'PFDEBUG',
  'PSYNC',
  'REPLCONF',
  'REPLICAOF',
  'SAVE',
  'SHUTDOWN',
  'SLAVEOF',
  'SYNC',
];
const hints = new Map([
  ...transactions.map((name) => [name, 'send the commands to /multi-exec'] as const),
  ...subscriptions.map((name) => [name, 'open /subscribe/<channel> or /psubscribe/<pattern>'] as const),
  ...connection.map((name) => [name, 'a request has no connection of its own'] as const),
  ...blocking.map((name) => [name, 'commands that block are not available over REST'] as const),
  ...administration.map((name) => [name, 'administration is not available over REST'] as const),
]);

/** Why a command is not passed on, or undefined when it may be. */
export function refusal(command: Command): RedisError | undefined {
  const name = command[0]?.toString('latin1').toUpperCase() ?? '';
  const hint = hints.get(name) ?? blockHint(name, command);
  return hint === undefined ? undefined : new RedisError(`ERR '${name}' is not available here: ${hint}`);
}

/** `BLOCK` turns XREAD into a blocking command; it is an option only before STREAMS. */
function blockHint(name: string, command: Command): string | undefined {
  if (name === 'SCRIPT' && ['DEBUG', 'KILL'].includes(word(command[1])))
    return 'administration is not available over REST';
  if (name !== 'XREAD' && name !== 'XREADGROUP') return undefined;
  const words = command.slice(1).map(word);
  const streams = words.indexOf('STREAMS');
  const block = words.slice(0, streams === -1 ? words.length : streams).includes('BLOCK');
  return block ? 'commands that block are not available over REST' : undefined;
}

function word(argument: Buffer | undefined): string {
  return argument !== undefined && argument.length <= 16 ? argument.toString('latin1').toUpperCase() : '';
}
