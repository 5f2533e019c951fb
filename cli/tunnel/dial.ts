/**
 * Client sockets (`causeway.client.v1`) over `ws`: dials one socket of a session and puts the shared stream engine on
 * it. Decides nothing: whoever uses a stream decides whether to come again.
 */
import { WebSocket } from 'ws';
import { Problem } from '../../schema/api/problem.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { FrameError } from '../../schema/protocol/frame.ts';
import { clientProtocol, closeCodes, limits } from '../../schema/protocol/limits.ts';
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { StreamOpen } from '../../schema/protocol/streams.ts';
import { type CreateConnection, handOver } from '../../wire/http.ts';
import type { Way } from '../../wire/way.ts';
import { CliFailure, exitStatus } from '../exit.ts';
import type { Api } from '../http/api.ts';
import { wayFailure } from '../http/way-failure.ts';
import { hintFor } from '../http/hints.ts';
import { TappedSocket } from './tapped-socket.ts';

export interface ClientSocket {
  /** The placement of the session that it leads to, where that was told. */
  readonly generation?: number;
  open(request: StreamOpen): Stream;
  /** Resolves when the socket has closed, with what that means; never rejects. */
  readonly closed: Promise<StreamOver>;
  close(): void;
}

/**
 * Dials one socket, `generation`: to this placement of the session only. Rejects with `StreamOver` when another try can help
 * (the way is cut, the agent is out of reach), with `CliFailure` when none can.
 */
export type Dialler = (signal: AbortSignal, generation?: number) => Promise<ClientSocket>;

const handshakeMs = 15_000;
const maxProblemBytes = 16 * 1024;
/** HTTP answers to the upgrade after which the same request can succeed a moment later. */
const passingStatuses = new Set([429, 500, 502, 503, 504]);

/** What a close says about the streams that it ended. */
const closeMeanings: Record<number, { code: string; detail?: string }> = {
  [closeCodes.revoked]: { code: 'auth_revoked' },
  [closeCodes.refused]: { code: 'access_denied' },
  [closeCodes.gone]: { code: 'session_not_found' },
  [closeCodes.moved]: { code: 'session_generation_stale' },
  [closeCodes.unreachable]: { code: 'agent_unreachable' },
  [closeCodes.policy]: {
    code: 'tunnel_frame_invalid',
    detail: 'the control plane closed the connection for a broken rule',
  },
  [closeCodes.protocolError]: {
    code: 'tunnel_frame_invalid',
    detail: 'the control plane did not understand this client',
  },
};

/** A dialler for one of the sockets of one session. */
export function dialSession(
  api: Api,
  sessionId: string,
  kind: 'exec' | 'logs' | 'execute' | 'ssh' | 'ports' | `terminals/${string}`,
): Dialler {
  return dialPath(api, `/v1/sessions/${sessionId}/${kind}`);
}

/** A dialler for the one terminal that a link is of; `api` is the link's. */
export function dialLink(api: Api, terminalId: string): Dialler {
  return dialPath(api, `/v1/shared-terminals/${terminalId}`);
}

function dialPath(api: Api, path: string): Dialler {
  const url = api.url(path);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return (signal, generation) => {
    if (generation !== undefined) url.searchParams.set('generation', String(generation));
    else url.searchParams.delete('generation');
    return dial(url, api.way, api.context.token, signal);
  };
}

