/** Cuts a stream's log into the chunks of object storage: never over missing bytes, never more than one in memory. */
import { chunkOutputBytes, chunkRecords, type TimedBytes } from '../../schema/log/chunk.ts';
import { isUnreadable } from '../output/read-again.ts';
import type { GapReason } from '../output/record.ts';
import type { StreamLog } from '../output/stream-log.ts';
import { StreamReader } from '../output/stream-reader.ts';

export interface Chunk {
  /** Its bytes are [from, to); none when nothing is stored behind what is missing. */
  from: number;
  to: number;
  records: TimedBytes[];
  /** Why the bytes between what was asked for and `from` are missing; absent when none are. */
  missing: GapReason | undefined;
}

export interface ChunkLimits {
  /** The chunk ends here at the latest. */
  limit?: number | undefined;
  /** What the disk does not give counts as missing. */
  givesUp: boolean;
}

/** The chunk that begins at `from`, or behind what is missing there. @throws what the disk says that does not give it */
export async function readChunk(
  log: StreamLog,
  from: number,
  { limit = Number.POSITIVE_INFINITY, givesUp }: ChunkLimits,
): Promise<Chunk> {
  const reader = new StreamReader(log, from, { live: false, givesUp });
  const chunk: Chunk = { from, to: from, records: [], missing: undefined };
  const room = () => Math.min(limit, chunk.from + chunkOutputBytes) - chunk.to;
  try {
    while (room() > 0 && chunk.records.length < chunkRecords) {
      const item = await reader.next().catch((error: unknown) => {
        // What was read before is a chunk of its own, unless another was planned.
        if (chunk.records.length > 0 && limit === Number.POSITIVE_INFINITY && isUnreadable(error)) return undefined;
        throw error;
      });
      if (item === undefined || (item.kind === 'gap' && chunk.records.length > 0)) break;
      if (item.kind === 'gap') {
        chunk.missing = item.gap.reason;
        chunk.from = chunk.to = item.gap.to;
        continue;
      }
      const bytes = item.bytes.subarray(0, room());
      // The reader uses its buffer again.
      chunk.records.push({ timeMs: item.timeMs, bytes: Buffer.from(bytes) });
      chunk.to += bytes.byteLength;
    }
    return chunk;
  } finally {
    await reader.close();
  }
}
