/**
 * What a client is shown that may have missed something. Nobody can know how much of what was sent a client has read, so
 * the executions in question are told anew from their begin: to the client that asked for them (their requests have its
 * `session_id`) behind a `clear_output`, so that what it shows is right whatever it had; to another one marked, so that it
 * can tell. Nothing is run by it: requests are never repeated, and what could have an effect twice (comm messages, questions
 * behind which the execution went on) is left out. Pure.
 */
import type { Execution } from './executions.ts';
import type { Message } from '../../../schema/protocol/jupyter-framing.ts';
import { asReplay, headingOf, parentOf } from './messages.ts';

/** Messages of an execution that show what it did, and do nothing. */
const shown = new Set([
  'status',
  'execute_input',
  'stream',
  'display_data',
  'update_display_data',
  'execute_result',
  'error',
  'clear_output',
]);

export interface ReplayOptions {
  executions: readonly Execution[];
  /** Records before this place are of before; the rest is new to the client. */
  until: number;
  /** The client's `session_id`: what it asked for itself it shows still, and waits for. */
  session: string | undefined;
}

export class Replay {
  readonly #options: ReplayOptions;
  readonly #executions: ReadonlyMap<string, Execution>;

  constructor(options: ReplayOptions) {
    this.#options = options;
    const inOrder = options.executions.toSorted((a, b) => a.from - b.from);
    this.#executions = new Map(inOrder.map((each) => [each.id, each]));
  }

  /** Where to go on in the log. */
  get from(): number {
    return Math.min(this.#options.until, ...Array.from(this.#executions.values(), ({ from }) => from));
  }

  /** Where it ends: what comes behind is new. */
  get until(): number {
    return this.#options.until;
  }

  /** The begin of it is not kept any more: nothing is cleared, and nothing told twice. */
  withoutBegin(): Replay {
    return new Replay({ ...this.#options, executions: [] });
  }

  /** True for a record that has to go through {@link pass}. */
  isOfBefore(offset: number): boolean {
    return offset < this.#options.until;
  }

  /** Headers of requests whose output is to be cleared before it comes again. */
  get cleared(): Uint8Array[] {
    return [...this.#executions.values()].filter((each) => this.#isOwn(each)).map(({ parent }) => parent);
  }

  /** What is sent in place of a record of before; undefined: nothing. */
  pass(offset: number, message: Message): Message | undefined {
    const { channel } = message;
    const execution = this.#executions.get(parentOf(message).id);
    if (!execution) return undefined;
    const { type } = headingOf(message);
    if (channel === 'iopub') return shown.has(type) ? asReplay(message) : undefined;
    if (!this.#isOwn(execution)) return undefined;
    if (channel === 'stdin') return execution.asks === offset ? message : undefined;
    return channel === 'shell' && type === 'execute_reply' ? message : undefined;
  }

  #isOwn({ session }: Execution): boolean {
    return session === this.#options.session;
  }
}
