/**
 * The operation `channels` of the tunnel (SPEC rule S17): a client hears a Jupyter kernel from any place of its log on, and
 * speaks to it. Nothing of the kernel depends on a client being there.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import type { ChannelsEvent } from '../../schema/protocol/channels.ts';
import { channels } from '../../schema/protocol/frame.ts';
import type { AgentStream, OpenOf, StreamHandler } from '../dispatch.ts';
import { StreamReader } from '../output/stream-reader.ts';
import type { HeldWriter, JupyterKernel } from './jupyter-kernel.ts';
import { RecordFinder } from './records.ts';
import { RecordsIn } from './records-in.ts';
import { type KernelsOf, kernelsOf } from './streams.ts';

export interface ChannelsOf extends KernelsOf {
  timers: Timers;
}

type Log = Awaited<ReturnType<ReturnType<typeof kernelsOf>['log']>>;

/** A full log waits for a reader that takes something at least this often. */
const patienceMs = 10_000;

export function channelsStream(of: ChannelsOf): StreamHandler<'channels'> {
  return async ({ sessionId, generation, open }, stream) => {
    const kernels = kernelsOf(of, sessionId, generation);
    const kernel = await kernels.jupyter(open.kernelId);
    const { starts } = open.after ?? kernel.saved;
    await kernel.whenStart(starts, stream.closed);
    const log = await kernels.log(open.kernelId, starts);
    try {
      await serve(stream, { kernel, starts, log, open, timers: of.timers });
    } finally {
      await log.done();
    }
  };
}

interface Serving {
  kernel: JupyterKernel;
  starts: number;
  log: Log;
  open: OpenOf<'channels'>['open'];
  timers: Timers;
}

async function serve(stream: AgentStream, serving: Serving): Promise<void> {
  const { kernel, starts, open, log } = serving;
  const { end } = log.spool.log('stdout');
  const from = open.after?.offset ?? kernel.boundary ?? end;
  if (from > end) throw new Refusal('session_output_gone', 'The log of the kernel does not go so far.');
  const { writer } = open;
  // Another start is opened anew by the client, and spoken to then.
  const held = writer === undefined || starts < kernel.saved.starts ? undefined : await kernel.hold(writer);
  const inputOffset = writer === undefined ? undefined : kernel.inputOffset(writer);
  if (held !== undefined && writer !== undefined)
    hear(stream, kernel, { ...held, writer }).catch((error: unknown) => refuse(stream, error));
  stream.opened(inputOffset === undefined ? {} : { inputOffset });
  stream.seek(channels.stdout, from);
  await send(stream, { kind: 'begun', starts, from });
  const over = new AbortController();
  const telling = tellState(stream, kernel, { starts, signal: AbortSignal.any([stream.closed, over.signal]) });
  telling.catch(() => undefined);
  try {
    await pump(stream, { ...serving, from, isLost: open.after === undefined && kernel.boundary === undefined });
  } finally {
    over.abort();
  }
  await tellEnd(stream, serving);
}

// ---- what the client says ----

/** Takes the records of one writer, until another stream of it comes. */
async function hear(
  stream: AgentStream,
  kernel: JupyterKernel,
  { writer, signal, say, done }: HeldWriter & { writer: string },
): Promise<void> {
  const replaced = () => stream.reset('kernel_writer_replaced');
  signal.addEventListener('abort', replaced);
  if (signal.aborted) replaced();
  let at = kernel.inputOffset(writer);
  const records = new RecordsIn(kernel.stagingPath(writer), kernel.disk);
  try {
    for await (const { channel, offset, bytes, end } of stream.read()) {
      if (channel !== channels.input || end) continue;
      if (offset !== at) throw new Refusal('kernel_message_invalid', `Input goes on at ${at}.`);
      at += bytes.byteLength;
      for await (const record of records.push(bytes)) {
        await kernel.whenRoom(stream.closed);
        await send(stream, { kind: 'taken', offset: await say(record) });
      }
    }
  } finally {
    signal.removeEventListener('abort', replaced);
    done();
    await records.close();
  }
}

