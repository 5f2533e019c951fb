/** Echoes through the tunnel. */
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamOpen } from '../../../schema/protocol/streams.ts';
import type { ClientSocket } from '../../support/client-socket.ts';
import { pingPong } from '../peers/tcp.ts';

/** Opens a stream that sends back what it gets (`echo`, or a process like cat) and returns the times of 64-byte echoes in us. */
export async function echoThrough(socket: ClientSocket, open: StreamOpen, count: number): Promise<number[]> {
  let listener = (_data: Uint8Array): void => {};
  const stream = socket.open(open, {
    onData: (channel, payload) => {
      if (channel === channels.stdout) listener(payload);
    },
  });
  await stream.opened;
  const source = { on: (_: 'data', take: (data: Uint8Array) => void) => (listener = take) };
  const times = await pingPong(count, (payload) => void stream.send(payload), source);
  stream.reset();
  return times;
}
