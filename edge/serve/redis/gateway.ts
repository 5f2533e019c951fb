/**
 * An Upstash-compatible REST gateway over HTTP/1.1, for one machine and its own edge: commands, pipelines, transactions,
 * subscriptions. Whoever has the token may do everything, so the token is compared in constant time and never taken from a URL.
 * Bounded: bodies, their sum, subscribers, and what a slow subscriber makes us keep. It decides nothing about Redis itself.
 */
import { Buffer } from 'node:buffer';
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

import { type Backend, BackendUnavailable, type Command, RedisError, type Reply } from './backend.ts';
import { refusal } from './policy.ts';
import { openSubscription, type SubscriberLimits } from './subscriber.ts';
import { Malformed, parseBatch, parseCommand, parsePath, renderBatch, renderError, renderReply } from './wire.ts';

export interface GatewayOptions {
  readonly backend: Backend;
  /** What clients send as `Authorization: Bearer <token>`. */
  readonly token: string;
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly limits?: Partial<GatewayLimits>;
  readonly log?: (level: 'info' | 'warn' | 'error', message: string) => void;
}

export interface GatewayLimits extends SubscriberLimits {
  readonly maxBodyBytes: number;
  /** Bytes of all bodies that are held at one time. */
  readonly maxBodiesBytes: number;
  /** How long `close` waits for requests under way. */
  readonly drainMs: number;
}

const defaultLimits: GatewayLimits = {
  maxBodyBytes: 10 * 1024 * 1024,
  maxBodiesBytes: 128 * 1024 * 1024,
  maxSubscribers: 1_024,
  maxBufferedBytes: 1024 * 1024,
  heartbeatMs: 15_000,
  drainMs: 5_000,
};

export interface Gateway {
  readonly url: string;
  readonly port: number;
  /** Refuses new requests, ends subscriptions with a last event, lets requests finish, closes. Not the backend. */
  close(): Promise<void>;
}

/** An answer that is not a reply of Redis. */
class Refused extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Listens; resolves when requests are answered. Rejects when the address can not be had. */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const handler = new Handler(options);
  const server = createServer({ keepAliveTimeout: 75_000, requestTimeout: 30_000 }, (request, response) => {
    void handler.handle(request, response);
  });
  server.on('connection', (socket) => handler.track(socket));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => resolve());
  });
  const { port } = server.address() as AddressInfo;
  const host = options.host.includes(':') ? `[${options.host}]` : options.host;
  return { url: `http://${host}:${port}`, port, close: () => handler.close(server) };
}

class Handler {
  readonly #options: GatewayOptions;
  readonly #limits: GatewayLimits;
  readonly #tokenHash: Buffer;
  /** Ends a subscription with a last event. */
  readonly #subscribers = new Set<(reason: string) => void>();
  readonly #sockets = new Set<Socket>();
  /** Connections with a request under way. */
  readonly #busy = new Set<Socket>();
  #bodiesBytes = 0;
  #closing = false;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#tokenHash = sha256(options.token);
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#busy.add(request.socket);
    response.once('close', () => this.#busy.delete(request.socket));
    try {
      this.#admit(request);
      const target = parseTarget(request.url ?? '/');
      if (target.query.has('_token')) {
        throw new Refused(400, 'ERR a token in the URL ends up in logs: send it as Authorization: Bearer');
      }
      if (isSubscription(target.path)) this.#subscribe(request, target, response);
      else await this.#withBody(request, (body) => this.#answer(request, response, target, body));
    } catch (error) {
      this.#refuse(request, response, error);
    }
  }

