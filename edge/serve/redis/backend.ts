/**
 * What the gateway needs of a Redis, whichever it is: run commands in order, run some of them atomically, subscribe.
 * Two implementations: a redis-server behind a socket (`server-backend.ts`) and the store of this process (`memory.ts`).
 * Bytes everywhere: no text is decoded between the gateway and the store.
 */

/** One command: its name and its arguments. Never empty. */
export type Command = readonly Buffer[];

/** A reply as RESP2 knows it. `bigint` only beyond the safe integers; an error inside a batch is a value, not a throw. */
export type Reply = null | number | bigint | Buffer | Status | RedisError | Reply[];

/** RESP's simple string, such as OK or PONG. */
export class Status {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
}

/** An error that Redis itself answered; `message` starts with its code, for example `WRONGTYPE Operation against ...`. */
export class RedisError extends Error {
  override readonly name = 'RedisError';
}

/** No answer: the store can not be reached, or went away before it answered. */
export class BackendUnavailable extends Error {
  override readonly name = 'BackendUnavailable';
  /** True when the command may have been executed. */
  readonly maybeDone: boolean;
  constructor(message: string, maybeDone: boolean) {
    super(message);
    this.maybeDone = maybeDone;
  }
}

/** Called while a subscription lives. `lost` is called at most once, and nothing follows it: messages may have been missed. */
export interface Listener {
  message(channel: Buffer, payload: Buffer): void;
  lost(reason: string): void;
}

export type SubscriptionKind = 'channel' | 'pattern';

export interface Backend {
  /** Runs the commands in order, others may come between. One reply each. Throws BackendUnavailable. */
  pipeline(commands: readonly Command[]): Promise<Reply[]>;
  /** Runs all commands with nothing between them, or none: then the reason is returned. Throws BackendUnavailable. */
  transaction(commands: readonly Command[]): Promise<Reply[] | RedisError>;
  /** Resolves when the store has registered the subscription, with the function that ends it. Throws BackendUnavailable. */
  subscribe(kind: SubscriptionKind, name: Buffer, listener: Listener): Promise<() => void>;
  /** Ends connections and timers; subscriptions are lost, what waits is refused. */
  close(): Promise<void>;
}
