/**
 * The operations `process` and `logs` of the tunnel: a client starts a process or attaches to one, feeds it, and reads
 * its output from any offset, again after any cut. Nothing of a process depends on a client being there.
 */
import { Refusal } from '../../schema/errors.ts';
import { tailStarts } from '../../schema/log/tail.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { ProcessControl, type ProcessSpawn } from '../../schema/protocol/streams.ts';
import type { AgentStream, CallHandler, OpenOf, StreamHandler } from '../dispatch.ts';
import { InitRefusal } from '../init/refusal.ts';
import type { ProcessSpool } from '../output/process-spool.ts';
import type { StreamName } from '../output/segment.ts';
import type { Spools } from '../output/spools.ts';
import { tailSourceOf } from '../output/line-reader.ts';
import { checkWorkdir } from '../runtime/docker-spec.ts';
import { mainProcessId, recordOf } from '../sessions/main-process.ts';
import { notTakenOver } from '../sessions/not-taken-over.ts';
import type { Session } from '../sessions/session.ts';
import { parseControl } from '../tunnel/control-message.ts';
import { signalNumber } from './exit.ts';
import { pumpOutput, send } from './pump.ts';
import { boundedWindow, type Terminal, type Viewer } from '../terminals/terminal.ts';
import { toSpawn } from './spawn-spec.ts';
import type { Supervisor } from './supervisor.ts';

export interface StreamsOf {
  find(sessionId: string, generation: number): Session | undefined;
  spools: Spools;
  nowMs(): number;
}

type Open = OpenOf<'process'> | OpenOf<'logs'> | OpenOf<'lines'>;

/** Spawns or attaches. */
export function processStream(of: StreamsOf): StreamHandler<'process'> {
  return async (open, stream) => {
    const { after = { stdout: 0, stderr: 0 }, spawn, input = true } = open.open;
    const session = of.find(open.sessionId, open.generation);
    const processId = idOf(open);
    if (session?.kernels.owns(processId) === true && (input || spawn !== undefined))
      throw new Refusal('process_conflict', 'It is a kernel: run code in it, or only watch it.');
    if (session?.terminals.owns(processId) === true && (input || spawn !== undefined))
      throw new Refusal('process_conflict', 'It is a terminal: open it as one, or only watch it.');
    if (spawn !== undefined) await spawnFor(of, session, processId, spawn);
    await withSpool(of, open, async (spool) => {
      const supervisor = spool.record.exit === undefined ? session?.supervisor : undefined;
      if (input && supervisor === undefined && spool.record.exit === undefined) refuseUntilTakenOver(session);
      if (input) await supervisor?.whenKnown(processId, stream.closed);
      const terminal = supervisor === undefined ? undefined : await session?.terminals.mainOf(processId);
      const typist = input ? await terminal?.enterAsProcess(stream) : undefined;
      try {
        const inputOffset = typist?.inputOffset ?? supervisor?.inputOffset(processId) ?? 0;
        stream.opened({ inputOffset, keptFrom: keptFrom(spool, after) });
        const fed = supervisor && {
          supervisor,
          processId,
          takesInput: input,
          keys: terminal ? keysOf(terminal, typist?.viewer ?? onlyLooking(stream)) : plainKeys(supervisor, processId),
        };
        const feeding = fed === undefined ? Promise.resolve() : feed(stream, fed);
        feeding.catch((error: unknown) => refuse(stream, error));
        await pumpOutput(stream, spool, { from: after, follow: true });
      } finally {
        if (typist !== undefined) terminal?.leave(typist.viewer);
      }
    });
  };
}

/** The kept output of a process, and what follows when asked. */
export function logsStream(of: StreamsOf): StreamHandler<'logs'> {
  return async (open, stream) => {
    const { streams, follow, tailLines, after = { stdout: 0, stderr: 0 } } = open.open;
    const names = namesOf(streams);
    await withSpool(of, open, async (spool) => {
      const from =
        tailLines === undefined
          ? Object.fromEntries(names.map((name) => [name, after[name]]))
          : await tailStarts(
              names.map((name) => tailSourceOf(spool.log(name))),
              tailLines,
            );
      stream.opened({ keptFrom: keptFrom(spool, from) });
      await pumpOutput(stream, spool, { from, follow });
    });
  };
}

/** The processes of a session of which something is kept, newest first. */
export function processesCall(of: StreamsOf): CallHandler<'processes'> {
  return async ({ sessionId, generation }) => {
    const main = mainProcessId(sessionId, generation);
    const found = [];
    for (const processId of await of.spools.processes(sessionId, generation)) {
      const read = await of.spools.read({ sessionId, generation, processId });
      if (read === undefined) continue;
      const { argv, exit, startedAtMs } = read.spool.record;
      await read.done();
      const { exitCode, signal } = exit ?? {};
      found.push({
        startedAtMs,
        process: {
          processId: processId === main ? 'main' : processId,
          argv,
          state: exit === undefined ? ('running' as const) : ('ended' as const),
          ...(exitCode === undefined ? {} : { exitCode }),
          ...(signal === undefined ? {} : { signal }),
        },
      });
    }
    const newest = found.toSorted((a, b) => b.startedAtMs - a.startedAtMs).slice(0, 1024);
    return { processes: newest.map(({ process }) => process) };
  };
}

function idOf({ sessionId, generation, open }: Open): string {
  return open.processId === 'main' ? mainProcessId(sessionId, generation) : open.processId;
}

