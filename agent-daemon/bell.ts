/** Tells whoever waits that something changed. Who looked before the change and waits after it does not miss it. */
import { type Changing, whenDue } from './wake.ts';

export class Bell implements Changing {
  #turn = 0;
  readonly #listeners = new Set<() => void>();

  /** The number of changes so far: take it before you look. */
  get turn(): number {
    return this.#turn;
  }

  ring(): void {
    this.#turn++;
    for (const listener of this.#listeners) listener();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when there was a change after `turn`, or `signal` aborts. */
  past(turn: number, signal: AbortSignal): Promise<void> {
    return whenDue(() => this.#turn > turn, [this], signal);
  }

  /** Resolves when it `isSo` no more, which is looked at again after each change, or `signal` aborts. */
  async whileSo(isSo: () => boolean, signal: AbortSignal): Promise<void> {
    for (let turn = this.#turn; !signal.aborted && isSo(); turn = this.#turn) await this.past(turn, signal);
  }
}
