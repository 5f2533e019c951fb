/** In which placement of a session something runs that this client started or follows: what is of one means nothing in another. */
import { type Stream, StreamOver } from '../../schema/protocol/stream.ts';
import type { StreamOpened } from '../../schema/protocol/streams.ts';
import { CliFailure, exitStatus } from '../exit.ts';

/** The answer to a socket to a placement that is over. As a stream's end it says: dial again, nothing came of it. */
const movedCode = 'session_generation_stale';
const notStarted = new Set([movedCode, 'session_not_running']);

/** What a person is told meanwhile who follows something. */
export const placeWords = {
  cut: 'the connection was lost; the process goes on, resuming as soon as there is a way ...',
  away: 'the machine of the session is out of reach: its output goes on when it is back ...',
  lost: 'the session lost its machine and waits for the next ...',
  anew: 'the session was placed anew: it begins again, and so does its output',
};

export class Placement {
  /** Undefined: none yet, or it was not told. */
  generation: number | undefined;

  constructor(generation?: number) {
    this.generation = generation;
  }

  /**
   * Waits until `stream` in `generation` is open. `starts`: it starts something, once; what is not known to be refused may
   * have been started, and is not to be started in another placement. @throws StreamOver
   */
  async opened(stream: Stream, generation: number | undefined, { starts }: { starts: boolean }): Promise<StreamOpened> {
    const before = this.generation;
    if (starts) this.generation = generation;
    try {
      const opened = await stream.whenOpened;
      this.generation = generation;
      return opened;
    } catch (error) {
      if (error instanceof StreamOver && notStarted.has(error.code)) this.generation = before;
      throw error;
    }
  }

  /** True when a dial was refused because this one is over: the session is in its next, or waits for it. */
  isOver(error: unknown): error is CliFailure {
    return error instanceof CliFailure && this.generation !== undefined && notStarted.has(error.code ?? '');
  }
}

/** It is in its next placement already. */
export function hasMoved({ code }: CliFailure): boolean {
  return code === movedCode;
}

/** What a person started in a placement that is over: it is not started again. */
export function placeLost(what: 'command' | 'run'): CliFailure {
  return new CliFailure(`the session lost its machine: the ${what} ended with it, and is not started again`, {
    code: movedCode,
    hint: 'see what it has done (on another machine the home begins empty), then start it again',
    status: exitStatus.notRun,
  });
}
