/**
 * Feeds the stdin of one process: one piece at a time, the next when the init says how much the pipe took. It goes on
 * after a reconnect at the offset that the init then tells, so that nothing is written twice.
 */
import { maxDataBytes } from './messages.ts';
import { InitRefusal } from './refusal.ts';

export class StdinWriter {
  readonly #send: (offset: number, bytes: Uint8Array) => void;
  #offset: number | undefined;
  #hasRoom = false;
  #closed = false;
  #failure: Error | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #wake = (): void => {};

  /** `send` puts a STDIN frame on the connection; it is called only between `connected` and `disconnected`. */
  constructor(send: (offset: number, bytes: Uint8Array) => void) {
    this.#send = send;
  }

  /** Bytes that the process's pipe has taken, as far as this link knows. */
  get offset(): number {
    return this.#offset ?? 0;
  }

  /** In order of the calls. Resolves with the offset behind `bytes`; what lies before the present offset is skipped. */
  write(offset: number, bytes: Uint8Array): Promise<number> {
    const written = this.#turn.then(() => this.#write(offset, bytes));
    this.#turn = written.catch(() => {});
    return written;
  }

  /** Resolves when everything that was given to `write` is settled. */
  async settled(): Promise<void> {
    await this.#turn;
  }

  acknowledged(offset: number, hasRoom: boolean, closed: boolean): void {
    this.#offset = offset;
    this.#hasRoom = hasRoom;
    this.#closed = closed;
    this.#wake();
  }

  disconnected(): void {
    this.#hasRoom = false;
  }

  fail(error: Error): void {
    this.#failure = error;
    this.#wake();
  }

  async #write(offset: number, bytes: Uint8Array): Promise<number> {
    const end = offset + bytes.length;
    while (this.#offset === undefined || this.#offset < end) {
      if (this.#failure) throw this.#failure;
      if (this.#closed) throw new InitRefusal('stdin_closed', 'the process does not read its input any more');
      const acknowledged = new Promise<void>((resolve) => (this.#wake = resolve));
      if (this.#offset !== undefined && this.#hasRoom) this.#sendFrom(this.#offset, offset, bytes);
      await acknowledged;
    }
    return end;
  }

  #sendFrom(at: number, offset: number, bytes: Uint8Array): void {
    if (at < offset) throw new RangeError(`stdin is at ${at}, not yet at ${offset}`);
    this.#hasRoom = false;
    this.#send(at, bytes.subarray(at - offset, at - offset + maxDataBytes));
  }
}
