/** Output in object storage, for other slices: reads what was handed over. */
import type { LinesOpen } from '../../../schema/protocol/lines.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import type { UserCtx } from '../../http/context.ts';
import { stillAllowed } from '../../http/access.ts';
import { blobsOf } from '../../platform/blobs.ts';
import { findArchive } from './find.ts';
import type { ArchivedProcess, StoredChunk } from './keys.ts';
import { type LogsOpen, readLines, readLogs, startsOf } from './read.ts';

export interface StoredLogs {
  generation: number;
  /** Offsets of the first bytes that come. */
  from: { stdout: number; stderr: number };
  items: AsyncGenerator<StreamItem>;
}

/**
 * What was handed over of a process, as its agent would answer `toOpen` of the generation that is there. Undefined when
 * there is nothing, or `toOpen` wants nothing of that generation. Whether the actor may read it was decided by whoever
 * asks, and is looked at again while it reads.
 */
export async function openStored(
  ctx: UserCtx,
  process: ArchivedProcess & { projectId: string },
  toOpen: (generation: number) => LogsOpen | LinesOpen | undefined,
): Promise<StoredLogs | undefined> {
  const blobs = blobsOf(ctx);
  const archive = blobs && (await findArchive(blobs, process));
  if (!blobs || !archive) return undefined;
  const open = toOpen(archive.generation);
  if (!open) return undefined;
  const pause = () => scheduler.wait(0);
  const reading = { blobs, archive, pause, allowed: stillAllowed(ctx, process.projectId) };
  const starts = await startsOf(reading, open);
  const items = open.op === 'lines' ? readLines(reading, starts, open) : readLogs(reading, starts);
  const from = {
    stdout: keptFrom(archive.chunks.stdout, starts.stdout ?? 0),
    stderr: keptFrom(archive.chunks.stderr, starts.stderr ?? 0),
  };
  return { generation: archive.generation, from, items };
}

/** The first offset from `from` on of which the byte is there. */
function keptFrom(chunks: readonly StoredChunk[], from: number): number {
  return Math.max(from, chunks.find(({ end }) => end > from)?.start ?? from);
}
