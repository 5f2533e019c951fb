/** The echo operations: what comes goes back. They measure the tunnel, and nothing else of the agent. */
import { channels } from '../../schema/protocol/frame.ts';
import type { CallHandler, StreamHandler } from '../dispatch.ts';

export const echoCall: CallHandler<'echo'> = ({ text }) => Promise.resolve({ text });

/** Input comes back on stdout. */
export const echoStream: StreamHandler<'echo'> = async (_, stream) => {
  stream.opened({});
  for await (const { channel, bytes, end } of stream.read()) {
    if (channel !== channels.input) continue;
    if (end) break;
    await stream.write(channels.stdout, bytes);
  }
};
