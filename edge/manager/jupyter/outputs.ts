/**
 * The log of a kernel as bytes: records of its messages (`schema/protocol/channels.ts`), from any place that is kept. For
 * whoever wants all that a kernel said, whoever was connected, and counts what it has.
 */
import { z } from 'zod';
import { Refusal } from '../../../schema/errors.ts';
import { ChannelsEvent } from '../../../schema/protocol/channels.ts';
import { continuous } from '../../../schema/protocol/continuity.ts';
import { channels } from '../../../schema/protocol/frame.ts';
import type { StreamItem } from '../../../schema/protocol/inbox.ts';
import { parseJson } from '../../../schema/protocol/json.ts';
import type { UserCtx } from '../../http/context.ts';
import { openStream, type OpenedStream, refusalOf } from '../../tunnel/client-stream.ts';
import { streamTarget } from '../sessions/streams.ts';
import type { LogPosition } from '../../../schema/protocol/jupyter-framing.ts';

const place = z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).meta({ type: 'integer' });
export const OutputsQuery = z.strictObject({
  /** Which start of the kernel; left out: the one that is. */
  starts: place.optional(),
  /** Bytes of its log that the caller has: a place at which a record begins. */
  after: place.default(0),
  /** Stay for what comes, until this start ends. */
  follow: z.enum(['true', 'false']).default('false'),
});

/** A stream that has said where it begins. */
interface Log extends OpenedStream {
  from: LogPosition;
  items: AsyncGenerator<StreamItem, void, void>;
}

/** The answer: what is kept of one start, up to now or as long as it goes on. */
export async function openOutputs(
  ctx: UserCtx,
  sessionId: string,
  kernelId: string,
  query: z.output<typeof OutputsQuery>,
): Promise<Response> {
  const { hub, claim } = await streamTarget(ctx, sessionId, 'project:read', ['channels']);
  const open = (after?: LogPosition) =>
    openLog(() =>
      openStream(ctx.env, hub, claim, { op: 'channels', kernelId, ...(after === undefined ? {} : { after }) }),
    );
  const now = await open();
  now.close();
  const log = await open({ starts: query.starts ?? now.from.starts, offset: query.after });
  const isOver = query.follow === 'true' || log.from.starts !== now.from.starts;
  const end = isOver ? Number.POSITIVE_INFINITY : now.from.offset;
  const headers = {
    'content-type': 'application/octet-stream',
    'causeway-starts': String(log.from.starts),
    'causeway-from': String(log.from.offset),
  };
  return new Response(toBody(ctx, log, end), { headers });
}

async function openLog(open: () => Promise<OpenedStream>): Promise<Log> {
  const opened = await open();
  const items = continuous(opened.stream.read());
  try {
    for (;;) {
      const { value } = await items.next();
      if (!value) throw new Refusal('tunnel_closed', 'The log of the kernel has no begin.');
      const event = value.channel === channels.control && !value.end && ChannelsEvent.parse(parseJson(value.bytes));
      if (event && event.kind === 'begun')
        return { ...opened, items, from: { starts: event.starts, offset: event.from } };
    }
  } catch (error) {
    opened.close();
    throw refusalOf(error);
  }
}

/** Breaks off where bytes are missing: who asks on from there is told by the header where they go on. */
function toBody(ctx: UserCtx, log: Log, end: number): ReadableStream<Uint8Array> {
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  const pump = async () => {
    try {
      if (log.from.offset < end) for await (const item of log.items) if (!(await write(writer, item, end))) break;
      await writer.close();
    } catch (error) {
      await writer.abort(refusalOf(error));
    } finally {
      log.close();
    }
  };
  ctx.waitUntil(pump());
  return readable;
}

/** False when nothing more is to be written. */
async function write(writer: WritableStreamDefaultWriter<Uint8Array>, item: StreamItem, end: number): Promise<boolean> {
  if (item.end) return true;
  if (item.channel === channels.control) {
    const event = ChannelsEvent.parse(parseJson(item.bytes));
    if (event.kind === 'gap') throw new Refusal('session_output_gone', 'Some bytes are missing here: ask on.');
    return event.kind !== 'ended';
  }
  if (item.channel !== channels.stdout) return true;
  await writer.write(item.bytes.subarray(0, Math.max(0, end - item.offset)));
  return item.offset + item.bytes.byteLength < end;
}
