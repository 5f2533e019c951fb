/**
 * Checks that output goes on byte for byte, for readers that could not tell that some of it is missing: every piece, and
 * END, lies where the bytes before it ended, or behind an announced gap (SPEC rules S2, S7).
 */
import { z } from 'zod';
import { type Channel, channels } from './frame.ts';
import type { StreamItem } from './inbox.ts';
import { parseJson } from './json.ts';
import { StreamOver } from './stream.ts';

/** What every operation says of a gap. */
const Gap = z.object({ kind: z.literal('gap'), stream: z.enum(['stdout', 'stderr']), to: z.int() });

/** The same items. `from`: where each output begins, in bytes. @throws StreamOver `tunnel_frame_invalid` at a hole */
export async function* continuous(
  items: AsyncIterable<StreamItem>,
  { stdout = 0, stderr = 0 }: { stdout?: number; stderr?: number } = {},
): AsyncGenerator<StreamItem, void, void> {
  const next = new Map<Channel, number>([
    [channels.stdout, stdout],
    [channels.stderr, stderr],
  ]);
  for await (const item of items) {
    const { channel, offset, bytes, end } = item;
    const wanted = next.get(channel);
    if (wanted !== undefined) {
      // An output that was not asked for ends where nothing was sent.
      if (end ? offset > wanted : offset !== wanted) throw holeAt(item, wanted);
      next.set(channel, offset + bytes.byteLength);
    } else if (!end) {
      const gap = Gap.safeParse(parseJson(bytes)).data;
      if (gap !== undefined) next.set(channels[gap.stream], Math.max(next.get(channels[gap.stream]) ?? 0, gap.to));
    }
    yield item;
  }
}

function holeAt({ channel, offset }: StreamItem, wanted: number): StreamOver {
  const detail = `Byte ${offset} of channel ${channel} came where ${wanted} was to come.`;
  return new StreamOver({ code: 'tunnel_frame_invalid', detail });
}
