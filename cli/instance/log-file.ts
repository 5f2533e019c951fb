/** What a part said, kept in a file of bounded size: the present one and the one before it. */
import { closeSync, fstatSync, openSync, renameSync, writeSync } from 'node:fs';

const MAX_BYTES = 16 * 1024 * 1024;

export class LogFile {
  readonly path: string;
  #handle: number;
  #size: number;

  constructor(path: string) {
    this.path = path;
    this.#handle = openSync(path, 'a', 0o600);
    this.#size = fstatSync(this.#handle).size;
  }

  /** Adds one line. A full disk loses it, and nothing else. */
  write(line: string): void {
    const bytes = Buffer.from(`${line}\n`);
    try {
      if (this.#size + bytes.length > MAX_BYTES) this.#rotate();
      this.#size += writeSync(this.#handle, bytes);
    } catch {
      // the part goes on; its log has a hole
    }
  }

  close(): void {
    closeSync(this.#handle);
  }

  #rotate(): void {
    renameSync(this.path, `${this.path}.1`);
    closeSync(this.#handle);
    this.#handle = openSync(this.path, 'a', 0o600);
    this.#size = 0;
  }
}