  /** Node's own list of idle connections lacks those that clients opened in advance; they would hold `close` up. */
  track(socket: Socket): void {
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  #destroyIdle(): void {
    for (const socket of this.#sockets) if (!this.#busy.has(socket)) socket.destroy();
  }

  async close(server: Server): Promise<void> {
    this.#closing = true;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const end of this.#subscribers) end('the gateway is shutting down');
    const idle = setInterval(() => this.#destroyIdle(), 20);
    const force = setTimeout(() => server.closeAllConnections(), this.#limits.drainMs);
    await closed;
    clearInterval(idle);
    clearTimeout(force);
  }

  #admit(request: IncomingMessage): void {
    if (this.#closing) throw new Refused(503, 'ERR the gateway is shutting down');
    if (!this.#isAuthorized(request.headers.authorization)) {
      throw new Refused(401, 'WRONGPASS invalid or missing auth token');
    }
    if (!['GET', 'HEAD', 'POST', 'PUT'].includes(request.method ?? '')) {
      throw new Refused(405, `ERR method ${request.method} is not supported`);
    }
  }

  #isAuthorized(header: string | undefined): boolean {
    const token = /^Bearer +(\S+)$/i.exec(header ?? '')?.[1] ?? '';
    return timingSafeEqual(sha256(token), this.#tokenHash);
  }

  #subscribe(request: IncomingMessage, target: Target, response: ServerResponse): void {
    request.resume();
    openSubscription({
      backend: this.#options.backend,
      path: target.path,
      response,
      limits: this.#limits,
      subscribers: this.#subscribers,
      onDropped: (reason) => this.#options.log?.('warn', `subscriber dropped: ${reason}`),
    });
  }

  /** Reads the body, bounded, and counts it as held until `use` is done. */
  async #withBody(request: IncomingMessage, use: (body: Buffer) => Promise<void>): Promise<void> {
    const { maxBodyBytes, maxBodiesBytes } = this.#limits;
    const tooLarge = () => new Refused(413, `ERR the request is larger than ${maxBodyBytes} bytes`);
    if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) throw tooLarge();
    let held = 0;
    try {
      const chunks: Buffer[] = [];
      for await (const chunk of request as AsyncIterable<Buffer>) {
        held += chunk.length;
        this.#bodiesBytes += chunk.length;
        if (held > maxBodyBytes) throw tooLarge();
        if (this.#bodiesBytes > maxBodiesBytes) throw new Refused(503, 'ERR too many large requests, try again later');
        chunks.push(chunk);
      }
      await use(Buffer.concat(chunks));
    } finally {
      this.#bodiesBytes -= held;
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse, target: Target, body: Buffer): Promise<void> {
    const base64 = request.headers['upstash-encoding'] === 'base64';
    const isBatch = target.path === '/pipeline' || target.path === '/multi-exec';
    if (isBatch && request.method !== 'POST') throw new Refused(405, 'ERR this needs the POST method');
    const answer = isBatch
      ? await this.#runBatch(parseBatch(body), target.path === '/multi-exec')
      : await this.#runOne(target.path === '/' ? parseCommand(body) : parsePath(target.path, target.query, body));
    const text = Array.isArray(answer) ? renderBatch(answer, base64) : renderReply(answer.one, base64);
    const failed = !Array.isArray(answer) && answer.one instanceof RedisError;
    response.writeHead(failed ? 400 : 200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(base64 ? { 'upstash-encoding': 'base64' } : {}),
    });
    response.end(text);
  }

  async #runOne(command: Command): Promise<{ one: Reply }> {
    const refused = refusal(command);
    if (refused !== undefined) return { one: refused };
    const [reply = null] = await this.#options.backend.pipeline([command]);
    return { one: reply };
  }

  /** A refused command is an error in its place in a pipeline, and refuses a whole transaction. */
  async #runBatch(commands: readonly Command[], isAtomic: boolean): Promise<Reply[] | { one: RedisError }> {
    const refused = commands.map(refusal);
    if (isAtomic) {
      const first = refused.find((error) => error !== undefined);
      const outcome = first ?? (await this.#options.backend.transaction(commands));
      return outcome instanceof RedisError ? { one: outcome } : outcome;
    }
    const allowed = commands.filter((_command, index) => refused[index] === undefined);
    const replies = allowed.length === 0 ? [] : await this.#options.backend.pipeline(allowed);
    const next = replies.values();
    return refused.map((error) => error ?? next.next().value ?? null);
  }

  #refuse(request: IncomingMessage, response: ServerResponse, error: unknown): void {
    if (response.headersSent || response.destroyed) {
      response.destroy();
      return;
    }
    const status = statusOf(error);
    if (status === 500)
      this.#options.log?.('error', error instanceof Error ? (error.stack ?? error.message) : 'unknown');
    const text = renderError(status === 500 ? 'ERR internal error of the gateway' : (error as Error).message);
    const isUnread = !request.readableEnded;
    response.writeHead(status, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
      ...(status === 503 ? { 'retry-after': '1' } : {}),
      ...(status === 401 ? { 'www-authenticate': 'Bearer' } : {}),
      ...(isUnread ? { connection: 'close' } : {}),
    });
    response.end(text);
    if (isUnread) discard(request);
  }
}

/** Lets a client finish sending what nobody wants, so that it gets to read the answer; not for ever. */
function discard(request: IncomingMessage): void {
  if (request.destroyed) return;
  const give = setTimeout(() => request.destroy(), 5_000);
  request.once('close', () => clearTimeout(give));
  request.on('error', () => undefined);
  request.resume();
}

interface Target {
  /** Still escaped. */
  readonly path: string;
  readonly query: URLSearchParams;
}

/** Not by URL, which would take `//k` for a host and mend what is malformed. */
function parseTarget(text: string): Target {
  const mark = text.indexOf('?');
  const path = mark === -1 ? text : text.slice(0, mark);
  return { path, query: new URLSearchParams(mark === -1 ? '' : text.slice(mark)) };
}

function isSubscription(path: string): boolean {
  return /^\/p?subscribe(\/|$)/.test(path);
}

function statusOf(error: unknown): number {
  if (error instanceof Refused) return error.status;
  if (error instanceof Malformed) return 400;
  return error instanceof BackendUnavailable ? 503 : 500;
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
