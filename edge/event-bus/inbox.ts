/**
 * What a subscription has heard and nobody has taken yet. Bounded: when it is full it lets go of everything and says so,
 * and its reader goes back to the stream, which has it all.
 */
export class Inbox {
  readonly #maxBytes: number;
  #messages: string[] = [];
  #bytes = 0;
  #end: string | undefined;
  #wake: (() => void) | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  push(message: string): void {
    if (this.#end !== undefined) return;
    this.#bytes += message.length;
    if (this.#bytes > this.#maxBytes) {
      this.#messages = [];
      this.close('the reader is slower than the events');
      return;
    }
    this.#messages.push(message);
    this.#wake?.();
  }

  /** No more will come. What is here can still be taken. */
  close(reason: string): void {
    this.#end ??= reason;
    this.#wake?.();
  }

  /** The next message; undefined when there is none and will be none. One caller at a time. */
  async take(): Promise<string | undefined> {
    while (this.#messages.length === 0) {
      if (this.#end !== undefined) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const message = this.#messages.shift();
    this.#bytes -= message?.length ?? 0;
    return message;
  }
}