function dial(url: URL, way: Way, token: string, signal: AbortSignal): Promise<ClientSocket> {
  const secure = url.protocol === 'wss:';
  // Over TLS and loopback nothing reads the mask, and masking is half of the cost of sending.
  const unmasked = secure || ['127.0.0.1', '[::1]', 'localhost'].includes(url.hostname);
  let receive: Receive = () => undefined;
  const createConnection: CreateConnection = (_options, created) => {
    const tap = { maxBytes: limits.messageBytes, binary: (piece: Uint8Array, last: boolean) => receive(piece, last) };
    const opening = AbortSignal.any([signal, AbortSignal.timeout(handshakeMs)]);
    return handOver(TappedSocket.open(url, way, tap, opening), created);
  };
  const socket = new WebSocket(url, clientProtocol, {
    // The types ask for the function of `node:net`; what is called is handed to `node:http`, which takes either form.
    createConnection: createConnection as unknown as typeof import('node:net').createConnection,
    headers: { authorization: `Bearer ${token}` },
    perMessageDeflate: false,
    maxPayload: limits.messageBytes,
    handshakeTimeout: handshakeMs,
    followRedirects: false,
    ...(unmasked ? { generateMask: (mask: Buffer) => void mask.fill(0) } : {}),
  });
  socket.binaryType = 'nodebuffer';
  const wrapped = wrap(socket);
  receive = wrapped.receive;
  return new Promise((resolve, reject) => {
    const abort = () => {
      socket.terminate();
      reject(new StreamOver({ code: 'tunnel_closed' }));
    };
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    let generation: number | undefined;
    socket.on('upgrade', ({ headers }) => {
      const told = Number(headers['causeway-generation']);
      if (told > 0) generation = told;
    });
    socket.on('open', () => {
      signal.removeEventListener('abort', abort);
      resolve(generation === undefined ? wrapped.client : { ...wrapped.client, generation });
    });
    socket.on('error', (error) =>
      reject(wayFailure(error, exitStatus.notRun) ?? new StreamOver({ code: 'tunnel_closed', detail: error.message })),
    );
    socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        if (body.length < maxProblemBytes) body += part;
      });
      response.on('end', () => {
        reject(refusalOf(response.statusCode ?? 0, body));
        socket.terminate();
      });
      response.on('error', () => reject(new StreamOver({ code: 'tunnel_closed' })));
    });
  });
}

function refusalOf(status: number, body: string): Error {
  let problem: Problem | undefined;
  try {
    problem = Problem.parse(JSON.parse(body));
  } catch {
    problem = undefined;
  }
  if (passingStatuses.has(status))
    return new StreamOver({
      code: problem?.code ?? 'tunnel_closed',
      ...(problem?.detail ? { detail: problem.detail } : {}),
    });
  if (problem === undefined)
    return new CliFailure(`the control plane answered HTTP ${status} instead of opening a stream`, {
      status: exitStatus.notRun,
    });
  return new CliFailure(`${problem.title}${problem.detail === undefined ? '' : `: ${problem.detail}`}`, {
    code: problem.code,
    hint: hintFor(problem.code),
    status: exitStatus.notRun,
  });
}

/** Takes bytes of a binary message, valid during the call. */
type Receive = (piece: Uint8Array, last: boolean) => void;

function wrap(socket: WebSocket): { client: ClientSocket; receive: Receive } {
  const endpoint = new Endpoint(
    {
      send: (message, sent) => socket.send(message, { binary: true }, () => sent()),
      soon: (task) => void setImmediate(task),
      nowMs: () => performance.now(),
    },
    { maxWindowBytes: limits.maxWindowBytes },
  );
  let heardAtMs = performance.now();
  const ping = setInterval(() => {
    if (performance.now() - heardAtMs > limits.silentMs) socket.terminate();
    else if (socket.readyState === WebSocket.OPEN) socket.send('ping');
  }, limits.pingEveryMs);
  const receive: Receive = (piece, last) => {
    heardAtMs = performance.now();
    try {
      endpoint.receivePiece(piece, last);
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      socket.close(closeCodes.protocolError, error.rule);
      endpoint.close('tunnel_frame_invalid', error.message);
    }
  };
  // What did not come past `ws` already: texts, and messages in fragments.
  socket.on('message', (data: Buffer, isBinary) => {
    heardAtMs = performance.now();
    if (isBinary) receive(data, true);
  });
  socket.on('error', () => undefined); // a close follows
  const { promise: closed, resolve: nowClosed } = Promise.withResolvers<StreamOver>();
  socket.on('close', (code) => {
    clearInterval(ping);
    const meaning = closeMeanings[code] ?? { code: 'tunnel_closed' };
    endpoint.close(meaning.code, meaning.detail);
    nowClosed(new StreamOver(meaning));
  });
  const client = {
    closed,
    open: (request: StreamOpen) => endpoint.open(request),
    close: () => {
      // Ended streams have said so; what is queued for them still goes out before the close.
      setImmediate(() => socket.close(closeCodes.normal));
      setTimeout(() => socket.terminate(), 2000).unref();
    },
  };
  return { client, receive };
}
