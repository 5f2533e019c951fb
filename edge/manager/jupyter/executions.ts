/**
 * The executions of a kernel as its log tells them: from the `status: busy` of a request to the `idle` behind it. So it is
 * known what a client that comes back may have missed. Pure.
 */
import type { LogRecord, Message } from '../../../schema/protocol/jupyter-framing.ts';
import { headingOf, parentOf, stateIn } from './messages.ts';

export interface Execution {
  /** `msg_id` of its request. */
  id: string;
  /** Of the client that asked for it. */
  session: string;
  /** Header of its request, as the kernel repeats it. */
  parent: Uint8Array;
  /** Where its output begins in the log. */
  from: number;
  /** Behind its `idle`; undefined while it runs. */
  to: number | undefined;
  /** Where it asks for a line; undefined when it does not, or has gone on since. */
  asks: number | undefined;
}

/** Executions that can be under way at a time: a kernel has one, with subshells a few. */
const maxRunning = 64;
const maxEnded = 64;
/** A `status` is small. */
const maxStatusBytes = 8 * 1024;

export class Executions {
  #starts: number | undefined;
  /** From where on every record was seen, and to where. */
  #since = 0;
  #position = 0;
  readonly #running = new Map<string, Execution>();
  #isAsking = false;
  /** The last that ended, the oldest first. */
  #ended: Execution[] = [];

  /** True when every record of this start before `offset` was seen. */
  knows(starts: number, offset: number): boolean {
    return this.#starts === starts && this.#since === 0 && this.#position >= offset;
  }

  get running(): Execution[] {
    return [...this.#running.values()];
  }

  /** The last that ended. */
  get last(): Execution | undefined {
    return this.#ended.at(-1);
  }

  /** Of this start: those whose output reaches behind `offset`. */
  behind(starts: number, offset: number): Execution[] {
    if (this.#starts !== starts) return [];
    return [...this.running, ...this.#ended].filter(({ to }) => to === undefined || to > offset);
  }

  /** Takes a record of the log, in whatever order several readers come by. */
  see(starts: number, { offset, end }: Pick<LogRecord, 'offset' | 'end'>, message: Message): void {
    if (this.#starts === undefined || starts > this.#starts || (starts === this.#starts && offset > this.#position))
      this.#forget(starts, offset);
    else if (starts < this.#starts || offset < this.#position) return;
    this.#position = end;
    const isQuestion = message.channel === 'stdin';
    if (isQuestion || (this.#isAsking && message.channel === 'iopub')) this.#hear(offset, message, isQuestion);
    if (message.channel !== 'iopub' || (message.parts[3]?.byteLength ?? 0) > maxStatusBytes) return;
    if (headingOf(message).type !== 'status') return;
    const parent = parentOf(message);
    if (parent.type !== 'execute_request' || parent.id === '') return;
    const state = stateIn(message);
    const before = this.#running.get(parent.id);
    if (state === 'busy' && !before && this.#running.size < maxRunning)
      this.#running.set(parent.id, {
        id: parent.id,
        session: parent.session,
        asks: undefined,
        parent: new Uint8Array(message.parts[1]!),
        from: offset,
        to: undefined,
      });
    else if (state === 'idle' && before) {
      this.#running.delete(parent.id);
      this.#ended.push({ ...before, to: end, asks: undefined });
      if (this.#ended.length > maxEnded) this.#ended.shift();
    }
  }

  /** A question of an execution, or a sign that it has gone on behind one. */
  #hear(offset: number, message: Message, isQuestion: boolean): void {
    const execution = this.#running.get(parentOf(message).id);
    if (execution) execution.asks = isQuestion ? offset : undefined;
    this.#isAsking = this.running.some(({ asks }) => asks !== undefined);
  }

  #forget(starts: number, since: number): void {
    this.#starts = starts;
    this.#since = since;
    this.#running.clear();
    this.#isAsking = false;
    this.#ended = [];
  }
}
