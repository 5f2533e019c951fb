import type { Refusal } from './messages.ts';

/**
 * The init said no, or can not be asked. `contact_lost`: the connection broke before the answer, the outcome is unknown.
 * `stdin_closed`: nobody reads there any more. `closed`: this link was closed.
 */
export class InitRefusal extends Error {
  readonly refusal: Refusal | 'contact_lost' | 'stdin_closed' | 'closed';

  constructor(refusal: InitRefusal['refusal'], message: string) {
    super(message);
    this.refusal = refusal;
  }
}
