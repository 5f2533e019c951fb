/** What comes by a channel goes to whoever takes it, one piece at a time and as fast as it does. */
import type { ServerChannel } from 'ssh2';
import type { StreamSocket } from './stream-socket.ts';

export interface Taker {
  /** Resolves when there is room for more; false when nobody takes anything any more. */
  write(bytes: Uint8Array): Promise<boolean>;
  /** Nothing more will come. */
  endInput(): void;
}

/** Beyond, the client is told to wait. */
const unreadBytes = 64 * 1024;

export function feedFrom(channel: ServerChannel, taker: Taker, socket: StreamSocket): void {
  const take = async (bytes: Buffer): Promise<void> => {
    // When nobody reads any more, what still comes is dropped, as by a pipe that is closed.
    if (!(await taker.write(bytes))) channel.removeListener('data', onData);
    channel.resume();
    socket.poke();
  };
  const onData = (bytes: Buffer): void => {
    channel.pause();
    void take(bytes);
  };
  // ssh2 gives a new window until a whole one waits here, so that a channel nobody reads would hold half a window more.
  (channel as unknown as { _readableState: { highWaterMark: number } })._readableState.highWaterMark = unreadBytes;
  channel.on('data', onData);
  channel.on('end', () => taker.endInput());
}
