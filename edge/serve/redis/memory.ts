/**
 * The gateway's back end without a redis-server: a store in the memory of this process, lost when it ends.
 * For machines that have no Redis. It answers as Redis does in what it has, refuses clearly what it has not,
 * and holds at most `maxBytes`: beyond, commands that could grow it are refused as under Redis' `noeviction`.
 */
import { Buffer } from 'node:buffer';

import {
  type Backend,
  BackendUnavailable,
  type Command,
  type Listener,
  RedisError,
  type Reply,
  Status,
  type SubscriptionKind,
} from './backend.ts';
import { wrongArity } from './memory/arguments.ts';
import type { CommandContext, CommandSpec, CommandTable, MemoryReply } from './memory/command.ts';
import { glob } from './memory/glob.ts';
import { hashCommands } from './memory/hashes.ts';
import { keyCommands } from './memory/keys.ts';
import { Keyspace } from './memory/keyspace.ts';
import { listCommands } from './memory/lists.ts';
import { scriptCommands } from './memory/scripts.ts';
import { setCommands } from './memory/sets.ts';
import { sortedSetCommands } from './memory/sorted-sets.ts';
import { streamCommands } from './memory/streams.ts';
import { stringCommands } from './memory/strings.ts';

export interface MemoryBackendOptions {
  /** Cap of the estimated bytes of all keys and values. */
  readonly maxBytes: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
}

const sweepEveryMs = 1_000;

/** Makes an empty store. */
export function memoryBackend(options: MemoryBackendOptions): Backend {
  return new MemoryStore(options);
}

interface PatternTopic {
  readonly matches: (channel: string) => boolean;
  readonly listeners: Set<Listener>;
}

class MemoryStore implements Backend {
  readonly #maxBytes: number;
  readonly #keys: Keyspace;
  readonly #commands: ReadonlyMap<string, CommandSpec>;
  readonly #context: CommandContext;
  readonly #channels = new Map<string, Set<Listener>>();
  readonly #patterns = new Map<string, PatternTopic>();
  readonly #sweeper: NodeJS.Timeout;
  #closed = false;

