/**
 * The receiving side's window of one stream (SPEC rules S3, S4): how much the other end may still send, when to grant more,
 * and how far to grow. Growth follows the bandwidth-delay product: the time from a grant to the first byte that only it
 * allowed is a round trip or more, so the least of these, times the rate of consumption, is what the path can hold. Pure.
 */
import { limits } from './limits.ts';

/** Clocks of some runtimes stand still while code runs; a shorter time says nothing. */
const leastMs = 0.05;
/** A window is this many bandwidth-delay products: fewer, and credit runs out between two grants before the rate is known. */
const windowProducts = 3;
/** Granted again when this share of the window was consumed: the larger, the more of a window lies idle. */
const grantShare = 1 / 4;

export class ReceiveWindow {
  readonly #maxBytes: number;
  #windowBytes: number = limits.initialWindowBytes;
  /** All bytes that the other end may send, ever; and what came of them. */
  #granted: number = limits.initialWindowBytes;
  #received = 0;
  #consumed = 0;
  /** Consumed and not granted again yet. */
  #owed = 0;
  #roundTripMs = Number.POSITIVE_INFINITY;
  /** The last grant: where credit ended before it, and when it was made. */
  #probe: { limit: number; atMs: number } | undefined;
  /** Since when, and from which consumed byte, the rate is measured: at least a round trip. */
  #epoch: { consumed: number; atMs: number };

  constructor(maxBytes: number, nowMs: number) {
    this.#maxBytes = maxBytes;
    this.#epoch = { consumed: 0, atMs: nowMs };
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  /** Received and not consumed. */
  get heldBytes(): number {
    return this.#received - this.#consumed;
  }

  /** False when the other end sent more than it may. */
  receive(bytes: number, nowMs: number): boolean {
    if (this.#received === 0) this.#epoch.atMs = nowMs;
    this.#received += bytes;
    if (this.#received > this.#granted) return false;
    if (this.#probe && this.#received > this.#probe.limit) {
      const tookMs = nowMs - this.#probe.atMs;
      if (tookMs >= leastMs) this.#roundTripMs = Math.min(this.#roundTripMs, tookMs);
      this.#probe = undefined;
    }
    return true;
  }

  /** The owner is done with these bytes. Answers what to grant now; 0 for nothing yet. */
  consume(bytes: number, nowMs: number): number {
    this.#consumed += bytes;
    this.#owed += bytes;
    if (this.#owed < this.#windowBytes * grantShare) return 0;
    const grown = this.#grown(nowMs);
    const grant = this.#owed + grown - this.#windowBytes;
    this.#windowBytes = grown;
    this.#probe ??= { limit: this.#granted, atMs: nowMs };
    this.#granted += grant;
    this.#owed = 0;
    return grant;
  }

  /** By what was consumed in a round trip or more. */
  #grown(nowMs: number): number {
    const tookMs = nowMs - this.#epoch.atMs;
    if (this.#windowBytes >= this.#maxBytes || tookMs < Math.max(leastMs, this.#roundTripMs)) return this.#windowBytes;
    const bytes = this.#consumed - this.#epoch.consumed;
    this.#epoch = { consumed: this.#consumed, atMs: nowMs };
    const wanted = windowProducts * (bytes / tookMs) * this.#roundTripMs;
    if (wanted <= this.#windowBytes * 1.1) return this.#windowBytes;
    return Math.min(this.#maxBytes, Math.ceil(wanted));
  }
}