function refuse(stream: AgentStream, error: unknown): void {
  if (stream.closed.aborted) return;
  if (error instanceof Refusal) stream.reset(error.code, error.detail);
  else stream.reset('internal');
}

// ---- what it hears ----

async function pump(
  stream: AgentStream,
  { log: { spool }, from, isLost, timers }: Serving & { from: number; isLost: boolean },
): Promise<void> {
  const log = spool.log('stdout');
  const reader = new StreamReader(log, from, { live: true });
  let finder = isLost ? new RecordFinder(from) : undefined;
  let gap: Extract<ChannelsEvent, { kind: 'gap' }> | undefined = isLost
    ? { kind: 'gap', stream: 'stdout', from, to: from, reason: 'damaged' }
    : undefined;
  try {
    while (!stream.closed.aborted) {
      const item = await reader.next();
      if (item === undefined) {
        if (log.isFinal && reader.position >= log.end) break;
        await log.whenBeyond(reader.position, stream.closed);
      } else if (item.kind === 'gap') {
        gap = { kind: 'gap', stream: 'stdout', ...item.gap, from: gap?.from ?? item.gap.from };
        if (finder === undefined) finder = new RecordFinder(item.gap.to);
        else finder.skip(item.gap.to);
      } else if (finder === undefined) await lend(stream, { reader, bytes: item.bytes, timers });
      else {
        const found = finder.push(item.bytes);
        if (found === undefined || gap === undefined) continue;
        finder = undefined;
        await skip(stream, { ...gap, to: found.offset });
        gap = undefined;
        await lend(stream, { reader, bytes: found.bytes, timers });
      }
    }
    // Behind it no record begins any more.
    if (gap !== undefined && gap.from < log.end) await skip(stream, { ...gap, to: log.end });
  } finally {
    await reader.close();
  }
}

async function skip(stream: AgentStream, gap: Extract<ChannelsEvent, { kind: 'gap' }>): Promise<void> {
  if (gap.to > gap.from) await send(stream, gap);
  stream.seek(channels.stdout, gap.to);
}

/** Sends bytes; who does not take them for long is not waited for when the log is full. */
async function lend(
  stream: AgentStream,
  { reader, bytes, timers }: { reader: StreamReader; bytes: Uint8Array; timers: Timers },
): Promise<void> {
  const cancel = timers.after(patienceMs, () => reader.letGo());
  try {
    // The reader uses its buffer again for its next item, which is asked for when all of this one is sent.
    await stream.lend(channels.stdout, bytes);
  } finally {
    cancel();
    reader.hold();
  }
}

async function tellState(
  stream: AgentStream,
  kernel: JupyterKernel,
  { starts, signal }: { starts: number; signal: AbortSignal },
): Promise<void> {
  let told: string | undefined;
  while (!signal.aborted && kernel.saved.starts === starts) {
    const { turn } = kernel.bell;
    const { state } = kernel;
    if (state !== told) await send(stream, { kind: 'state', state });
    told = state;
    await kernel.bell.past(turn, signal);
  }
}

async function tellEnd(stream: AgentStream, { kernel, starts, log: { spool } }: Serving): Promise<void> {
  const { exit } = spool.record;
  if (exit === undefined) return;
  while (!stream.closed.aborted) {
    const { turn } = kernel.bell;
    const end = kernel.endOf(starts, exit);
    if (end !== undefined) {
      const { exitCode, signal, reason } = end.exit;
      return send(stream, {
        kind: 'ended',
        reason,
        ...(exitCode === undefined ? {} : { exitCode }),
        ...(signal === undefined ? {} : { signal }),
        restarts: end.restarts,
      });
    }
    await kernel.bell.past(turn, stream.closed);
  }
}

function send(stream: AgentStream, event: ChannelsEvent): Promise<void> {
  return stream.writeControl(event);
}
