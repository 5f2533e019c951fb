/**
 * A hibernatable WebSocket as the hubs' cores see it: what must survive hibernation is in `state` and is written to the
 * attachment (at most 16,384 bytes) by `keep`. Everything else about a socket is memory that may be gone at any moment.
 */
export interface HubSocket<State> {
  /** Mutable; call `keep` after a change that must survive hibernation. */
  readonly state: State;
  keep(): void;
  /** Sends a binary message. The buffer is the runtime's from now on. A socket that is closing takes nothing. */
  send(bytes: ArrayBufferView<ArrayBuffer> | ArrayBuffer): void;
  /** Idempotent. */
  close(code: number, reason: string): void;
  /** Unix ms of the last ping that the runtime answered for us, if any. */
  lastPongMs(): number | undefined;
}

/** The sockets of one object, found again after hibernation. */
export class HubSockets<State> {
  readonly #ctx: DurableObjectState;
  readonly #known = new Map<WebSocket, HubSocket<State>>();

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
    ctx.setWebSocketAutoResponse(new WebSocketRequestResponsePair('ping', 'pong'));
    for (const socket of ctx.getWebSockets()) {
      const state = socket.deserializeAttachment() as State | null;
      if (state !== null) this.#known.set(socket, wrap(ctx, socket, state));
    }
  }

  all(): HubSocket<State>[] {
    return [...this.#known.values()];
  }

  find(socket: WebSocket): HubSocket<State> | undefined {
    return this.#known.get(socket);
  }

  /** Accepts the server's end of a pair for hibernation. */
  accept(socket: WebSocket, state: State): HubSocket<State> {
    this.#ctx.acceptWebSocket(socket);
    const wrapped = wrap(this.#ctx, socket, state);
    wrapped.keep();
    this.#known.set(socket, wrapped);
    return wrapped;
  }

  forget(socket: WebSocket): void {
    this.#known.delete(socket);
  }
}

function wrap<State>(ctx: DurableObjectState, socket: WebSocket, state: State): HubSocket<State> {
  let closed = false;
  return {
    state,
    keep() {
      if (!closed) socket.serializeAttachment(state);
    },
    send(bytes) {
      if (closed) return;
      try {
        socket.send(bytes);
      } catch {
        // The peer is going: its close is on the way to us.
      }
    },
    close(code, reason) {
      if (closed) return;
      // What says that this socket is closing must be in the attachment: it stays listed, and pinged, until the peer answers.
      socket.serializeAttachment(state);
      closed = true;
      socket.close(code, reason);
    },
    lastPongMs: () => ctx.getWebSocketAutoResponseTimestamp(socket)?.getTime(),
  };
}

/** Answers a close so that the peer sees its own code and not 1006: the runtime leaves that to us. */
export function answerClose(socket: WebSocket, code: number, reason: string): void {
  const sendable =
    code === 1000 ||
    code === 1001 ||
    code === 1002 ||
    code === 1003 ||
    (code >= 1007 && code <= 1011) ||
    (code >= 3000 && code <= 4999);
  try {
    socket.close(sendable ? code : 1000, reason);
  } catch {
    // It was closed from our side already.
  }
}

/** The 101 answer to an upgrade, with the subprotocol that was chosen. */
export function upgraded(client: WebSocket, protocol: string): Response {
  return new Response(null, { status: 101, webSocket: client, headers: { 'sec-websocket-protocol': protocol } });
}
