/** An end for answers that go on for ever: a path that died in silence (a laptop asleep, a NAT that forgot) is told by nobody. */
export class SilenceLimit {
  readonly #controller = new AbortController();
  readonly #timer: NodeJS.Timeout;

  /** `limitMs`: the longest time without a byte; the server's heartbeats are some. */
  constructor(limitMs: number) {
    this.#timer = setTimeout(() => this.#controller.abort(), limitMs);
  }

  /** For the request. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The body of its answer, each part of which is a sign of life. */
  async *over(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      this.#timer.refresh();
      yield chunk;
    }
  }

  /** The request is over. */
  stop(): void {
    clearTimeout(this.#timer);
  }
}
