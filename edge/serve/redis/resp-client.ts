/**
 * One connection to a redis-server, kept up: pipelining, reconnect with back-off, a bounded queue, a deadline for each unit.
 * A unit is some commands that are written together, so nothing comes between them. What was not yet written when the
 * connection fails waits for the next one; what was written is never sent again: its caller learns that it may have been done.
 */
import { Buffer } from 'node:buffer';
import { createConnection, type Socket } from 'node:net';

import { BackendUnavailable, type Command, RedisError, type Reply, Status } from './backend.ts';
import { encodeCommands, RespParser } from './resp.ts';

export interface RedisAddress {
  /** Unix socket; else host and port. */
  readonly socketPath?: string;
  readonly host?: string;
  readonly port?: number;
  readonly password?: string;
}

export interface RespClientOptions {
  /** Asked before each attempt to connect. */
  readonly address: () => RedisAddress;
  /** From the acceptance of a unit to its last reply, waiting for a connection included. */
  readonly commandTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** Bytes of commands that wait or are unanswered. */
  readonly maxQueuedBytes: number;
  readonly maxReplyBytes: number;
  /** First and longest pause between two attempts to connect. */
  readonly backoffMs: { readonly first: number; readonly max: number };
  /** After each successful hello; a subscriber renews itself here. */
  readonly onReady?: () => void;
  /** When a connection that had been ready is gone. */
  readonly onLost?: (reason: string) => void;
  /** Replies that answer nothing that was sent: messages of a subscription. */
  readonly onPush?: (reply: Reply) => boolean;
}

export const respClientDefaults = {
  commandTimeoutMs: 10_000,
  connectTimeoutMs: 2_000,
  maxQueuedBytes: 64 * 1024 * 1024,
  maxReplyBytes: 64 * 1024 * 1024,
  backoffMs: { first: 25, max: 2_000 },
} as const;

interface Unit {
  readonly bytes: Buffer;
  readonly count: number;
  readonly replies: Reply[];
  readonly timer: NodeJS.Timeout;
  readonly resolve: (replies: Reply[]) => void;
  readonly reject: (error: BackendUnavailable) => void;
}

export class RespClient {
  readonly #options: RespClientOptions;
  #socket: Socket | undefined;
  #ready = false;
  #closed = false;
  #attempts = 0;
  #retry: NodeJS.Timeout | undefined;
  #lastFailure = 'not connected yet';
  #queuedBytes = 0;
  /** Not written yet. */
  #waiting = new Set<Unit>();
  /** Written, in the order in which Redis answers. */
  #sent: Unit[] = [];

  constructor(options: RespClientOptions) {
    this.#options = options;
    this.#connect();
  }

  /** Runs some commands together; one reply each, errors of Redis among them. Throws BackendUnavailable. */
  run(commands: readonly Command[]): Promise<Reply[]> {
    const bytes = encodeCommands(commands);
    if (this.#closed) return Promise.reject(new BackendUnavailable('ERR the connection to redis is closed', false));
    if (this.#queuedBytes + bytes.length > this.#options.maxQueuedBytes) {
      return Promise.reject(new BackendUnavailable('ERR too much is waiting for redis, try again later', false));
    }
    this.#queuedBytes += bytes.length;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#expire(unit), this.#options.commandTimeoutMs);
      const unit: Unit = { bytes, count: commands.length, replies: [], timer, resolve, reject };
      if (this.#ready) this.#write(unit);
      else this.#waiting.add(unit);
    });
  }

