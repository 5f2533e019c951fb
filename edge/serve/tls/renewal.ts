/**
 * Whether the certificate that is served has to make place for another, because it was made anew or its file was changed.
 * Who looks every minute notices a clock that jumped as well. Taking another cuts every connection for a moment, so it
 * waits for a quiet one, for at most a day, or half of the time that is left.
 */
import type { TlsMaterial } from './material.ts';

const dayMs = 86_400_000;

export class Renewal {
  #served: TlsMaterial;
  #foundAtMs: number | undefined;
  #refused: string | undefined;
  readonly #read: (nowMs: number) => TlsMaterial;
  readonly #onRefused: (why: string) => void;

  /** `read`: what should be served at a time. `onRefused` is told once why that can not be served; what is served stays. */
  constructor(served: TlsMaterial, read: (nowMs: number) => TlsMaterial, onRefused: (why: string) => void) {
    this.#served = served;
    this.#read = read;
    this.#onRefused = onRefused;
  }

  /** What is to be served from now on; undefined as long as nothing is to be changed. */
  look(nowMs: number, isQuiet: boolean): TlsMaterial | undefined {
    const wanted = this.#find(nowMs);
    if (wanted === undefined || isSame(wanted, this.#served)) {
      this.#foundAtMs = undefined;
      return undefined;
    }
    const foundAtMs = (this.#foundAtMs ??= nowMs);
    const patienceMs = Math.min(dayMs, (this.#served.endsAtMs - foundAtMs) / 2);
    // A clock that went back says nothing of how long it was.
    const isDue = nowMs < foundAtMs || nowMs >= foundAtMs + patienceMs;
    if (!isQuiet && !isDue) return undefined;
    this.#foundAtMs = undefined;
    return (this.#served = wanted);
  }

  #find(nowMs: number): TlsMaterial | undefined {
    try {
      const found = this.#read(nowMs);
      this.#refused = undefined;
      return found;
    } catch (error) {
      const why = (error as Error).message;
      if (why !== this.#refused) this.#onRefused(why);
      this.#refused = why;
      return undefined;
    }
  }
}

function isSame(one: TlsMaterial, other: TlsMaterial): boolean {
  return one.certificateChain === other.certificateChain && one.privateKey === other.privateKey;
}
