/**
 * Checks that output goes on byte for byte, for readers that could not tell that some of it is missing: every piece, and
 * END, lies where the bytes before it ended, or behind an announced gap, and what belongs behind output comes behind it
 * (SPEC rules S2, S7, S10, S15).
 */
import { z } from 'zod';
import { type Channel, channels } from './frame.ts';
import type { StreamItem } from './inbox.ts';
import { parseJson } from './json.ts';
import { StreamOver } from './stream.ts';

/** Offsets of output, in bytes. */
export interface OutputOffsets {
  stdout?: number | undefined;
  stderr?: number | undefined;
}

const name = z.enum(['stdout', 'stderr']);
const offsets = z.object({ stdout: z.int().optional(), stderr: z.int().optional() });
/** What every operation says of a gap, of where output begins, and of what lies behind it. */
const Event = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('gap'), stream: name, from: z.int(), to: z.int() }),
  z.object({ kind: z.literal('begun'), from: z.union([offsets, z.int().transform((stdout) => ({ stdout }))]) }),
  z.object({ kind: z.enum(['exit', 'finished']), ends: offsets.optional() }),
  z.object({ kind: z.literal('ended'), end: z.int() }),
  z.object({ kind: z.literal('waiting'), at: z.int() }),
]);

class Continuity {
  readonly #next = new Map<Channel, number>();
  readonly #beginsAnywhere: boolean;

  constructor(from: OutputOffsets, beginsAnywhere: boolean) {
    this.#beginsAnywhere = beginsAnywhere;
    this.#begin(from);
  }

  /** @throws StreamOver */
  take({ channel, offset, bytes, end }: StreamItem): void {
    if (channel === channels.control) {
      if (!end) this.#hear(bytes);
      return;
    }
    const next = this.#next.get(channel) ?? (this.#beginsAnywhere ? offset : undefined);
    // An output that was not asked for ends where nothing was sent.
    if (end ? offset > (next ?? 0) : offset !== next) throw hole(channel, offset, next);
    if (!end) this.#next.set(channel, offset + bytes.byteLength);
  }

  #begin({ stdout, stderr }: OutputOffsets): void {
    if (stdout !== undefined) this.#next.set(channels.stdout, stdout);
    if (stderr !== undefined) this.#next.set(channels.stderr, stderr);
  }

  #hear(bytes: Uint8Array): void {
    const event = Event.safeParse(parseJson(bytes)).data;
    switch (event?.kind) {
      case undefined:
        return;
      case 'begun':
        return this.#begin(event.from);
      case 'gap':
        return this.#miss(event);
      case 'waiting':
        return this.#mustReach({ stdout: event.at });
      case 'ended':
        return this.#mustReach({ stdout: event.end });
      case 'exit':
      case 'finished':
        return this.#mustReach(event.ends ?? {});
    }
  }

  /** It lies behind the output before it, like everything else. */
  #miss({ stream, from, to }: { stream: 'stdout' | 'stderr'; from: number; to: number }): void {
    this.#mustReach({ [stream]: from });
    this.#next.set(channels[stream], Math.max(this.#next.get(channels[stream]) ?? 0, to));
  }

  #mustReach(ends: OutputOffsets): void {
    for (const stream of name.options) {
      const next = this.#next.get(channels[stream]);
      const end = ends[stream] ?? 0;
      if (next !== undefined && next < end) throw hole(channels[stream], end, next);
    }
  }
}

/**
 * The same items. `from`: where each output begins; left out, an event `begun` says it before the first byte, or
 * (`beginsAnywhere`) the first byte itself.
 * @throws StreamOver `tunnel_frame_invalid` at a hole
 */
export async function* continuous(
  items: AsyncIterable<StreamItem>,
  from: OutputOffsets = {},
  { beginsAnywhere = false } = {},
): AsyncGenerator<StreamItem, void, void> {
  const continuity = new Continuity(from, beginsAnywhere);
  for await (const item of items) {
    continuity.take(item);
    yield item;
  }
}

function hole(channel: Channel, offset: number, next: number | undefined): StreamOver {
  const detail = `Byte ${offset} of channel ${channel} came where ${next ?? 'the begin'} was to come.`;
  return new StreamOver({ code: 'tunnel_frame_invalid', detail });
}
