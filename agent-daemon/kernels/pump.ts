/** Carries the log of one run to a client under its credit: what it wrote, what it asks for, and its end behind all that. */
import { channels } from '../../schema/protocol/frame.ts';
import type { Timers } from '../../schema/ports.ts';
import type { ExecuteEvent } from '../../schema/protocol/execute.ts';
import type { AgentStream } from '../dispatch.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import { type OutputItem, StreamReader } from '../output/stream-reader.ts';
import { AlignedReader } from './aligned-reader.ts';
import { lendPatiently } from './patience.ts';
import type { RunKernel } from './runs.ts';
import type { Offsets, SavedRun } from './saved.ts';

const names = ['stdout', 'stderr'] as const;

/** A run, and the kernel that has it. */
interface Pumped {
  kernel: RunKernel;
  run: SavedRun;
  timers: Timers;
}

/** One stream of the log: what was read and not sent yet, and how far the client has it. */
interface Side {
  name: StreamName;
  reader: StreamReader | AlignedReader;
  item: OutputItem | undefined;
  at: number;
}

/**
 * Sends what lies behind `after` of a run that has begun or ended, and what follows, until it has ended. `open` gives the log
 * of its process.
 */
export async function pumpRun(
  stream: AgentStream,
  { kernel, run, after, timers }: Pumped & { after: Offsets | undefined },
  open: (starts: number) => Promise<{ spool: ProcessSpool; done(): Promise<void> }>,
): Promise<void> {
  const signal = stream.closed;
  if (signal.aborted) return;
  if (run.begun !== undefined) {
    const { starts, from } = run.begun;
    // Perhaps behind the end of the run: before that was known its client was given what came behind.
    const start = (name: StreamName) => Math.max(from[name], after?.[name] ?? 0);
    const begin = { stdout: start('stdout'), stderr: start('stderr') };
    for (const name of names) stream.seek(channels[name], begin[name]);
    const requests = kernel.requestsOf?.(run);
    const how = requests === undefined ? {} : { requests };
    await send(stream, { kind: 'begun', kernelId: run.kernelId, from: begin, ...how });
    const log = await open(starts);
    try {
      await pump(stream, { kernel, run, begin, timers, spool: log.spool });
    } finally {
      await log.done();
    }
  }
  if (signal.aborted || run.ended === undefined) return;
  const { outcome, ends } = run.ended;
  await send(stream, { kind: 'finished', outcome, ...(ends === undefined ? {} : { ends }) });
}

async function pump(
  stream: AgentStream,
  { kernel, run, begin, spool, timers }: Pumped & { begin: Offsets; spool: ProcessSpool },
): Promise<void> {
  const live = run.ended === undefined;
  const isRecords = kernel.requestsOf !== undefined;
  const sides = names.slice(0, isRecords ? 1 : 2).map((name): Side => {
    const Reader = isRecords ? AlignedReader : StreamReader;
    return { name, reader: new Reader(spool.log(name), begin[name], { live }), item: undefined, at: begin[name] };
  });
  const told = { step: begin.stdout, ask: 0 };
  try {
    while (!stream.closed.aborted) {
      const { turn } = kernel.bell;
      const reach = kernel.reach(run);
      const { ended } = run;
      for (const side of sides)
        if (side.at < reach[side.name]) side.item ??= await nextOf(side.reader, ended && reach[side.name]);
      const [next] = sides
        .filter(({ item, at, name }) => item !== undefined && at < reach[name])
        .toSorted((a, b) => timeOf(a.item) - timeOf(b.item));
      if (next !== undefined) await sendNext(stream, next, reach[next.name], timers);
      else if (!(await tellMore(stream, { kernel, run, at: sides[0]?.at ?? 0, told }))) {
        if (ended !== undefined && sides.every(({ at, name }) => at >= reach[name])) return;
        await kernel.bell.past(turn, stream.closed);
      }
    }
  } finally {
    await Promise.all(sides.map(({ reader }) => reader.close()));
  }
}

/** The next item; of a run that ended at `end`, what was dropped goes to there at most. */
async function nextOf(reader: Side['reader'], end: number | undefined): Promise<OutputItem | undefined> {
  const item = await reader.next();
  return item === undefined && end !== undefined && reader instanceof AlignedReader ? reader.missingTo(end) : item;
}

/** Steps that are done and lines that are asked for where the client is now. False when there is nothing to tell. */
async function tellMore(
  stream: AgentStream,
  { kernel, run, at, told }: Omit<Pumped, 'timers'> & { at: number; told: { step: number; ask: number } },
): Promise<boolean> {
  const done = run.answered.find((each) => each.at > told.step && each.at <= at);
  if (done?.step === 'clean' || done?.step === 'build') {
    told.step = done.at;
    await send(stream, { kind: 'step', step: done.step, exitCode: done.exitCode });
    return true;
  }
  const ask = kernel.asks(run);
  if (ask === undefined || ask.at > at || ask.at === told.ask) return false;
  told.ask = ask.at;
  await send(stream, { kind: 'waiting', ...ask });
  return true;
}

/** Sends the next item of a side as far as it belongs to the run. */
async function sendNext(stream: AgentStream, side: Side, reach: number, timers: Timers): Promise<void> {
  const { item, name, reader } = side;
  if (item === undefined) return;
  if (item.kind === 'gap') {
    const to = Math.min(item.gap.to, reach);
    await send(stream, { kind: 'gap', stream: name, from: item.gap.from, to, reason: item.gap.reason });
    stream.seek(channels[name], to);
    side.at = to;
    side.item = to === item.gap.to ? undefined : { ...item, gap: { ...item.gap, from: to } };
    return;
  }
  const fits = Math.min(item.bytes.byteLength, reach - item.offset);
  // The reader uses its buffer again for its next item, which is asked for when all of this one is sent.
  const sent = item.bytes.subarray(0, fits);
  const channel = channels[name];
  if (reader instanceof AlignedReader) await lendPatiently(stream, { channel, bytes: sent, reader, timers });
  else await stream.lend(channel, sent);
  side.at = item.offset + fits;
  const rest = item.bytes.subarray(fits);
  side.item = rest.byteLength === 0 ? undefined : { ...item, offset: side.at, bytes: rest };
}

/** What is missing is said before anything else. */
function timeOf(item: OutputItem | undefined): number {
  return item?.kind === 'bytes' ? item.timeMs : 0;
}

function send(stream: AgentStream, event: ExecuteEvent): Promise<void> {
  return stream.writeControl(event);
}