  /** Refuses what waits and ends the connection. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#drop('closed');
    for (const unit of this.#waiting) this.#fail(unit, 'ERR the connection to redis is closed', false);
    this.#waiting.clear();
  }

  #connect(): void {
    const { socketPath, host, port, password } = this.#options.address();
    const socket = createConnection(
      socketPath === undefined ? { host: host ?? '127.0.0.1', port: port ?? 6379 } : { path: socketPath },
    );
    this.#socket = socket;
    socket.setNoDelay(true);
    const parser = new RespParser((reply) => this.#take(socket, reply), this.#options.maxReplyBytes);
    const give = setTimeout(() => socket.destroy(new Error('no greeting in time')), this.#options.connectTimeoutMs);
    socket.once('close', () => clearTimeout(give));
    socket.on('data', (chunk) => {
      try {
        parser.push(chunk);
      } catch (error) {
        socket.destroy(error as Error);
      }
    });
    socket.on('end', () => (this.#lastFailure = 'redis closed the connection'));
    socket.on('error', (error) => (this.#lastFailure = error.message));
    socket.on('close', () => this.#lose(socket));
    socket.once('connect', () => void this.#greet(socket, password, give));
  }

  /** AUTH and PING, before anything else is written. A server that still loads its data is asked again by reconnecting. */
  async #greet(socket: Socket, password: string | undefined, give: NodeJS.Timeout): Promise<void> {
    const hello = [...(password === undefined ? [] : [['AUTH', password]]), ['PING']];
    const greeting = hello.map((words) => words.map((word) => Buffer.from(word)));
    const replies: Reply[] = await this.#sendNow(greeting).catch(() => []);
    if (this.#socket !== socket) return;
    const last = replies.at(-1);
    const refused = replies.find((reply) => reply instanceof RedisError);
    if (!(last instanceof Status) || last.text !== 'PONG' || refused) {
      socket.destroy(new Error(refused?.message ?? this.#lastFailure));
      return;
    }
    clearTimeout(give);
    this.#ready = true;
    this.#attempts = 0;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    this.#options.onReady?.();
    for (const unit of waiting) this.#write(unit);
  }

  #sendNow(commands: readonly Command[]): Promise<Reply[]> {
    const bytes = encodeCommands(commands);
    this.#queuedBytes += bytes.length;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#expire(unit), this.#options.connectTimeoutMs);
      const unit: Unit = { bytes, count: commands.length, replies: [], timer, resolve, reject };
      this.#write(unit);
    });
  }

  #write(unit: Unit): void {
    this.#sent.push(unit);
    this.#socket?.write(unit.bytes);
  }

  #take(socket: Socket, reply: Reply): void {
    if (socket !== this.#socket) return;
    if (this.#ready && this.#options.onPush?.(reply)) return;
    const unit = this.#sent[0];
    if (unit === undefined) {
      socket.destroy(new Error('a reply that answers nothing'));
      return;
    }
    unit.replies.push(reply);
    if (unit.replies.length < unit.count) return;
    this.#sent.shift();
    this.#settle(unit);
    unit.resolve(unit.replies);
  }

  /** A written unit that is not answered in time takes its connection with it: replies could no longer be told apart. */
  #expire(unit: Unit): void {
    if (this.#waiting.delete(unit)) {
      this.#fail(unit, `ERR redis is not reachable: ${this.#lastFailure}`, false);
    } else {
      this.#socket?.destroy(new Error(`redis did not answer within ${this.#options.commandTimeoutMs} ms`));
    }
  }

  #lose(socket: Socket): void {
    if (socket !== this.#socket) return;
    this.#drop(this.#lastFailure);
    if (this.#closed) return;
    const { first, max } = this.#options.backoffMs;
    const pause = Math.min(max, first * 2 ** this.#attempts);
    this.#attempts += 1;
    this.#retry = setTimeout(() => this.#connect(), pause);
  }

  /** Forgets the connection; what was written on it is refused as of unknown outcome. */
  #drop(reason: string): void {
    const wasReady = this.#ready;
    const sent = this.#sent;
    this.#ready = false;
    this.#sent = [];
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
    for (const unit of sent) this.#fail(unit, `ERR redis went away before it answered: ${reason}`, true);
    if (wasReady) this.#options.onLost?.(reason);
  }

  #fail(unit: Unit, message: string, maybeDone: boolean): void {
    this.#settle(unit);
    unit.reject(new BackendUnavailable(message, maybeDone));
  }

  #settle(unit: Unit): void {
    clearTimeout(unit.timer);
    this.#queuedBytes -= unit.bytes.length;
  }
}
