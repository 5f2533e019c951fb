/**
 * Writes to a channel of ssh2, one piece after the other: each waits for the client's window and for room on the
 * connection, so that a client that does not read makes the process behind the channel wait.
 */
import type { Writable } from 'node:stream';
import type { ServerChannel } from 'ssh2';
import type { StreamSocket } from './stream-socket.ts';

export class ChannelWriter {
  readonly #channel: ServerChannel;
  readonly #socket: StreamSocket;
  #release: (() => void) | undefined;
  #isOver = false;

  constructor(channel: ServerChannel, socket: StreamSocket) {
    this.#channel = channel;
    this.#socket = socket;
  }

  /** Resolves when the bytes went out within the client's window, and the connection has room for more. */
  async write(bytes: Buffer, stream: 'stdout' | 'stderr' = 'stdout'): Promise<void> {
    if (this.#isOver) return;
    const channel: ServerChannel = this.#channel;
    const target: Writable = stream === 'stderr' ? channel.stderr : channel;
    await new Promise<void>((resolve) => {
      this.#release = resolve;
      target.write(bytes, () => resolve());
    });
    this.#release = undefined;
    forgetWaited(channel);
    await this.#socket.whenRoom();
  }

  /** The client is gone: what waits is given up. */
  stop(): void {
    this.#isOver = true;
    this.#release?.();
  }
}

/**
 * ssh2 keeps the last piece that had to wait for the window, and sends it once more when a piece of the other stream has to
 * wait (1.17.0, `CHANNEL_WINDOW_ADJUST` in `server.js`). Each piece is written alone here, so what it keeps is always done.
 */
function forgetWaited(channel: ServerChannel): void {
  Object.assign(channel, { _chunk: undefined, _chunkcb: undefined, _chunkErr: undefined, _chunkcbErr: undefined });
}
