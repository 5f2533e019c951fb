/** Reads the log of a kernel while it is written, to the end of its process. */
import { type KernelItem, KernelLogReader } from '../../schema/protocol/kernel-log.ts';
import { type Insistence, insist } from '../deadline.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessExit } from '../output/process-record.ts';
import type { StreamName } from '../output/segment.ts';
import type { SpoolRef, Spools } from '../output/spools.ts';
import type { Offsets } from './saved.ts';

export interface LogFollower {
  item(stream: StreamName, item: KernelItem): void;
  /** Bytes are missing, and with them perhaps the end of a run. */
  gap(): void;
  /** All that was there at first was told. */
  caughtUp(): void;
  /** All before was told, on each stream. Called after each read. */
  seen(offsets: Offsets): void;
}

interface Following extends Insistence {
  kernelId: string;
  from: Offsets;
}

/** Resolves with the end of the process when all was told; undefined when `signal` aborted before. Where the disk fails, it waits. */
export async function followLog(
  spools: Spools,
  ref: SpoolRef,
  { kernelId, from, ...insistence }: Following,
  follower: LogFollower,
): Promise<ProcessExit | undefined> {
  const logs = {
    stdout: new KernelLogReader(kernelId, from.stdout),
    stderr: new KernelLogReader(kernelId, from.stderr),
  };
  const seen = () => follower.seen({ stdout: logs.stdout.position, stderr: logs.stderr.position });
  const { signal } = insistence;
  const readTo = { ...from };
  const exit = await insist(insistence, async () => {
    const kept = await spools.read(ref);
    if (kept === undefined) return undefined;
    const reader = new MergedReader(kept.spool, readTo, { live: true });
    try {
      while (!signal.aborted) {
        const item = await reader.next();
        if (item === undefined) {
          follower.caughtUp();
          if (reader.isAtEnd) return kept.spool.record.exit;
          await reader.whenMore(signal);
          continue;
        }
        const { stream } = item;
        readTo[stream] = item.kind === 'gap' ? item.gap.to : item.offset + item.bytes.byteLength;
        if (item.kind === 'gap') follower.gap();
        const log = logs[stream];
        for (const said of item.kind === 'gap' ? log.skip(item.gap.to) : log.push(item.offset, item.bytes))
          follower.item(stream, said);
        seen();
      }
      return undefined;
    } finally {
      await reader.close();
      await kept.done();
    }
  });
  if (exit === undefined || signal.aborted) return undefined;
  for (const stream of ['stdout', 'stderr'] as const)
    for (const item of logs[stream].flush()) follower.item(stream, item);
  seen();
  return exit;
}
