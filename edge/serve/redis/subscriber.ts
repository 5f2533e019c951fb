/**
 * One subscriber of the gateway: messages of Redis as server-sent events, in the text that @upstash/redis parses
 * (`data: message,<channel>,<payload>`). It may be slow, but not at our cost: beyond a bound it is told so and dropped.
 * A subscription that may have missed something never goes on in silence: it ends with an `error` event.
 */
import type { Buffer } from 'node:buffer';
import type { ServerResponse } from 'node:http';

import { type Backend, BackendUnavailable, type SubscriptionKind } from './backend.ts';
import { Malformed, pathArguments, renderError } from './wire.ts';

export interface SubscriberLimits {
  /** Subscribers at one time; more are answered 429. */
  readonly maxSubscribers: number;
  /** Bytes that may wait for a subscriber that does not read. */
  readonly maxBufferedBytes: number;
  /** A comment this often shows both sides that the connection lives. */
  readonly heartbeatMs: number;
}

export interface SubscriptionRequest {
  readonly backend: Backend;
  /** `/subscribe/<channel>[/<channel>...]` or `/psubscribe/<pattern>...`, still escaped. */
  readonly path: string;
  readonly response: ServerResponse;
  readonly limits: SubscriberLimits;
  /** All subscribers of the gateway, each by the function that ends it. */
  readonly subscribers: Set<(reason: string) => void>;
  readonly onDropped: (reason: string) => void;
}

/** How long a dropped subscriber has to take its last event. */
const lastWordsMs = 5_000;

/** Answers with a stream of events that ends when either side ends it. Throws Malformed; other failures are answered. */
export function openSubscription(request: SubscriptionRequest): void {
  const [verb, ...names] = pathArguments(request.path);
  const kind = verb?.toString('latin1') === 'psubscribe' ? 'pattern' : 'channel';
  if (names.length === 0 || names.some((name) => name.length === 0)) {
    throw new Malformed(`ERR wrong number of arguments for '${verb?.toString('latin1')}' command`);
  }
  if (names.length > 64) throw new Malformed('ERR too many channels in one subscription, limit 64');
  if (request.subscribers.size >= request.limits.maxSubscribers) {
    answerError(request.response, 429, `ERR max number of subscribers reached (${request.limits.maxSubscribers})`);
    return;
  }
  const subscriber = new Subscriber(request, kind);
  void subscriber.open(names);
}

class Subscriber {
  readonly #request: SubscriptionRequest;
  readonly #kind: SubscriptionKind;
  readonly #removals: (() => void)[] = [];
  readonly #end = (reason: string) => this.#drop(reason);
  #heartbeat: NodeJS.Timeout | undefined;
  #isOpen = true;
  #label = '';

  constructor(request: SubscriptionRequest, kind: SubscriptionKind) {
    this.#request = request;
    this.#kind = kind;
    request.subscribers.add(this.#end);
    request.response.once('close', () => this.#release());
    request.response.on('error', () => this.#release());
  }

  async open(names: readonly Buffer[]): Promise<void> {
    this.#label = names.map(oneLine).join('/');
    try {
      for (const [index, name] of names.entries()) {
        const remove = await this.#request.backend.subscribe(this.#kind, name, {
          message: (channel, payload) => this.#message(name, channel, payload),
          lost: (reason) => this.#drop(reason),
        });
        this.#removals.push(remove);
        if (!this.#isOpen) return this.#release();
        this.#write(`${this.#kind === 'channel' ? 'subscribe' : 'psubscribe'},${oneLine(name)},${index + 1}`);
      }
      this.#heartbeat = setInterval(() => this.#writeRaw(': alive\n\n'), this.#request.limits.heartbeatMs);
    } catch (error) {
      this.#drop(error instanceof BackendUnavailable ? error.message : 'ERR internal error of the gateway');
    }
  }

  #message(name: Buffer, channel: Buffer, payload: Buffer): void {
    const head = this.#kind === 'channel' ? 'message' : `pmessage,${oneLine(name)}`;
    this.#write(`${head},${oneLine(channel)},${oneLine(payload)}`);
  }

  #write(data: string): void {
    this.#writeRaw(`data: ${data}\n\n`);
  }

  #writeRaw(text: string): void {
    const { response, limits } = this.#request;
    if (!this.#isOpen || response.destroyed) return;
    this.#startStream();
    response.write(text);
    if (response.writableLength > limits.maxBufferedBytes) {
      this.#drop(`slow subscriber: more than ${limits.maxBufferedBytes} bytes were waiting to be read`);
    }
  }

  #startStream(): void {
    if (this.#request.response.headersSent) return;
    this.#request.response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    });
  }

  /** Ends the stream with a last event, or the request with an error when there is no stream yet. */
  #drop(reason: string): void {
    if (!this.#isOpen) return;
    const { response, onDropped } = this.#request;
    this.#release();
    onDropped(reason);
    if (response.destroyed) return;
    if (!response.headersSent) {
      answerError(response, 503, reason);
      return;
    }
    response.end(`event: error\ndata: error,${this.#label},${reason.replaceAll(/[\r\n]/g, ' ')}\n\n`);
    const give = setTimeout(() => response.destroy(), lastWordsMs);
    response.once('close', () => clearTimeout(give));
  }

  #release(): void {
    this.#isOpen = false;
    clearInterval(this.#heartbeat);
    this.#request.subscribers.delete(this.#end);
    for (const remove of this.#removals.splice(0)) remove();
  }
}

/** An event is one line; a line break in a payload becomes a space (which changes no JSON), so that nobody can forge a line. */
function oneLine(bytes: Buffer): string {
  return bytes.toString().replaceAll(/\r\n|[\r\n]/g, ' ');
}

function answerError(response: ServerResponse, status: number, message: string): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(renderError(message));
}
