/**
 * The operation `channels` of the tunnel (SPEC rule S17): a client hears a Jupyter kernel from any place of its log on, and
 * speaks to it. Nothing of the kernel depends on a client being there.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import type { ChannelsEvent } from '../../schema/protocol/channels.ts';
import { channels } from '../../schema/protocol/frame.ts';
import type { AgentStream, OpenOf, StreamHandler } from '../dispatch.ts';
import { AlignedReader } from './aligned-reader.ts';
import type { HeldWriter } from './jupyter-input.ts';
import type { JupyterKernel } from './jupyter-kernel.ts';
import { outcomeOf } from './kernel-life.ts';
import { lendPatiently } from './patience.ts';
import { RecordsIn } from './records-in.ts';
import { kernelsOf, type ServedKernels } from './streams.ts';

type Log = Awaited<ReturnType<ReturnType<typeof kernelsOf>['log']>>;

export function channelsStream(of: ServedKernels): StreamHandler<'channels'> {
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
  if (writer !== undefined) await kernel.input.whenKnown(stream.closed);
  // Another start is opened anew by the client, and spoken to then.
  const held = writer === undefined || starts < kernel.saved.starts ? undefined : await kernel.input.hold(writer);
  const inputOffset = writer === undefined ? undefined : kernel.input.offsetOf(writer);
  const hearing = new Hearing(stream, kernel);
  if (held !== undefined && writer !== undefined)
    hearing.hear({ ...held, writer }).catch((error: unknown) => refuse(stream, error));
  stream.opened(inputOffset === undefined ? {} : { inputOffset });
  stream.seek(channels.stdout, from);
  await send(stream, { kind: 'begun', starts, from });
  const over = new AbortController();
  const telling = tellState(stream, kernel, { starts, signal: AbortSignal.any([stream.closed, over.signal]) });
  telling.catch(() => undefined);
  try {
    await pump(stream, { ...serving, from });
  } finally {
    over.abort();
  }
  // What is taken goes to a start that is not said to be over.
  await hearing.stop();
  await tellEnd(stream, serving);
}

// ---- what the client says ----

class Hearing {
  readonly #stream: AgentStream;
  readonly #kernel: JupyterKernel;
  #isOver = false;
  #taking: Promise<void> = Promise.resolve();

  constructor(stream: AgentStream, kernel: JupyterKernel) {
    this.#stream = stream;
    this.#kernel = kernel;
  }

  /** Takes the records of one writer, until another stream of it comes. */
  async hear({ writer, signal, say, done }: HeldWriter & { writer: string }): Promise<void> {
    const { input } = this.#kernel;
    const replaced = () => this.#stream.reset('kernel_writer_replaced');
    signal.addEventListener('abort', replaced);
    if (signal.aborted) replaced();
    let at = input.offsetOf(writer);
    const records = new RecordsIn(input.stagingPath(writer), input.disk);
    try {
      for await (const { channel, offset, bytes, end } of this.#stream.read()) {
        if (channel !== channels.input || end) continue;
        if (offset !== at) throw new Refusal('kernel_message_invalid', `Input goes on at ${at}.`);
        at += bytes.byteLength;
        for await (const record of records.push(bytes)) {
          await input.whenRoom(this.#stream.closed);
          await this.#take(() => say(record));
        }
      }
    } finally {
      signal.removeEventListener('abort', replaced);
      done();
      await records.close();
    }
  }

  /** Takes nothing more: the writer says it again to the next start. Resolves when it was told of what was taken. */
  async stop(): Promise<void> {
    this.#isOver = true;
    await this.#taking.catch(() => undefined);
  }

  #take(say: () => Promise<number>): Promise<void> {
    if (this.#isOver) return Promise.resolve();
    const take = async () => send(this.#stream, { kind: 'taken', offset: await say() });
    this.#taking = take();
    return this.#taking;
  }
}

function refuse(stream: AgentStream, error: unknown): void {
  if (stream.closed.aborted) return;
  if (error instanceof Refusal) stream.reset(error.code, error.detail);
  else stream.reset('internal');
}

// ---- what it hears ----

async function pump(stream: AgentStream, { log: { spool }, from, timers }: Serving & { from: number }): Promise<void> {
  const reader = new AlignedReader(spool.log('stdout'), from, { live: true });
  try {
    while (!stream.closed.aborted) {
      const item = await reader.next();
      if (item === undefined) {
        if (reader.isAtEnd) return;
        await reader.whenMore(stream.closed);
      } else if (item.kind === 'gap') {
        await send(stream, { kind: 'gap', stream: 'stdout', ...item.gap });
        stream.seek(channels.stdout, item.gap.to);
      } else await lendPatiently(stream, { channel: channels.stdout, bytes: item.bytes, reader, timers });
    }
  } finally {
    await reader.close();
  }
}

/** Tells whether it answers: what it does then is in its own messages. */
async function tellState(
  stream: AgentStream,
  kernel: JupyterKernel,
  { starts, signal }: { starts: number; signal: AbortSignal },
): Promise<void> {
  let told: string | undefined;
  while (!signal.aborted && kernel.saved.starts === starts) {
    const { turn } = kernel.bell;
    const state = kernel.state === 'busy' ? 'idle' : kernel.state;
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
      const { restarts } = end;
      return send(stream, { kind: 'ended', end: spool.log('stdout').end, ...outcomeOf(end.exit), restarts });
    }
    await kernel.bell.past(turn, stream.closed);
  }
}

function send(stream: AgentStream, event: ChannelsEvent): Promise<void> {
  return stream.writeControl(event);
}
