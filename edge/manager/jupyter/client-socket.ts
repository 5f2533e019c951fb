/** The WebSocket of a Jupyter client, in the dialect that it asked for. */
import { FramingError, type Message, splitMessage, toRecord } from '../../../schema/protocol/jupyter-framing.ts';
import { PoliteSocket } from './polite-socket.ts';
import { fromText, toText } from './text-dialect.ts';
import type { Unproven } from './unproven.ts';

export const v1Protocol = 'v1.kernel.websocket.jupyter.org';
/** What a client may send, and is sent, in one message: the runtime closes the socket at 32 MiB. */
export const clientMessageBytes = 30 * 1024 * 1024;

export type Dialect = 'v1' | 'text';

/** What comes: in the v1 dialect a record as it goes into the tunnel, else a message by its parts; or what is wrong with it. */
export interface ClientEars {
  message(said: Message | Uint8Array<ArrayBuffer> | FramingError): void;
  /** The socket is closed, from whichever side. */
  gone(): void;
}

/** The dialect that a request asks for. */
export function dialectOf(request: Request): Dialect {
  const offered = (request.headers.get('sec-websocket-protocol') ?? '').split(',').map((each) => each.trim());
  return offered.includes(v1Protocol) ? 'v1' : 'text';
}

export class ClientSocket {
  readonly #socket: PoliteSocket;
  readonly #dialect: Dialect;

  /** @param socket accepted already */
  constructor(socket: WebSocket, dialect: Dialect, unproven: Unproven) {
    this.#socket = new PoliteSocket(socket, unproven);
    this.#dialect = dialect;
  }

  listen(ears: ClientEars): void {
    this.#socket.listen({ message: (data) => ears.message(this.#read(data)), gone: () => ears.gone() });
  }

  /** The client spoke. */
  heard(): void {
    this.#socket.heard();
  }

  /** Sends a message, given by its parts and as v1 bytes, when the client may have read enough. False: it never does. */
  async send(message: Message, bytes: Uint8Array): Promise<boolean> {
    const said = this.#dialect === 'v1' ? bytes : textOrNothing(message);
    return said === undefined || this.#socket.send(said);
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }

  #read(data: string | ArrayBuffer): Message | Uint8Array<ArrayBuffer> | FramingError {
    const size = typeof data === 'string' ? data.length : data.byteLength;
    if (size > clientMessageBytes) return new FramingError(`a message has at most ${clientMessageBytes} bytes`, true);
    try {
      if (this.#dialect === 'text') return fromText(typeof data === 'string' ? data : new Uint8Array(data));
      if (typeof data === 'string') return new FramingError('this dialect is binary');
      const bytes = new Uint8Array(data);
      splitMessage(bytes);
      return toRecord(bytes);
    } catch (error) {
      if (error instanceof FramingError) return error;
      throw error;
    }
  }
}

/** A message that has no valid header can not be said in text: left out, as jupyter-server does. */
function textOrNothing(message: Message): string | Uint8Array<ArrayBuffer> | undefined {
  try {
    return toText(message);
  } catch (error) {
    if (error instanceof FramingError) return undefined;
    throw error;
  }
}