  constructor({ maxBytes, now }: MemoryBackendOptions) {
    this.#maxBytes = maxBytes;
    this.#keys = new Keyspace(now);
    this.#commands = new Map(Object.entries(allCommands(() => this.#info())));
    this.#context = {
      keys: this.#keys,
      publish: (channel, payload) => this.#publish(channel, payload),
      call: (...words) => this.#run(words),
    };
    this.#sweeper = setInterval(() => this.#keys.sweep(), sweepEveryMs);
    this.#sweeper.unref();
  }

  pipeline(commands: readonly Command[]): Promise<Reply[]> {
    if (this.#closed) return Promise.reject(closedError());
    return Promise.resolve(commands.map((command) => this.#answer(toWords(command))));
  }

  /** As MULTI and EXEC: what is refused before it runs refuses all; what fails while it runs does not stop the rest. */
  transaction(commands: readonly Command[]): Promise<Reply[] | RedisError> {
    if (this.#closed) return Promise.reject(closedError());
    const rows = commands.map(toWords);
    const refused = rows.map((words) => this.#refusal(words)).find((error) => error !== undefined);
    if (refused !== undefined) {
      const text = `EXECABORT Transaction discarded because of previous errors. (${refused.message})`;
      return Promise.resolve(new RedisError(text));
    }
    return Promise.resolve(rows.map((words) => this.#answer(words)));
  }

  subscribe(kind: SubscriptionKind, name: Buffer, listener: Listener): Promise<() => void> {
    if (this.#closed) return Promise.reject(closedError());
    const text = name.toString('latin1');
    const topics = kind === 'channel' ? this.#channels : this.#patterns;
    const listeners = kind === 'channel' ? this.#channelListeners(text) : this.#patternListeners(text);
    listeners.add(listener);
    return Promise.resolve(() => {
      if (listeners.delete(listener) && listeners.size === 0) topics.delete(text);
    });
  }

  close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#sweeper);
    const all = [...this.#channels.values(), ...[...this.#patterns.values()].map((topic) => topic.listeners)];
    this.#channels.clear();
    this.#patterns.clear();
    for (const listener of all.flatMap((listeners) => [...listeners])) listener.lost('the gateway is closing');
    return Promise.resolve();
  }

  #channelListeners(name: string): Set<Listener> {
    const listeners = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, listeners);
    return listeners;
  }

  #patternListeners(name: string): Set<Listener> {
    const topic = this.#patterns.get(name) ?? { matches: glob(name), listeners: new Set() };
    this.#patterns.set(name, topic);
    return topic.listeners;
  }

  #publish(channel: string, payload: string): number {
    const matching = [...this.#patterns.values()].filter((topic) => topic.matches(channel));
    const listeners = [...(this.#channels.get(channel) ?? []), ...matching.flatMap((topic) => [...topic.listeners])];
    const [name, message] = [Buffer.from(channel, 'latin1'), Buffer.from(payload, 'latin1')];
    for (const listener of listeners) listener.message(name, message);
    return listeners.length;
  }

  #answer(words: readonly string[]): Reply {
    try {
      return toReply(this.#run(words));
    } catch (error) {
      if (error instanceof RedisError) return error;
      throw error;
    }
  }

  #run(words: readonly string[]): MemoryReply {
    const refused = this.#refusal(words);
    if (refused !== undefined) throw refused;
    const [name = '', ...args] = words;
    return this.#commands.get(name.toUpperCase())?.run(this.#context, args) ?? null;
  }

  /** Why a command is refused before it runs, or undefined. */
  #refusal(words: readonly string[]): RedisError | undefined {
    const [name = '', ...args] = words;
    const spec = this.#commands.get(name.toUpperCase());
    if (spec === undefined) return unknownCommand(name, args);
    const fits = spec.arity < 0 ? words.length >= -spec.arity : words.length === spec.arity;
    if (!fits) return wrongArity(name);
    return spec.grows === true && this.#isFull() ? outOfMemory() : undefined;
  }

  #isFull(): boolean {
    if (this.#keys.usedBytes <= this.#maxBytes) return false;
    this.#keys.sweep(true);
    return this.#keys.usedBytes > this.#maxBytes;
  }

  #info(): string {
    const lines = [
      '# Server',
      'redis_version:7.0.0',
      'redis_mode:memory',
      '# Memory',
      `used_memory:${this.#keys.usedBytes}`,
      `maxmemory:${this.#maxBytes}`,
      'maxmemory_policy:noeviction',
      '# Keyspace',
      `db0:keys=${this.#keys.size}`,
    ];
    return `${lines.join('\r\n')}\r\n`;
  }
}

function allCommands(info: () => string): CommandTable {
  return {
    ...keyCommands,
    ...stringCommands,
    ...hashCommands,
    ...listCommands,
    ...setCommands,
    ...sortedSetCommands,
    ...streamCommands,
    ...scriptCommands(),
    PING: { arity: -1, run: (_context, [text]) => text ?? new Status('PONG') },
    ECHO: { arity: 2, run: (_context, [text = '']) => text },
    INFO: { arity: -1, run: info },
    PUBLISH: { arity: 3, run: ({ publish }, [channel = '', payload = '']) => publish(channel, payload) },
    TIME: {
      arity: 1,
      run: ({ keys }) => [String(Math.floor(keys.now / 1000)), String(Math.floor((keys.now % 1000) * 1000))],
    },
  };
}

function toWords(command: Command): string[] {
  return command.map((word) => word.toString('latin1'));
}

function toReply(reply: MemoryReply): Reply {
  if (typeof reply === 'string') return Buffer.from(reply, 'latin1');
  return Array.isArray(reply) ? reply.map(toReply) : reply;
}

function unknownCommand(name: string, args: readonly string[]): RedisError {
  const shown = args.slice(0, 10).map((word) => `'${word.slice(0, 128)}' `);
  return new RedisError(`ERR unknown command '${name.slice(0, 128)}', with args beginning with: ${shown.join('')}`);
}

function outOfMemory(): RedisError {
  return new RedisError("OOM command not allowed when used memory > 'maxmemory'.");
}

function closedError(): BackendUnavailable {
  return new BackendUnavailable('ERR the memory store is closed', false);
}
