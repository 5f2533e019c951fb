/** How far a copy is, in one line on stderr that is drawn anew four times a second; silent where stderr is no terminal. */
import { bytesText } from './table.ts';

const everyMs = 250;

export class Progress {
  readonly #totalBytes: number | undefined;
  #shownAtMs = performance.now();
  #isShown = false;

  constructor(totalBytes: number | undefined) {
    this.#totalBytes = totalBytes;
  }

  /** So many bytes are there now. */
  show(bytes: number): void {
    const now = performance.now();
    if (!process.stderr.isTTY || now - this.#shownAtMs < everyMs) return;
    this.#shownAtMs = now;
    this.#isShown = true;
    const of = this.#totalBytes === undefined ? '' : ` of ${bytesText(this.#totalBytes)}`;
    process.stderr.write(`\r\x1b[K${bytesText(bytes)}${of}`);
  }

  /** Clears the line. */
  done(): void {
    if (this.#isShown) process.stderr.write('\r\x1b[K');
  }
}
