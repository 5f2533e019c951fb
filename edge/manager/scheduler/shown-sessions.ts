/**
 * Sessions as a ledger's readers see them, as finished text, kept until a turn touches them: most sessions are asked for
 * many times between two changes, and reading and rendering one costs more than all the rest of a GET.
 * Must never keep what changes without a turn of the session itself (why it waits, how far a pull is).
 */
import type { ShownSession } from './rpc.ts';

/** Together at most some 8 MB of an object's 128. Longer texts are made anew each time. */
const maxTexts = 2_000;
const maxLength = 4_096;

export class ShownSessions {
  readonly #kept = new Map<string, ShownSession>();

  find(sessionId: string): ShownSession | undefined {
    return this.#kept.get(sessionId);
  }

  keep(sessionId: string, shown: ShownSession): void {
    if (shown.text.length > maxLength) return;
    if (this.#kept.size >= maxTexts) {
      const [oldest] = this.#kept.keys();
      if (oldest !== undefined) this.#kept.delete(oldest);
    }
    this.#kept.set(sessionId, shown);
  }

  forget(sessionIds: Iterable<string>): void {
    for (const sessionId of sessionIds) this.#kept.delete(sessionId);
  }

  clear(): void {
    this.#kept.clear();
  }
}
