/** Reads the log of one start of a kernel for its executions alone. */
import { ChannelsEvent } from '../../../schema/protocol/channels.ts';
import { continuous } from '../../../schema/protocol/continuity.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import type { OpenedStream } from '../../tunnel/client-stream.ts';
import { Executions } from './executions.ts';
import { type LogPosition, RecordReader, splitMessage } from '../../../schema/protocol/jupyter-framing.ts';

/** Those up to `end`, from a stream that begins with the log; ends the stream. */
export async function scanExecutions(
  opened: OpenedStream,
  { starts, offset: end }: LogPosition,
  isOver: () => boolean,
): Promise<Executions> {
  const executions = new Executions();
  const reader = new RecordReader(0);
  try {
    for await (const { channel, bytes, end: isEnd } of continuous(opened.stream.read())) {
      if (isEnd) continue;
      if (channel === channels.control) {
        const event = ChannelsEvent.parse(parseJson(bytes));
        if (event.kind === 'begun') reader.skip(event.from);
        else if (event.kind === 'gap') reader.skip(event.to);
      } else if (channel === channels.stdout)
        for (const record of reader.push(bytes)) executions.see(starts, record, splitMessage(record.message));
      if (reader.position >= end || isOver()) break;
    }
  } finally {
    opened.close();
  }
  return executions;
}
