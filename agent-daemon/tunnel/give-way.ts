/**
 * Bulk gives way to people (SPEC rule S14). A hub is one thread: while it is handed bulk as fast as it takes it, it looks
 * at no other socket for milliseconds, and a key press waits behind megabytes. So while something moves on an interactive
 * socket of this agent, all its bulk together keeps to a pace that leaves the hub idle between two messages. Pure.
 */
import { limits } from '../../schema/protocol/limits.ts';

export class GiveWay {
  #interactiveAtMs = Number.NEGATIVE_INFINITY;
  /** When everything that bulk was given would have left at its pace. */
  #freeAtMs = Number.NEGATIVE_INFINITY;

  /** A message came or went on an interactive socket. */
  interactive(nowMs: number): void {
    this.#interactiveAtMs = nowMs;
  }

  /** Bulk hands over a message of `bytes`. Answers for how many ms it counts as under way; 0 while nobody is in its way. */
  bulk(bytes: number, nowMs: number): number {
    if (nowMs - this.#interactiveAtMs > limits.giveWayMs) return 0;
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + (bytes / limits.giveWayBytesPerSecond) * 1000;
    return this.#freeAtMs - nowMs;
  }
}
