/**
 * Opens the connection under everything that we say to a control plane: TCP, through a proxy where one is set, TLS where the
 * address asks for it. It is handed out only after the other end has proved who it is: not one byte of a request leaves
 * before. There is no way around the check.
 */
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectTcp, isIP, type OnReadOpts, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { refusePeer } from './pins.ts';
import type { Proxy } from './proxy.ts';
import type { Way } from './way.ts';
import { WayError } from './way-error.ts';

export interface ConnectOptions {
  /** Aborts what is under way; nothing once the connection is there. */
  signal?: AbortSignal;
  /** Reads into one buffer again and again instead of emitting 'data'. */
  onread?: OnReadOpts;
}

const proxyMs = 15_000;

/** A connection to the host of `url` (http, https, ws, wss), proved. @throws WayError, or what the network says */
export async function connectTo(url: URL, way: Way, { signal, onread }: ConnectOptions = {}): Promise<Socket> {
  signal?.throwIfAborted();
  const secure = url.protocol === 'https:' || url.protocol === 'wss:';
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  const port = Number(url.port) || (secure ? 443 : 80);
  const proxy = way.proxyFor(url);
  const through = proxy === undefined ? undefined : await tunnel(proxy, host, port, way, signal);
  // Node reads into a buffer of ours only on a socket that it opens itself.
  const target =
    through === undefined ? { host, port, ...(onread === undefined ? {} : { onread }) } : { socket: through };
  if (!secure) {
    if ('host' in target) return settled(connectTcp(target), 'connect', signal);
    if (onread !== undefined) readInto(target.socket, onread);
    return target.socket;
  }
  const socket = connectTls({
    ...target,
    servername: isIP(host) === 0 ? host : '',
    // Pinned: no authority is asked, and what `refusePeer` says decides.
    ...(way.pins === undefined ? { secureContext: way.authorities() } : { rejectUnauthorized: false }),
  });
  try {
    await settled(socket, 'secureConnect', signal);
  } catch (error) {
    throw toTlsError(error, url.host);
  }
  requirePinned(socket, host, url.host, way.pins);
  if (through !== undefined && onread !== undefined) readInto(socket, onread);
  return socket;
}

function requirePinned(socket: TLSSocket, host: string, shown: string, pins: readonly string[] | undefined): void {
  if (pins === undefined) return;
  const why = refusePeer(socket, host, pins);
  if (why === undefined) return;
  socket.destroy();
  throw new WayError(
    'tls_pin_mismatch',
    `${shown} is not the control plane that was pinned (${pins.join(', ')}): ${why}`,
    'If its keys were changed on purpose, take the new pin from a fresh join line (causeway agent token create there); ' +
      'if not, something between here and it opens TLS: nothing was sent',
  );
}

/** Waits for `event`; the socket is destroyed when it is not to come. */
async function settled<S extends Socket>(socket: S, event: string, signal: AbortSignal | undefined): Promise<S> {
  try {
    await once(socket, event, signal === undefined ? {} : { signal });
    return socket;
  } catch (error) {
    // It may fail once more while it is taken down.
    socket.on('error', () => undefined).destroy();
    throw signal?.aborted ? (signal.reason as Error) : error;
  }
}

/** For a connection that is there already, and so can not be told to read into a buffer. */
function readInto(socket: Socket, reading: OnReadOpts): void {
  socket.on('data', (bytes: Uint8Array) => {
    if (!reading.callback(bytes.byteLength, bytes)) socket.pause();
  });
}

const untrusted = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'CERT_SIGNATURE_FAILURE',
]);

/** What TLS says, in words where a person can do something about it. */
function toTlsError(error: unknown, shown: string): unknown {
  const { code = '', message } = error as NodeJS.ErrnoException;
  const trust = 'give its pin as the join line has it (--pin sha256:...), or its authority in SSL_CERT_FILE';
  if (untrusted.has(code))
    return new WayError('tls_untrusted', `the certificate of ${shown} is of nobody that this machine believes`, trust);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return new WayError('tls_name_mismatch', `the certificate of ${shown} is for other names (${message})`, trust);
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return new WayError(
      'tls_expired',
      `the certificate of ${shown} is not good today (${code})`,
      'look at the clock of this machine, and at the certificate of the control plane',
    );
  if (code === 'ERR_SSL_WRONG_VERSION_NUMBER' || code === 'ERR_SSL_PACKET_LENGTH_TOO_LONG')
    return new WayError('tls_absent', `${shown} does not speak TLS`, 'look at the address: is it http:// there?');
  return error;
}

/** A tunnel through the proxy (CONNECT). */
async function tunnel(
  proxy: Proxy,
  host: string,
  port: number,
  way: Way,
  signal: AbortSignal | undefined,
): Promise<Socket> {
  const target = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const { authorization, name, variable } = proxy;
  const { status, socket, early } = await ask(proxy, target, way, signal);
  if (status >= 200 && status < 300 && early === 0) return socket;
  socket.on('error', () => undefined).destroy();
  if (status === 407)
    throw new WayError(
      'proxy_auth_required',
      authorization === undefined
        ? `the proxy ${name} wants a user name and a password (407)`
        : `the proxy ${name} does not take the user name and password of ${variable} (407)`,
      `set ${variable} to http://USER:PASSWORD@HOST:PORT, special characters percent-encoded`,
    );
  throw new WayError(
    'proxy_refused',
    `the proxy ${name} does not connect to ${target} (HTTP ${status})`,
    `have it allow ${target}, or name it in NO_PROXY`,
  );
}

interface Answered {
  status: number;
  socket: Socket;
  /** Bytes behind the answer, where none belong: we speak first. */
  early: number;
}

async function ask(proxy: Proxy, target: string, way: Way, signal: AbortSignal | undefined): Promise<Answered> {
  const { authorization, name, variable } = proxy;
  const asking = (proxy.secure ? httpsRequest : httpRequest)({
    host: proxy.host,
    port: proxy.port,
    method: 'CONNECT',
    path: target,
    headers: { host: target, ...(authorization === undefined ? {} : { 'proxy-authorization': authorization }) },
    agent: false,
    ...(proxy.secure ? { secureContext: way.authorities() } : {}),
  });
  // Not by the request's own signal, which would go on to cut the tunnel.
  const stop = (): void => void asking.destroy(new Error('no answer'));
  const timer = setTimeout(stop, proxyMs);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    asking.end();
    const [answer, socket, head] = (await once(asking, 'connect')) as [IncomingMessage, Socket, Buffer];
    return { status: answer.statusCode ?? 0, socket, early: head.byteLength };
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message;
    const hint = `look at ${variable} and NO_PROXY`;
    throw new WayError('proxy_unreachable', `the proxy ${name} can not be reached (${why})`, hint);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', stop);
  }
}
