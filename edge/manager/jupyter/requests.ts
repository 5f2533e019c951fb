/**
 * What a client has asked of its kernel and waits for. It takes a request for running until it has both the reply and the
 * `idle` of it; where messages are missing these may be among them, and then nobody would ever say so. So the kernel is
 * asked a question of the gateway's own: it answers one after the other, so what was asked before and has not ended by then
 * is over. Pure.
 */
import type { Message } from '../../../schema/protocol/jupyter-framing.ts';
import { headingOf, parentOf, stateIn } from './messages.ts';

export interface Request {
  id: string;
  /** As the client sent it: answers repeat it. */
  header: Uint8Array;
  /** `execute_reply` for `execute_request`. */
  replyType: string;
  isExecution: boolean;
  /** In the order in which they were made. */
  order: number;
  hasBegun: boolean;
  /** Behind its reply and its `idle` in the log of this start; undefined: not seen. */
  repliedAt: number | undefined;
  idleAt: number | undefined;
}

/** Requests that are looked after, of one client; a notebook that runs as a whole asks for each of its cells at once. */
const maxRequests = 4_096;
/** What the ids of questions begin with. Their answers are for no client. */
const questionPrefix = 'causeway-asks-';

export class Requests {
  readonly #isReturning: boolean;
  /** By id, in their order. */
  readonly #made = new Map<string, Request>();
  #count = 0;
  /** Asked for all before `before`, in that order. */
  #question: { id: string; before: number; isReplied: boolean; isIdle: boolean } | undefined;

  /** `isReturning`: the client may come back, and may then have missed what it was sent. */
  constructor({ isReturning }: { isReturning: boolean }) {
    this.#isReturning = isReturning;
  }

  /** Takes what the client says. */
  hear(message: Message): void {
    if (message.channel !== 'shell') return;
    const { type, id, isInSubshell } = headingOf(message);
    // What runs beside the shell is in no order with it.
    if (!type.endsWith('_request') || id === '' || isInSubshell) return;
    this.#count += 1;
    this.#made.set(id, {
      id,
      header: new Uint8Array(message.parts[0]!),
      replyType: type.replace(/_request$/, '_reply'),
      isExecution: type === 'execute_request',
      order: this.#count,
      hasBegun: false,
      repliedAt: undefined,
      idleAt: undefined,
    });
    const [oldest] = this.#made.keys();
    if (this.#made.size > maxRequests && oldest !== undefined) this.#made.delete(oldest);
  }

  /** Takes a message of the kernel that ends at `end` in its log. Gives those that turn out to be over, each once. */
  see(message: Message, end: number): Request[] {
    if (this.#made.size === 0) return [];
    const { id } = parentOf(message);
    if (id === this.#question?.id) return this.#answered(message);
    const request = this.#made.get(id);
    if (request === undefined) return [];
    request.hasBegun = true;
    const { type } = headingOf(message);
    if (message.channel === 'shell') request.repliedAt = end;
    else if (type === 'status' && stateIn(message) === 'idle') request.idleAt = end;
    if (!this.#isReturning && !isOpen(request)) this.#made.delete(id);
    // Where its code runs, what was asked for before does not any more.
    return message.channel === 'iopub' && type !== 'status' && type !== 'execute_input'
      ? this.#takeOver(request.order)
      : [];
  }

  /** Messages are missing. The question to be asked, when the client waits for anything. */
  missed(suffix: string): string | undefined {
    if (![...this.#made.values()].some(isOpen)) return undefined;
    this.#question = { id: `${questionPrefix}${suffix}`, before: this.#count + 1, isReplied: false, isIdle: false };
    return this.#question.id;
  }

  /** Executions that had begun when they were heard of last: what is missing may be theirs. */
  get running(): Request[] {
    return [...this.#made.values()].filter((each) => each.isExecution && each.hasBegun && each.idleAt === undefined);
  }

  /** The client goes on at `offset`: of what comes behind it nobody knows whether it was read. */
  goBackTo(offset: number): void {
    for (const request of this.#made.values()) {
      if ((request.repliedAt ?? 0) > offset) request.repliedAt = undefined;
      if ((request.idleAt ?? 0) > offset) request.idleAt = undefined;
    }
  }

  /** The client has read everything before `offset`. */
  forget(offset: number): void {
    for (const [id, request] of this.#made)
      if (!isOpen(request) && Math.max(request.repliedAt!, request.idleAt!) <= offset) this.#made.delete(id);
  }

  /** The kernel that was asked is gone. */
  clear(): void {
    this.#made.clear();
    this.#question = undefined;
  }

  #answered({ channel, parts }: Message): Request[] {
    const question = this.#question!;
    if (channel === 'shell') question.isReplied = true;
    else if (channel === 'iopub' && stateIn({ channel, parts }) === 'idle') question.isIdle = true;
    // Either channel is in order by itself: behind both nothing of before comes.
    if (!question.isReplied || !question.isIdle) return [];
    const over = this.#takeOver(question.before);
    this.#question = undefined;
    return over;
  }

  /** Those before `order` whose end is missing. */
  #takeOver(order: number): Request[] {
    if (this.#question === undefined) return [];
    const before = Math.min(order, this.#question.before);
    const over = [...this.#made.values()].filter((each) => each.order < before && isOpen(each));
    for (const { id } of over) this.#made.delete(id);
    return over;
  }
}

/** True for the answer to a question of the gateway's, to whichever client it was asked for. */
export function isAnswerToGateway(message: Message): boolean {
  return parentOf(message).id.startsWith(questionPrefix);
}

function isOpen({ repliedAt, idleAt }: Request): boolean {
  return repliedAt === undefined || idleAt === undefined;
}
