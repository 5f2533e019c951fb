/** Reads the log of a kernel while it is written, to the end of its process. */
import { type KernelItem, KernelLogReader } from '../../schema/protocol/kernel-log.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { StreamName } from '../output/segment.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import type { Offsets } from './saved.ts';

export interface LogFollower {
  item(stream: StreamName, item: KernelItem): void;
  /** Bytes are missing, and with them perhaps the end of a run. */
  gap(): void;
  /** All before was told, on each stream. Called after each read. */
  seen(offsets: Offsets): void;
}

/** Resolves with the end of the process when all was told; undefined when `signal` aborted before. */
export async function followLog(
  spools: Spools,
  ref: SpoolRef,
  { kernelId, from, signal }: { kernelId: string; from: Offsets; signal: AbortSignal },
  follower: LogFollower,
): Promise<ProcessExit | undefined> {
  const kept = await spools.read(ref);
  if (kept === undefined) return undefined;
  const reader = new MergedReader(kept.spool, from, { live: true });
  const logs = {
    stdout: new KernelLogReader(kernelId, from.stdout),
    stderr: new KernelLogReader(kernelId, from.stderr),
  };
  const seen = () => follower.seen({ stdout: logs.stdout.position, stderr: logs.stderr.position });
  try {
    while (!signal.aborted) {
      const read = await reader.next();
      if (read === undefined) {
        if (reader.isAtEnd) break;
        await reader.whenMore(signal);
        continue;
      }
      const { stream } = read;
      if (read.kind === 'gap') follower.gap();
      const items = read.kind === 'gap' ? logs[stream].skip(read.gap.to) : logs[stream].push(read.offset, read.bytes);
      for (const item of items) follower.item(stream, item);
      seen();
    }
    if (signal.aborted) return undefined;
    for (const stream of ['stdout', 'stderr'] as const)
      for (const item of logs[stream].flush()) follower.item(stream, item);
    seen();
    return kept.spool.record.exit;
  } finally {
    await reader.close();
    await kept.done();
  }
}
