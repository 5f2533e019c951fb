/**
 * One line on stderr that says what is being waited for, once the wait passes a second: rewritten in place on a terminal,
 * a new line per change otherwise. Silent with `quiet`.
 */
export class WaitingLine {
  readonly #quiet: boolean;
  readonly #started = performance.now();
  #shown = '';
  #timer: NodeJS.Timeout | undefined;
  #reason = '';

  constructor(quiet: boolean) {
    this.#quiet = quiet;
  }

  /** What is waited for now. Shown at once when the wait is already longer than a second. */
  say(reason: string): void {
    this.#reason = reason;
    if (this.#quiet) return;
    this.#timer ??= setInterval(() => this.#draw(), 500);
    this.#timer.unref();
    this.#draw();
  }

  /** The wait is over: clears the line. */
  done(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    if (this.#shown !== '' && process.stderr.isTTY) process.stderr.write('\r\x1b[K');
    this.#shown = '';
  }

  #draw(): void {
    const waitedMs = performance.now() - this.#started;
    if (waitedMs < 1000 || this.#reason === '') return;
    if (process.stderr.isTTY) {
      const waited = ` (${Math.round(waitedMs / 1000)} s)`;
      const room = (process.stderr.columns || 80) - 1 - waited.length;
      const line = `causeway: ${this.#reason}`.slice(0, room) + waited;
      process.stderr.write(`\r\x1b[K${line}`);
      this.#shown = line;
    } else if (this.#shown !== this.#reason) {
      process.stderr.write(`causeway: ${this.#reason}\n`);
      this.#shown = this.#reason;
    }
  }
}
