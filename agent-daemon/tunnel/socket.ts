/**
 * A WebSocket as the tunnel's core sees it, and the real one over `ws`. Only binary messages and the texts ping and pong
 * travel. No decision is taken here.
 */
import { WebSocket } from 'ws';
import { badgeHeader, limits, spreadHeader, tunnelProtocol } from '../../schema/protocol/limits.ts';
import type { WayAgent } from '../../wire/http.ts';
import { toEdgeRefusal } from './edge-api.ts';

export interface SocketEvents {
  message(bytes: Uint8Array): void;
  text(text: string): void;
  /** Once, however the socket ended. 1006 when the other end said nothing. */
  closed(code: number, reason: string): void;
}

export interface Socket {
  /** Over how long a time agents should come back when the edge was gone (SPEC rule M12), ms; where it said so. */
  readonly spreadMs?: number;
  /** What the agent is to show at its next dial, that it need not be looked for; where the edge gave one. */
  readonly badge?: string;
  /** Sends one binary message. `sent` is called when it left this process, or will never. */
  send(bytes: Uint8Array, sent?: () => void): void;
  sendText(text: string): void;
  /** Bytes given to `send` that have not left yet. */
  bufferedBytes(): number;
  close(code: number, reason: string): void;
  /** Ends it at once, without a word. */
  destroy(): void;
}

export interface DialRequest {
  url: string;
  headers: Record<string, string>;
  signal: AbortSignal;
}

/** Opens a socket; `listen` is called with it before anything can arrive. */
export type Dial = (request: DialRequest, listen: (socket: Socket) => SocketEvents) => Promise<Socket>;

const handshakeMs = 15_000;
const refusalBodyBytes = 16 * 1024;
/** How long a close may take before the socket is cut. */
const closeMs = 5_000;

/** True where nothing reads what we send in plain: the mask protects confused proxies on plain HTTP only. */
function needsNoMask(url: URL): boolean {
  return url.protocol === 'https:' || ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
}

/** {@link Dial} over `ws` on `kept`: no compression, messages of at most 1 MiB, zero masking key over TLS and loopback. */
export function dialBy(kept: WayAgent): Dial {
  return (request, listen) => dialWebSocket(kept, request, listen);
}

async function dialWebSocket(
  kept: WayAgent,
  request: DialRequest,
  listen: (socket: Socket) => SocketEvents,
): Promise<Socket> {
  request.signal.throwIfAborted();
  const url = new URL(request.url);
  const to = kept.to(url, request.signal);
  // TLS is the connection's: for `ws` it is a plain one, to this port.
  const address = `ws://${url.hostname}:${to.port}${url.pathname}${url.search}`;
  const socket = new WebSocket(address, tunnelProtocol, {
    ...(to as object),
    headers: { ...request.headers, host: url.host },
    perMessageDeflate: false,
    maxPayload: limits.messageBytes,
    handshakeTimeout: handshakeMs,
    followRedirects: false,
    ...(needsNoMask(url) ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
  });
  socket.binaryType = 'nodebuffer';
  return new Promise((resolve, reject) => {
    const abort = () => {
      socket.terminate();
      reject(request.signal.reason as Error);
    };
    request.signal.addEventListener('abort', abort, { once: true });
    const settle = () => request.signal.removeEventListener('abort', abort);
    socket.on('error', (error) => {
      settle();
      reject(error);
    });
    socket.on('unexpected-response', (_, response) => {
      settle();
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        if (body.length < refusalBodyBytes) body += part;
      });
      response.on('error', reject);
      response.on('end', () => {
        reject(toEdgeRefusal(response.statusCode ?? 0, body, response.headers['retry-after']));
        socket.terminate();
      });
    });
    const wrapped = wrap(socket);
    const events = listen(wrapped);
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) events.message(data);
      else events.text(data.toString('utf8'));
    });
    let opened = false;
    let said: Pick<Socket, 'spreadMs' | 'badge'> = {};
    socket.on('upgrade', ({ headers }) => {
      const spreadMs = Number(headers[spreadHeader]);
      const badge = headers[badgeHeader];
      said = { ...(spreadMs > 0 ? { spreadMs } : {}), ...(typeof badge === 'string' ? { badge } : {}) };
    });
    socket.on('open', () => {
      settle();
      opened = true;
      resolve({ ...wrapped, ...said });
    });
    socket.on('close', (code, reason) => {
      if (opened) events.closed(code, reason.toString('utf8'));
    });
  });
}

function wrap(socket: WebSocket): Socket {
  return {
    send(bytes, sent) {
      socket.send(bytes, { binary: true }, () => sent?.());
    },
    sendText: (text) => socket.send(text, () => {}),
    bufferedBytes: () => socket.bufferedAmount,
    close(code, reason) {
      socket.close(code, reason);
      setTimeout(() => socket.terminate(), closeMs).unref();
    },
    destroy: () => socket.terminate(),
  };
}
