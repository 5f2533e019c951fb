/**
 * The WebSocket of a Jupyter client to a terminal: JSON lists in text messages, as terminado defines them
 * (https://github.com/jupyter/terminado, websocket.py).
 */
import { z } from 'zod';
import { TerminalWindow, terminalBounds } from '../../../schema/api/terminal-parts.ts';
import { PoliteSocket } from './polite-socket.ts';
import type { Unproven, UnprovenLimits } from './unproven.ts';

/** What a client may say; whatever else it says is passed over, as terminado does. */
export interface TerminalEars {
  typed(text: string): void;
  sized(window: TerminalWindow): void;
  /** It said what is no message. */
  wrong(words: string): void;
  /** The socket is closed, from whichever side. */
  gone(): void;
}

/**
 * A client that does not read is given up sooner than at a kernel, and may have less unread: what it missed is a screen,
 * and it comes back to that by itself. At most `capacityBytes` and what is refilled within `silenceMs` is held for it.
 */
export const unprovenTerminalLimits: Readonly<Record<'machine' | 'production', UnprovenLimits>> = {
  machine: { capacityBytes: 16 * 1024 * 1024, refillBytesPerSecond: 512 * 1024, silenceMs: 60_000 },
  production: { capacityBytes: 8 * 1024 * 1024, refillBytesPerSecond: 2 * 1024 * 1024, silenceMs: 60_000 },
};

const Stdin = z.tuple([z.literal('stdin'), z.string()], z.unknown());
const SetSize = z.tuple([z.literal('set_size'), z.number(), z.number()], z.unknown());

export class TerminalSocket {
  readonly #socket: PoliteSocket;

  /** @param socket accepted already */
  constructor(socket: WebSocket, unproven: Unproven) {
    this.#socket = new PoliteSocket(socket, unproven);
  }

  listen(ears: TerminalEars): void {
    const message = (data: string | ArrayBuffer): void => {
      this.#socket.heard();
      hear(data, ears);
    };
    this.#socket.listen({ message, gone: () => ears.gone() });
  }

  /** Sends when the client may have read enough. False: it never does. */
  send(message: readonly unknown[]): Promise<boolean> {
    return this.#socket.send(JSON.stringify(message));
  }

  close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }
}

function hear(data: string | ArrayBuffer, ears: TerminalEars): void {
  let said: unknown;
  try {
    said = JSON.parse(typeof data === 'string' ? data : new TextDecoder().decode(data));
  } catch {
    return ears.wrong('a message is a list in JSON');
  }
  if (!Array.isArray(said)) return ears.wrong('a message is a list in JSON');
  const stdin = Stdin.safeParse(said).data;
  if (stdin) return ears.typed(stdin[1]);
  const size = SetSize.safeParse(said).data;
  const window = size && toWindow(size[1], size[2]);
  if (window) ears.sized(window);
}

/** As far as a terminal can be so large. Undefined for a page that has no size yet. */
function toWindow(rows: number, columns: number): TerminalWindow | undefined {
  const most = { rows: terminalBounds.rows, columns: terminalBounds.columns };
  const window = { rows: Math.min(Math.floor(rows), most.rows), columns: Math.min(Math.floor(columns), most.columns) };
  return TerminalWindow.safeParse(window).data;
}
