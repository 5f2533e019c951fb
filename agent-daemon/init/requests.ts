/** Requests that wait for the init's answer, across reconnects where asking twice is the same as asking once. */
import type { FromInit, ToInit } from './messages.ts';
import { InitRefusal } from './refusal.ts';

/** A signal is not among them: whether it arrived is then unknown, and only the caller knows what that means. */
const repeatable = new Set<ToInit['type']>([
  'spawn',
  'stdinClose',
  'resize',
  'release',
  'lease',
  'terminate',
  'shutdown',
]);

interface Pending {
  frame: ToInit;
  answer: PromiseWithResolvers<void>;
}

export class Requests {
  #seq = 0;
  readonly #pending = new Map<number, Pending>();

  /** The sequence number for the next request, never 0. */
  nextSeq(): number {
    this.#seq = (this.#seq % 0xffff_ffff) + 1;
    return this.#seq;
  }

  /** Resolves when the init did it, rejects with `InitRefusal`. */
  wait(seq: number, frame: ToInit): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#pending.set(seq, { frame, answer });
    return answer.promise;
  }

  answered(frame: FromInit & { type: 'done' | 'refused' }): void {
    const pending = this.#pending.get(frame.seq);
    this.#pending.delete(frame.seq);
    if (frame.type === 'done') pending?.answer.resolve();
    else pending?.answer.reject(new InitRefusal(frame.refusal, `the init refused: ${frame.message || frame.refusal}`));
  }

  /** A spawn is answered by SPAWNED, which names the process. */
  spawned(processId: string): void {
    for (const [seq, { frame, answer }] of this.#pending) {
      if (frame.type !== 'spawn' || frame.spec.processId !== processId) continue;
      this.#pending.delete(seq);
      answer.resolve();
    }
  }

  /** What can not be repeated is given up, with an unknown outcome. */
  disconnected(): void {
    for (const [seq, { frame, answer }] of this.#pending) {
      if (repeatable.has(frame.type)) continue;
      this.#pending.delete(seq);
      answer.reject(new InitRefusal('contact_lost', 'the connection to the init broke before it answered'));
    }
  }

  /** Asks again, in the order in which it was asked. */
  repeat(send: (frame: ToInit, seq: number) => void): void {
    for (const [seq, { frame }] of this.#pending) send(frame, seq);
  }

  fail(error: Error): void {
    for (const { answer } of this.#pending.values()) answer.reject(error);
    this.#pending.clear();
  }
}
