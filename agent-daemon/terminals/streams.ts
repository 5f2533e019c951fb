/**
 * The operation `terminal` and the calls `terminals` and `terminal` of the tunnel: clients come and go, the terminal stays.
 */
import { Refusal } from '../../schema/errors.ts';
import { channels } from '../../schema/protocol/frame.ts';
import { TerminalControl } from '../../schema/protocol/terminal.ts';
import type { CallHandler, StreamHandler } from '../dispatch.ts';
import { InitRefusal } from '../init/refusal.ts';
import type { Session } from '../sessions/session.ts';
import { parseControl } from '../tunnel/control-message.ts';
import type { SessionTerminals } from './session-terminals.ts';
import type { Terminal, Viewer } from './terminal.ts';
import { pumpTerminal, send } from './viewer.ts';

export interface TerminalsOf {
  find(sessionId: string, generation: number): Pick<Session, 'state' | 'terminals'> | undefined;
}

/** Looks at a terminal, and types into it. */
export function terminalStream(of: TerminalsOf): StreamHandler<'terminal'> {
  return async ({ sessionId, generation, open }, stream) => {
    const { terminalId, input, window, after } = open;
    const terminal = await terminalsOf(of, sessionId, generation).get(terminalId);
    const viewer: Viewer = { stream, writer: input?.writer, window: undefined };
    terminal.enter(viewer);
    try {
      const inputOffset =
        input === undefined ? undefined : await terminal.begin(input.writer, input.from, stream.closed);
      if (input !== undefined && window !== undefined) await resized(terminal, viewer, window);
      stream.opened(inputOffset === undefined ? {} : { inputOffset });
      feed(terminal, viewer).catch((error: unknown) => refuse(viewer, error));
      await pumpTerminal(stream, terminal, after);
    } finally {
      terminal.leave(viewer);
    }
  };
}

/** The terminals of a session that were not closed. */
export function terminalsCall(of: TerminalsOf): CallHandler<'terminals'> {
  return async ({ sessionId, generation }) => ({ terminals: await terminalsOf(of, sessionId, generation).list() });
}

/** Makes or closes one terminal, and answers how it is then. */
export function terminalCall(of: TerminalsOf): CallHandler<'terminal'> {
  return async ({ sessionId, generation, terminalId, act }, deadline) => {
    const terminals = terminalsOf(of, sessionId, generation);
    const terminal =
      act.kind === 'start'
        ? await terminals.start(terminalId, act.request)
        : await terminals.close(terminalId, deadline);
    return { terminal };
  };
}

function terminalsOf(of: TerminalsOf, sessionId: string, generation: number): SessionTerminals {
  const session = of.find(sessionId, generation);
  if (session === undefined) throw new Refusal('session_ended', 'The session has ended. Start a new one.');
  if (session.state === 'present') throw new Refusal('session_not_running', 'The session is still being started.');
  return session.terminals;
}

/** Takes what the client says: input in order, sizes and signals. From one that only looks, nothing. */
async function feed(terminal: Terminal, viewer: Viewer): Promise<void> {
  const { stream, writer } = viewer;
  for await (const { channel, offset, bytes, end } of stream.read()) {
    if (end || writer === undefined) continue;
    try {
      if (channel === channels.input) await terminal.type(viewer, offset, bytes);
      else if (channel === channels.control) await control(terminal, viewer, bytes);
    } catch (error) {
      if (!(error instanceof InitRefusal)) throw error;
      // Nobody reads there any more: for the client it is as if all had been taken.
      if (channel === channels.input) await send(stream, { kind: 'inputEnded' });
    }
  }
}

async function control(terminal: Terminal, viewer: Viewer, bytes: Uint8Array): Promise<void> {
  const message = parseControl(TerminalControl, bytes);
  if (message.kind === 'signal') return terminal.signal(message.signal);
  const { rows, columns } = message;
  await resized(terminal, viewer, { rows, columns });
}

/** One that has ended has no size. */
async function resized(terminal: Terminal, viewer: Viewer, window: { rows: number; columns: number }): Promise<void> {
  try {
    await terminal.resize(viewer, window);
  } catch (error) {
    if (!(error instanceof InitRefusal)) throw error;
  }
}

function refuse({ stream }: Viewer, error: unknown): void {
  if (stream.closed.aborted) return;
  if (error instanceof Refusal) stream.reset(error.code, error.detail);
  else stream.reset('internal');
}
