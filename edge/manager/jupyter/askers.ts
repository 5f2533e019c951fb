/**
 * Whose answers are whose. A kernel has one client, its bridge, so its log holds the answers to everybody; at jupyter-server
 * each client gets those to what it asked itself, and a question (`input_request`) that all were shown would be answered by
 * the wrong one. Requests say in their header of which session they are, and answers repeat it.
 */
import type { Message } from '../../../schema/protocol/jupyter-framing.ts';
import { headingOf, parentOf } from './messages.ts';

/** Sessions that one client may speak as: a server before several pages has one for each. */
const maxSessions = 64;
/** Of a session that is compared. */
const maxLength = 256;

export class Askers {
  /** The last used at the end. */
  readonly #sessions = new Set<string>();

  /** `session`: by which the client is known, if it said so. */
  constructor(session: string | undefined) {
    if (session !== undefined) this.#sessions.add(session.slice(0, maxLength));
  }

  /** Takes what the client says. */
  hear(message: Message): void {
    const session = headingOf(message).session.slice(0, maxLength);
    if (session === '') return;
    this.#sessions.delete(session);
    this.#sessions.add(session);
    const [oldest] = this.#sessions;
    if (this.#sessions.size > maxSessions && oldest !== undefined) this.#sessions.delete(oldest);
  }

  /** True for an answer to somebody else. While nothing is known of the client, none is: it may have come back for it. */
  isForOthers(message: Message): boolean {
    if (message.channel === 'iopub' || this.#sessions.size === 0) return false;
    const { session } = parentOf(message);
    return session !== '' && !this.#sessions.has(session.slice(0, maxLength));
  }
}
