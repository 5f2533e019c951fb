/**
 * Output as server-sent events: `output` {stream, offset, base64}, `gap`, `exit`, and after 15 minutes `cursor`, each with
 * an id that `Last-Event-ID` continues from. Bytes are base64: they may be anything.
 */
import { channels } from '../../../schema/protocol/frame.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import { ProcessEvent } from '../../../schema/protocol/streams.ts';
import type { UserCtx } from '../../http/context.ts';
import { toBase64 } from '../../platform/base64.ts';
import { refusalOf } from '../../tunnel/client-stream.ts';
import { type LogCursor, type OpenedLogs, type Render, renderEvent } from './opened-logs.ts';

/** The client comes again with its cursor: no request of ours lives for ever. */
const lifeMs = 15 * 60_000;
/** A comment keeps proxies from thinking that nobody is there. */
const quietMs = 15_000;

/** Output as it was written. */
export const renderItem: Render = (item, cursor) => {
  if (item.end) return '';
  if (item.channel === channels.control) {
    const event = ProcessEvent.safeParse(parseJson(item.bytes));
    return event.success ? renderEvent(event.data.kind, event.data, cursor) : '';
  }
  const stream = item.channel === channels.stderr ? 'stderr' : 'stdout';
  cursor[stream] = item.offset + item.bytes.byteLength;
  return renderEvent('output', { stream, offset: item.offset, base64: toBase64(item.bytes) }, cursor);
};

/** The opened output as a body of events. */
export function toEvents(ctx: UserCtx, logs: OpenedLogs, render: Render): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const encoder = new TextEncoder();
  const cursor: LogCursor = { generation: logs.generation, ...logs.from };
  let quiet: ReturnType<typeof setInterval> | undefined;
  let isOver = false;
  const pump = async () => {
    // The end comes between two events, so that its cursor is exact.
    const life = setTimeout(() => {
      isOver = true;
      logs.close();
    }, lifeMs);
    quiet = setInterval(() => void writer.write(encoder.encode(':\n\n')).catch(() => logs.close()), quietMs);
    try {
      for await (const item of logs.items) {
        const text = render(item, cursor);
        if (text !== '') await writer.write(encoder.encode(text));
      }
      await writer.close();
    } catch (error) {
      if (isOver) {
        await writer.write(encoder.encode(renderEvent('cursor', cursor, cursor)));
        await writer.close();
      } else await writer.abort(refusalOf(error));
    } finally {
      clearTimeout(life);
      clearInterval(quiet);
      logs.close();
    }
  };
  ctx.waitUntil(pump());
  return readable;
}
