/** Tells whoever waits that something changed. Who looked before the change and waits after it does not miss it. */
export class Bell {
  #turn = 0;
  #next = Promise.withResolvers<void>();

  /** The number of changes so far: take it before you look. */
  get turn(): number {
    return this.#turn;
  }

  ring(): void {
    this.#turn++;
    this.#next.resolve();
    this.#next = Promise.withResolvers<void>();
  }

  /** Resolves when there was a change after `turn`, or `signal` aborts. */
  async past(turn: number, signal: AbortSignal): Promise<void> {
    if (this.#turn > turn || signal.aborted) return;
    const aborted = Promise.withResolvers<void>();
    const abort = () => aborted.resolve();
    signal.addEventListener('abort', abort, { once: true });
    await Promise.race([this.#next.promise, aborted.promise]);
    signal.removeEventListener('abort', abort);
  }
}
