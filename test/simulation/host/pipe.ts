/**
 * Two ends of a stream of bytes in memory, as a unix socket is one: bounded, in order, with a delay in virtual time. It
 * never touches a descriptor, so what arrives when is a matter of the timers alone.
 */
import { Duplex } from 'node:stream';
import type { Timers } from '../../../schema/ports.ts';

/** What an end holds that nobody has read. */
const bufferBytes = 64 * 1024;

export class PipeEnd extends Duplex {
  #peer!: PipeEnd;
  readonly #timers: Timers;
  readonly #delayMs: number;
  /** The writer waits until the reader has room. */
  #blocked: (() => void) | undefined;

  private constructor(timers: Timers, delayMs: number) {
    super({ highWaterMark: bufferBytes, emitClose: true });
    this.#timers = timers;
    this.#delayMs = delayMs;
    // An end that nobody looks after must not end the process.
    this.on('error', () => undefined);
  }

  /** Both ends; bytes take `delayMs` from one to the other. */
  static pair(timers: Timers, delayMs: number): [PipeEnd, PipeEnd] {
    const [left, right] = [new PipeEnd(timers, delayMs), new PipeEnd(timers, delayMs)];
    left.#peer = right;
    right.#peer = left;
    return [left, right];
  }

  /** The process that held this end is gone: nothing is told to it any more, the other end sees the end. */
  abandon(): void {
    this.removeAllListeners();
    this.on('error', () => undefined);
    this.destroy();
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    this.#pass(chunk, done);
  }

  override _writev(chunks: { chunk: Buffer }[], done: (error?: Error | null) => void): void {
    this.#pass(Buffer.concat(chunks.map(({ chunk }) => chunk)), done);
  }

  override _read(): void {
    const go = this.#blocked;
    this.#blocked = undefined;
    go?.();
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#timers.after(this.#delayMs, () => {
      this.#peer.push(null);
      done();
    });
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#blocked = undefined;
    this.#timers.after(this.#delayMs, () => {
      if (!this.#peer.destroyed) this.#peer.destroy();
    });
    done(error);
  }

  /** The bytes are copied: whoever wrote them may use the buffer again. */
  #pass(bytes: Buffer, done: (error?: Error | null) => void): void {
    const sent = Buffer.from(bytes);
    this.#timers.after(this.#delayMs, () => {
      const peer = this.#peer;
      if (peer.destroyed) return done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
      if (peer.push(sent)) return done();
      peer.#blocked = done;
    });
  }
}
