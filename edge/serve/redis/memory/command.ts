/** What a command of the memory store is, and what it may touch. The tables of commands stand beside this file. */
import type { RedisError, Status } from '../backend.ts';
import type { Keyspace } from './keyspace.ts';

/** A reply before its strings become bytes. */
export type MemoryReply = null | number | bigint | string | Status | RedisError | MemoryReply[];

export interface CommandContext {
  readonly keys: Keyspace;
  /** Delivers to the subscribers of a channel; answers how many there were. */
  readonly publish: (channel: string, payload: string) => number;
  /** Runs another command, as a script does. Throws RedisError. */
  readonly call: (...words: string[]) => MemoryReply;
}

export interface CommandSpec {
  /** As in Redis: the number of words, the name included; negative when that many at least. */
  readonly arity: number;
  /** Refused with OOM while the store is over its cap. */
  readonly grows?: true;
  /** Runs at once and completely, on the words behind the name. Throws RedisError. */
  run(context: CommandContext, args: readonly string[]): MemoryReply;
}

export type CommandTable = Readonly<Record<string, CommandSpec>>;
