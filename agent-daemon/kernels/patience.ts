/** Sends the log of a Jupyter kernel, which is many clients': one that takes nothing is not waited for by the others for long. */
import type { Timers } from '../../schema/ports.ts';
import type { Channel } from '../../schema/protocol/frame.ts';
import type { AgentStream } from '../dispatch.ts';
import type { AlignedReader } from './aligned-reader.ts';

/** A full log waits for a reader that takes something at least this often. */
const patienceMs = 10_000;

/** Resolves when all bytes were taken: the reader uses its buffer again for its next item. */
export async function lendPatiently(
  stream: AgentStream,
  { channel, bytes, reader, timers }: { channel: Channel; bytes: Uint8Array; reader: AlignedReader; timers: Timers },
): Promise<void> {
  const cancel = timers.after(patienceMs, () => reader.letGo());
  try {
    await stream.lend(channel, bytes);
  } finally {
    cancel();
    reader.hold();
  }
}
