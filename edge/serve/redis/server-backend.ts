/**
 * The gateway's back end on a redis-server: one connection for commands, one for subscriptions shared by all listeners.
 * When the subscription connection is lost, every listener is told so and dropped; nothing is renewed in silence,
 * because messages in between are gone.
 */
import { Buffer } from 'node:buffer';

import {
  type Backend,
  BackendUnavailable,
  type Command,
  type Listener,
  RedisError,
  type Reply,
  type SubscriptionKind,
} from './backend.ts';
import { type RedisAddress, RespClient, respClientDefaults } from './resp-client.ts';

const multi: Command = [Buffer.from('MULTI')];
const exec: Command = [Buffer.from('EXEC')];

export interface ServerBackendOptions {
  /** Asked before each attempt to connect. */
  readonly address: () => RedisAddress;
  readonly commandTimeoutMs?: number;
}

/** Connects to a redis-server, again and again; returns at once. */
export function serverBackend(options: ServerBackendOptions): Backend {
  const client = new RespClient({ ...respClientDefaults, ...options });
  const subscriptions = new Subscriptions(options);
  return {
    pipeline: (commands) => client.run(commands),
    transaction: async (commands) => {
      const replies = await client.run([multi, ...commands, exec]);
      const outcome = replies.at(-1);
      if (Array.isArray(outcome)) return outcome;
      return discarded(outcome, replies.slice(1, -1));
    },
    subscribe: (kind, name, listener) => subscriptions.add(kind, name, listener),
    close: () => {
      subscriptions.close();
      client.close();
      return Promise.resolve();
    },
  };
}

/** Why EXEC ran nothing: its own error, with the first command's that was refused. */
function discarded(outcome: Reply | undefined, queued: readonly Reply[]): RedisError {
  const cause = queued.find((reply) => reply instanceof RedisError);
  const text = outcome instanceof RedisError ? outcome.message : 'EXECABORT Transaction discarded.';
  return new RedisError(cause === undefined ? text : `${text} (${cause.message})`);
}

interface Topic {
  readonly kind: SubscriptionKind;
  readonly listeners: Set<Listener>;
  /** Settles when Redis confirmed the subscription. */
  readonly confirmed: Promise<void>;
}

const verbs = {
  channel: { open: 'SUBSCRIBE', close: 'UNSUBSCRIBE' },
  pattern: { open: 'PSUBSCRIBE', close: 'PUNSUBSCRIBE' },
} as const;

/** Topics by kind and name on one connection that is in subscribe mode. */
class Subscriptions {
  readonly #client: RespClient;
  readonly #topics = new Map<string, Topic>();

  constructor(options: ServerBackendOptions) {
    this.#client = new RespClient({
      ...respClientDefaults,
      ...options,
      onPush: (reply) => this.#push(reply),
      onLost: (reason) => this.#lose(reason),
    });
  }

  async add(kind: SubscriptionKind, name: Buffer, listener: Listener): Promise<() => void> {
    const key = topicKey(kind, name);
    const topic = this.#topics.get(key) ?? this.#open(key, kind, name);
    topic.listeners.add(listener);
    const remove = () => this.#remove(key, topic, name, listener);
    try {
      await topic.confirmed;
    } catch (error) {
      remove();
      throw error;
    }
    if (!topic.listeners.has(listener)) throw new BackendUnavailable('ERR redis went away', false);
    return remove;
  }

  close(): void {
    this.#client.close();
    this.#lose('the gateway is closing');
  }

  #open(key: string, kind: SubscriptionKind, name: Buffer): Topic {
    const confirmed = this.#client.run([[Buffer.from(verbs[kind].open), name]]).then(([reply]) => {
      if (reply instanceof RedisError) throw new BackendUnavailable(reply.message, false);
    });
    const topic: Topic = { kind, listeners: new Set(), confirmed };
    this.#topics.set(key, topic);
    return topic;
  }

  #remove(key: string, topic: Topic, name: Buffer, listener: Listener): void {
    topic.listeners.delete(listener);
    if (topic.listeners.size > 0 || this.#topics.get(key) !== topic) return;
    this.#topics.delete(key);
    // A failure here means that the connection, and the subscription with it, is gone.
    this.#client.run([[Buffer.from(verbs[topic.kind].close), name]]).catch(() => undefined);
  }

  /** Messages go to the listeners; confirmations are left to the client as answers. */
  #push(reply: Reply): boolean {
    if (!Array.isArray(reply)) return false;
    const [type, ...rest] = reply.map((part) => (Buffer.isBuffer(part) ? part : Buffer.alloc(0)));
    const word = type?.toString('latin1');
    if (word === 'message') this.#deliver('channel', rest[0], rest[0], rest[1]);
    else if (word === 'pmessage') this.#deliver('pattern', rest[0], rest[1], rest[2]);
    else return false;
    return true;
  }

  #deliver(kind: SubscriptionKind, name?: Buffer, channel?: Buffer, payload?: Buffer): void {
    if (name === undefined || channel === undefined || payload === undefined) return;
    for (const listener of this.#topics.get(topicKey(kind, name))?.listeners ?? []) listener.message(channel, payload);
  }

  #lose(reason: string): void {
    const topics = [...this.#topics.values()];
    this.#topics.clear();
    for (const topic of topics) {
      const listeners = [...topic.listeners];
      topic.listeners.clear();
      for (const listener of listeners) listener.lost(reason);
    }
  }
}

function topicKey(kind: SubscriptionKind, name: Buffer): string {
  return `${kind} ${name.toString('latin1')}`;
}