/** The streams that were asked for. */
export function namesOf(streams: 'stdout' | 'stderr' | 'both'): StreamName[] {
  return streams === 'both' ? ['stdout', 'stderr'] : [streams];
}

/** The first offsets from `from` on of which the byte is kept: behind a gap that lies just there. */
export function keptFrom(spool: ProcessSpool, from: Partial<Record<StreamName, number>>) {
  return { stdout: spool.log('stdout').keptFrom(from.stdout), stderr: spool.log('stderr').keptFrom(from.stderr) };
}

/** Gives the spool of the process that an OPEN names. @throws Refusal when there is none */
export async function withSpool(of: StreamsOf, open: Open, use: (spool: ProcessSpool) => Promise<void>): Promise<void> {
  const { sessionId, generation } = open;
  const read = await of.spools.read({ sessionId, generation, processId: idOf(open) });
  if (read === undefined) throw notThere(of.find(sessionId, generation), open.open.processId);
  try {
    await use(read.spool);
  } finally {
    await read.done();
  }
}

function notThere(session: Session | undefined, processId: string): Refusal {
  if (session?.state === 'present') {
    return new Refusal('session_not_running', 'The session is still being started.');
  }
  if (session?.state === 'running') {
    const hint = processId === 'main' ? 'The session has no main process.' : 'It was never started here.';
    return new Refusal('process_not_found', hint);
  }
  return new Refusal('session_output_gone', 'The session has ended, and nothing of this process is kept any more.');
}

/** Just after a restart of the agent a session may run that is not taken over yet: what is sent now would reach nobody. */
function refuseUntilTakenOver(session: Session | undefined): void {
  if (session === undefined || session.state === 'ended') return;
  throw notTakenOver();
}

async function spawnFor(of: StreamsOf, session: Session | undefined, processId: string, spawn: ProcessSpawn) {
  if (session === undefined || session.state === 'ended') {
    throw new Refusal('session_ended', 'The session has ended. Start a new one.');
  }
  if (session.supervisor === undefined) throw new Refusal('session_not_running', 'The session is still being started.');
  if (processId === session.mainProcessId) {
    throw new Refusal('process_conflict', 'The main process is started by the session itself. Leave `spawn` out.');
  }
  if (spawn.cwd !== undefined) checkWorkdir(spawn.cwd);
  const spec = await toSpawn(session, processId, spawn);
  await session.supervisor.spawn(spec, recordOf(spec, session.placement.spec.output, of.nowMs()));
}

/** Where input and sizes of a client go. */
interface Keys {
  write(offset: number, bytes: Uint8Array): Promise<void>;
  resize(rows: number, columns: number): Promise<void>;
}

function plainKeys(supervisor: Supervisor, processId: string): Keys {
  return {
    write: (offset, bytes) => supervisor.writeInput(processId, offset, bytes),
    resize: (rows, columns) => supervisor.link.resize(processId, clampWindow(rows), clampWindow(columns)),
  };
}

/** To the main process by its terminal, into which others type too. */
function keysOf(terminal: Terminal, viewer: Viewer): Keys {
  return {
    write: (offset, bytes) => terminal.type(viewer, offset, bytes),
    resize: (rows, columns) => terminal.resize(viewer, boundedWindow(rows, columns)),
  };
}

function onlyLooking(stream: AgentStream): Viewer {
  return { stream, writer: undefined, window: undefined };
}

interface Fed {
  supervisor: Supervisor;
  processId: string;
  takesInput: boolean;
  keys: Keys;
}

/** Takes what the client sends: input in order, signals and window sizes. */
async function feed(stream: AgentStream, { supervisor, processId, takesInput, keys }: Fed) {
  for await (const { channel, offset, bytes, end } of stream.read()) {
    try {
      if (channel === channels.control && !end) await control(supervisor, processId, keys, bytes);
      if (channel !== channels.input || !takesInput) continue;
      if (!end) await keys.write(offset, bytes);
      else await endInput(stream, supervisor, processId, offset);
    } catch (error) {
      if (!(error instanceof InitRefusal)) throw error;
      // Nobody reads there any more, or nobody is there: for the client it is as if all had been taken.
      if (channel === channels.input) await send(stream, { kind: 'inputEnded', offset: offset + bytes.byteLength });
    }
  }
}

/**
 * What a client sent can not be taken: it is told, so that it attaches again and sends from where the process is. A stream
 * that took no more in silence would hang for ever. One that is over already, as its client went away, needs no word.
 */
function refuse(stream: AgentStream, error: unknown): void {
  if (stream.closed.aborted) return;
  if (error instanceof Refusal) stream.reset(error.code, error.detail);
  else stream.reset('tunnel_frame_invalid', `The input can not go on: ${(error as Error).message}.`);
}

async function endInput(stream: AgentStream, supervisor: Supervisor, processId: string, offset: number) {
  await supervisor.link.closeStdin(processId);
  await send(stream, { kind: 'inputEnded', offset });
}

async function control(supervisor: Supervisor, processId: string, keys: Keys, bytes: Uint8Array): Promise<void> {
  const message = parseControl(ProcessControl, bytes);
  if (message.kind === 'resize') await keys.resize(message.rows, message.columns);
  else await supervisor.link.signal(processId, signalNumber(message.signal));
}

/** A size of a window as the init takes it. */
export function clampWindow(size: number): number {
  return Math.min(65_535, Math.max(1, size));
}
