/** HTTP over connections of `connect.ts`: for `ws`, for single requests, and a small fetch that keeps its connections. */
import {
  Agent,
  type AgentOptions,
  type ClientRequest,
  type ClientRequestArgs,
  type IncomingMessage,
  request,
} from 'node:http';
import { type Duplex, Readable } from 'node:stream';
import { connectTo } from './connect.ts';
import type { Way } from './way.ts';

/** What `node:http` gives to `createConnection`. It looks at an error alone, whatever its types say of the stream. */
type Created = (error: Error | null, stream: Duplex) => void;
/** `createConnection` of `node:http` in the form that hands the connection over later. */
export type CreateConnection = (options: ClientRequestArgs, created: Created) => undefined;

/** Hands over what `opening` comes to. */
export function handOver(opening: Promise<Duplex>, created: Created): undefined {
  opening.then(
    (stream) => created(null, stream),
    (error: Error) => created(error, undefined as unknown as Duplex),
  );
  return undefined;
}

/** `createConnection` for one request or WebSocket to `url`. */
export function connectionTo(url: URL, way: Way, signal?: AbortSignal): CreateConnection {
  return (_options, created) => handOver(connectTo(url, way, signal === undefined ? {} : { signal }), created);
}

/** A request to `url` on a connection of its own. TLS is the connection's, so this is plain `node:http` for every scheme. */
export function requestTo(url: URL, way: Way, options: ClientRequestArgs & { signal?: AbortSignal }): ClientRequest {
  const createConnection = connectionTo(url, way, options.signal) as unknown as ClientRequestArgs['createConnection'];
  return request({ ...target(url), ...options, ...(createConnection === undefined ? {} : { createConnection }) });
}

function target(url: URL): ClientRequestArgs {
  const defaultPort = url.protocol === 'https:' ? 443 : 80;
  return {
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: Number(url.port) || defaultPort,
    defaultPort,
    path: `${url.pathname}${url.search}`,
  };
}

export interface FetchInit {
  method?: string;
  headers?: Record<string, string>;
  body?: string | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

/** As the global fetch, as far as a client of ours needs it: an answer is an answer, redirects too. */
export type Fetch = (url: URL | string, init?: FetchInit) => Promise<Response>;

/** What a request says to the agent below: where it goes, and when nobody wants its connection any more. */
interface Wanted {
  wayUrl: URL;
  waySignal?: AbortSignal | undefined;
}

/** Keeps connections for a moment, so that ten calls are one handshake. */
export class WayAgent extends Agent {
  readonly #way: Way;

  constructor(way: Way, options: AgentOptions) {
    super(options);
    this.#way = way;
  }

  /** Options of a request or a WebSocket to `url` on one of these connections. TLS is the connection's, as in `requestTo`. */
  to(url: URL, signal?: AbortSignal): ClientRequestArgs {
    return { ...target(url), agent: this, wayUrl: url, waySignal: signal } as ClientRequestArgs;
  }

  override createConnection(options: ClientRequestArgs & Partial<Wanted>, created?: Created): undefined {
    const { wayUrl, waySignal } = options;
    if (wayUrl === undefined || created === undefined) throw new Error('only for requests that `to` makes');
    return connectionTo(wayUrl, this.#way, waySignal)(options, created);
  }
}

/** How long a connection waits for the next request where both follow each other. Servers close one after 5 s and more. */
const briefMs = 2_000;

/** For those who ask something and go on with it at once: one handshake for both. */
export function brieflyKept(way: Way): WayAgent {
  return new WayAgent(way, { keepAlive: true, timeout: briefMs });
}

/** Of which one more does no harm (RFC 9110, 9.2.2): what a kept connection did not carry may be sent by another one. */
const repeatable = new Set(['GET', 'HEAD', 'PUT', 'DELETE']);

/** A fetch by `way`. */
export function fetchBy(way: Way): Fetch {
  const kept = new WayAgent(way, { keepAlive: true });
  return (address, { method = 'GET', headers = {}, body, signal } = {}) => {
    const url = new URL(address);
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const options = { method, headers: { ...headers, ...lengthOf(body) }, ...(signal === undefined ? {} : { signal }) };
    const ask = (agent: WayAgent) => {
      const asking = request({ ...agent.to(url), ...options });
      let isAnswered = false;
      asking.on('response', (answer) => {
        isAnswered = true;
        resolve(toResponse(answer));
      });
      asking.on('error', (error: NodeJS.ErrnoException) => {
        // The far end closes connections that nobody uses, this one just when it was used again.
        const wasClosed = !isAnswered && asking.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE');
        if (signal?.aborted) reject(signal.reason as Error);
        else if (wasClosed && repeatable.has(method)) ask(new WayAgent(way, { keepAlive: false }));
        else reject(error);
      });
      asking.end(body);
    };
    ask(kept);
    return promise;
  };
}

function lengthOf(body: FetchInit['body']): Record<string, string> {
  if (body === undefined) return {};
  return { 'content-length': String(Buffer.byteLength(body)) };
}

/** Answers without a body, which a Response may not have either. */
const bodyless = new Set([101, 204, 205, 304]);

function toResponse(answer: IncomingMessage): Response {
  const status = answer.statusCode ?? 0;
  const headers = new Headers();
  for (let at = 0; at + 1 < answer.rawHeaders.length; at += 2)
    headers.append(answer.rawHeaders[at] ?? '', answer.rawHeaders[at + 1] ?? '');
  if (!bodyless.has(status)) {
    const body = Readable.toWeb(answer) as unknown as ReadableStream<Uint8Array>;
    return new Response(body, { status, headers });
  }
  answer.resume();
  return new Response(null, { status, headers });
}
