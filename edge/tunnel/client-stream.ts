/**
 * Streams of a session for the Worker itself, which serves bytes over HTTP: a client socket of the session's data hub like
 * any other, with the shared engine on it. Nothing is read faster than whoever asks for it takes it.
 */
import { isErrorCode, Refusal } from '../../schema/errors.ts';
import { Endpoint } from '../../schema/protocol/endpoint.ts';
import { FrameError } from '../../schema/protocol/frame.ts';
import { clientProtocol, closeCodes, limits } from '../../schema/protocol/limits.ts';
import { type Stream, type StreamEnd, StreamOver } from '../../schema/protocol/stream.ts';
import type { StreamOpen, StreamOpened } from '../../schema/protocol/streams.ts';
import { dataHubObject } from '../platform/objects.ts';
import { type ClientSocketClaim, toHub } from './rpc.ts';

export interface OpenedStream {
  stream: Stream;
  opened: StreamOpened;
  /** Lets go of the socket; a stream that is not over is reset. */
  close(): void;
}

/** What went wrong between edge and agent: whoever asked did nothing wrong, and asks again. */
const broken = new Set(['tunnel_frame_invalid', 'tunnel_window_exceeded', 'tunnel_stream_unknown']);

/** What a reset, or the loss of the socket, means to a caller of HTTP. */
export function toRefusal({ code, detail }: StreamEnd): Refusal {
  if (broken.has(code)) return new Refusal('tunnel_closed', detail, { retryAfterSeconds: 1 });
  return isErrorCode(code) ? new Refusal(code, detail) : new Refusal('tunnel_closed', `The stream ended: ${code}.`);
}

/** Refusal of whatever a stream failed with; anything else is passed on. */
export function refusalOf(error: unknown): unknown {
  return error instanceof StreamOver ? toRefusal(error) : error;
}

/** Opens one stream and waits until the agent accepted it. @throws Refusal with the code of the agent or the hub */
export async function openStream(
  env: Env,
  hub: string,
  claim: ClientSocketClaim,
  open: StreamOpen,
): Promise<OpenedStream> {
  const headers = { upgrade: 'websocket', 'sec-websocket-protocol': clientProtocol };
  const response = await dataHubObject(env, hub).fetch(
    toHub(new Request('https://hub/', { headers }), 'client', claim),
  );
  const socket = response.webSocket;
  if (!socket) throw new Refusal('tunnel_closed', 'The data hub took no socket.');
  const endpoint = attach(socket);
  const stream = endpoint.open(open);
  const close = () => {
    stream.reset('tunnel_closed', 'The reader went away.');
    // The reset must leave before the socket does.
    queueMicrotask(() => socket.close(closeCodes.normal, 'done'));
  };
  try {
    return { stream, opened: await stream.whenOpened, close };
  } catch (error) {
    close();
    throw refusalOf(error);
  }
}

function attach(socket: WebSocket): Endpoint {
  socket.binaryType = 'arraybuffer';
  const endpoint = new Endpoint(
    {
      send: (message, sent) => {
        // The hub's grants follow what the agent reads; this socket itself tells nothing about what it has sent.
        if (socket.readyState === WebSocket.OPEN) socket.send(message);
        sent();
      },
      soon: (task) => queueMicrotask(task),
      nowMs: () => performance.now(),
    },
    { maxWindowBytes: limits.maxWindowBytes, freshBuffers: true },
  );
  socket.addEventListener('message', ({ data }) => {
    if (typeof data === 'string') return;
    try {
      endpoint.receive(new Uint8Array(data as ArrayBuffer));
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
      endpoint.close('tunnel_frame_invalid', error.message);
      socket.close(closeCodes.protocolError, error.rule);
    }
  });
  socket.addEventListener('close', ({ code }) => {
    const revoked = code === closeCodes.revoked;
    endpoint.close(revoked ? 'auth_revoked' : 'tunnel_closed', revoked ? undefined : `The data hub closed (${code}).`);
  });
  socket.accept();
  return endpoint;
}
