/** The WebSocket of a Jupyter client, in the dialect that it asked for. */
import { FramingError, type Message, splitMessage, toRecord } from '../../../schema/protocol/jupyter-framing.ts';
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

const maxReasonBytes = 120;

export class ClientSocket {
  readonly #socket: WebSocket;
  readonly #dialect: Dialect;
  readonly #unproven: Unproven;
  #isOpen = true;

  /** @param socket accepted already */
  constructor(socket: WebSocket, dialect: Dialect, unproven: Unproven) {
    this.#socket = socket;
    this.#dialect = dialect;
    this.#unproven = unproven;
  }

  listen(ears: ClientEars): void {
    const gone = () => {
      this.#isOpen = false;
      this.#unproven.stop();
      ears.gone();
    };
    this.#socket.addEventListener('message', ({ data }) => ears.message(this.#read(data as string | ArrayBuffer)));
    this.#socket.addEventListener('close', ({ code }) => {
      // Ours to answer: the other end would see 1006 else.
      if (this.#isOpen) this.#socket.close(code === 1005 || code === 1006 ? 1000 : code, 'bye');
      gone();
    });
    this.#socket.addEventListener('error', gone);
  }

  /** The client spoke. */
  heard(): void {
    this.#unproven.heard();
  }

  /** Sends a message, given by its parts and as v1 bytes, when the client may have read enough. False: it never does. */
  async send(message: Message, bytes: Uint8Array): Promise<boolean> {
    const said = this.#dialect === 'v1' ? bytes : textOrNothing(message);
    if (said === undefined) return true;
    if (!(await this.#unproven.spend(said.length))) return false;
    if (this.#isOpen) this.#socket.send(said);
    return true;
  }

  close(code: number, reason: string): void {
    this.#unproven.stop();
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#socket.close(code, new TextDecoder().decode(new TextEncoder().encode(reason).slice(0, maxReasonBytes)));
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
