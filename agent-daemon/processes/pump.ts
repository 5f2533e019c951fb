/** Carries kept output to a client under its credit: gaps in their place, the exit after everything. */
import type { ProcessEvent } from '../../schema/protocol/streams.ts';
import { channels } from '../../schema/protocol/frame.ts';
import type { AgentStream } from '../dispatch.ts';
import { MergedReader } from '../output/merged-reader.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import type { OutputItem } from '../output/stream-reader.ts';

export interface PumpOptions {
  /** Offsets to begin at; a stream that is not named is not sent. */
  from: Partial<Record<StreamName, number>>;
  /** Goes on with what is written from now on, to the end of the process. */
  follow: boolean;
}

/** Sends what is asked for and resolves when it is over: nothing more will come, or (without `follow`) is kept now. */
export async function pumpOutput(stream: AgentStream, spool: ProcessSpool, options: PumpOptions): Promise<void> {
  const reader = new MergedReader(spool, options.from, { live: options.follow });
  for (const name of ['stdout', 'stderr'] as const) {
    const offset = options.from[name];
    if (offset !== undefined) stream.seek(channels[name], offset);
  }
  try {
    await pump(stream, reader, options.follow);
    if (!reader.isAtEnd) return;
  } finally {
    await reader.close();
  }
  const { exit } = spool.record;
  if (exit === undefined) return;
  const { exitCode, signal, reason } = exit;
  await send(stream, {
    kind: 'exit',
    ...(exitCode === undefined ? {} : { exitCode }),
    ...(signal === undefined ? {} : { signal }),
    reason,
    ends: reader.ends,
  });
}

async function pump(stream: AgentStream, reader: MergedReader, follow: boolean): Promise<void> {
  while (!stream.closed.aborted) {
    const item = await reader.next();
    if (item !== undefined) await sendItem(stream, item);
    else if (!follow || reader.isAtEnd) return;
    else await reader.whenMore(stream.closed);
  }
}

async function sendItem(stream: AgentStream, item: OutputItem): Promise<void> {
  if (item.kind === 'gap') {
    await send(stream, { kind: 'gap', stream: item.stream, ...item.gap });
    stream.seek(channels[item.stream], item.gap.to);
    return;
  }
  // The reader uses its buffer again for the next item.
  await stream.lend(channels[item.stream], item.bytes);
}

export function send(stream: AgentStream, event: ProcessEvent): Promise<void> {
  return stream.writeControl(event);
}
