/**
 * How much is sent to a client that can not say what it has read: the runtime takes every `send` and holds it in memory.
 * So there is a budget, whole again whenever the client says anything, and refilled slowly while it is silent, so that one
 * who only reads is never cut. Beyond it nothing is taken from the tunnel, and a client that was silent for five minutes
 * with its budget spent is given up: it comes back and goes on where it was.
 */
import type { Clock, Timers } from '../../../schema/ports.ts';

export interface UnprovenLimits {
  capacityBytes: number;
  refillBytesPerSecond: number;
  silenceMs: number;
}

const mebi = 1024 * 1024;
const silenceMs = 300_000;
/** On one machine the memory is all ours; in production the isolate has 128 MiB, and the platform takes what it sends. */
export const unprovenLimits: Readonly<Record<'machine' | 'production', UnprovenLimits>> = {
  machine: { capacityBytes: 256 * mebi, refillBytesPerSecond: mebi, silenceMs },
  production: { capacityBytes: 32 * mebi, refillBytesPerSecond: 8 * mebi, silenceMs },
};

export class Unproven {
  readonly #limits: UnprovenLimits;
  readonly #ports: { clock: Clock; timers: Timers };
  #left: number;
  #filledAtMs: number;
  #heardAtMs: number;
  #wake: (() => void) | undefined;

  constructor(limits: UnprovenLimits, ports: { clock: Clock; timers: Timers }) {
    this.#limits = limits;
    this.#ports = ports;
    this.#left = limits.capacityBytes;
    this.#filledAtMs = ports.clock.bootMs();
    this.#heardAtMs = this.#filledAtMs;
  }

  /** The client said something. */
  heard(): void {
    this.#left = this.#limits.capacityBytes;
    this.#heardAtMs = this.#ports.clock.bootMs();
    this.#wake?.();
  }

  /** Takes `bytes` off, when something is left; the last message may be larger. False: the client is given up. */
  async spend(bytes: number): Promise<boolean> {
    this.#refill();
    while (this.#left <= 0) {
      if (this.#ports.clock.bootMs() - this.#heardAtMs >= this.#limits.silenceMs) return false;
      await this.#wait();
      this.#refill();
    }
    this.#left -= bytes;
    return true;
  }

  /** Nobody waits any more. */
  stop(): void {
    this.#left = Number.POSITIVE_INFINITY;
    this.#wake?.();
  }

  #refill(): void {
    const nowMs = this.#ports.clock.bootMs();
    const refilled = ((nowMs - this.#filledAtMs) / 1000) * this.#limits.refillBytesPerSecond;
    this.#filledAtMs = nowMs;
    if (this.#left < this.#limits.capacityBytes)
      this.#left = Math.min(this.#limits.capacityBytes, this.#left + refilled);
  }

  #wait(): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#ports.timers.after(200, () => this.#wake?.());
      this.#wake = () => {
        cancel();
        this.#wake = undefined;
        resolve();
      };
    });
  }
}
