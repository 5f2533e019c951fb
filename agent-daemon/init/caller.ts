/**
 * The second way to an init: its stdin and stdout, through the engine's `attach`, where a container can not reach a
 * socket. There are no connections there: either end may find itself in the middle of what a dead one left behind. So
 * the agent calls until it is answered: a call sign that nothing of the tenant's can hold, then the usual handshake.
 */
import type { Duplex } from 'node:stream';
import type { Random, Timers } from '../../schema/ports.ts';
import { encode, FrameReader, MalformedFrame } from './codec.ts';
import { Handshake, refuseHello, type KeyStore } from './handshake.ts';
import type { FromInit } from './messages.ts';
import { callSign } from './session-key.ts';

const callEveryMs = 1000;

export interface CallerOptions {
  keys: KeyStore;
  random: Random;
  timers: Timers;
  /** The authenticated stream, paused, without listeners. */
  onInit(stream: Duplex): void;
}

/** Finds a call sign in a stream of bytes, wherever its pieces begin. 0xff comes only at the sign's start. */
class SignFinder {
  readonly #sign: Buffer;
  #matched = 0;

  constructor(sign: Buffer) {
    this.#sign = sign;
  }

  /** The place behind the sign in `chunk`, or -1. */
  find(chunk: Buffer): number {
    for (const [place, byte] of chunk.entries()) {
      if (byte !== this.#sign[this.#matched]) this.#matched = 0;
      if (byte === this.#sign[this.#matched]) this.#matched++;
      if (this.#matched === this.#sign.length) {
        this.#matched = 0;
        return place + 1;
      }
    }
    return -1;
  }
}

/** Calls the init at the other end of `stream` until it is authenticated or the stream ends. */
export class InitCaller {
  readonly #options: CallerOptions;
  readonly #stream: Duplex;
  #finders: SignFinder[] = [];
  #reader: FrameReader | undefined;
  #handshake: Handshake | undefined;
  #cancelTimer = (): void => {};
  #calls = 0;

  constructor(options: CallerOptions, stream: Duplex) {
    this.#options = options;
    this.#stream = stream;
  }

  start(): void {
    this.#stream.on('data', (chunk: Buffer) => this.#read(chunk));
    this.#stream.on('error', () => this.stop());
    this.#stream.on('close', () => this.stop());
    this.#call();
  }

  stop(): void {
    this.#cancelTimer();
    this.#stream.destroy();
  }

  /** Until the key is confirmed it is not known whether the init has it: both signs are tried in turn. */
  #call(): void {
    const key = this.#options.keys.key();
    const signs = [...(key?.confirmed ? [] : [callSign()]), ...(key ? [callSign(key.bytes)] : [])];
    this.#finders = signs.map((sign) => new SignFinder(sign));
    this.#reader = undefined;
    this.#handshake = undefined;
    this.#stream.write(signs[this.#calls++ % signs.length]);
    this.#cancelTimer = this.#options.timers.after(callEveryMs, () => this.#call());
  }

  #read(chunk: Buffer): void {
    try {
      for (const frame of this.#frames(chunk)) this.#take(frame);
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error;
      this.#reader = undefined; // it was not the init's answer to this call; the next call comes
    }
  }

  #frames(chunk: Buffer): FromInit[] {
    for (const finder of this.#finders) {
      const place = finder.find(chunk);
      if (place < 0) continue;
      this.#reader = new FrameReader();
      return [...this.#reader.push(chunk.subarray(place))];
    }
    return this.#reader ? [...this.#reader.push(chunk)] : [];
  }

  #take(frame: FromInit): void {
    const { keys, random } = this.#options;
    if (this.#handshake) {
      this.#guard(this.#finish(this.#handshake, frame));
      return;
    }
    if (frame.type !== 'hello') throw new MalformedFrame('not a HELLO');
    const reason = refuseHello(frame, keys.key());
    if (reason) throw new MalformedFrame(reason);
    this.#handshake = new Handshake(keys, random, frame);
    this.#guard(this.#handshake.answer(random).then((answer) => void this.#stream.write(answer)));
  }

  #guard(step: Promise<void>): void {
    step.catch(() => this.stop());
  }

  async #finish(handshake: Handshake, frame: FromInit): Promise<void> {
    if (!(await handshake.accept(frame)) || this.#handshake !== handshake) return;
    this.#cancelTimer();
    this.#stream.pause();
    this.#stream.removeAllListeners('data').removeAllListeners('error').removeAllListeners('close');
    this.#stream.write(encode({ type: 'welcome' }));
    this.#options.onInit(this.#stream);
  }
}
