/**
 * What a hub may still have sent to one socket (SPEC rules S5, S6). The runtime takes whatever is sent and tells nothing,
 * and credit that a peer claims proves nothing; only a mark that comes back proves that everything before it was read.
 * Pure: bytes and marks, no clock.
 */
import { limits } from '../../schema/protocol/limits.ts';

/** What is left of an allowance that nobody needs, at each mark that comes back. */
const decay = 15 / 16;

interface Mark {
  /** The eight bytes as two numbers. */
  high: number;
  low: number;
  /** Bytes sent before it, and proven when it was sent. */
  sent: number;
  proven: number;
}

export class Allowance {
  #sent = 0;
  #proven = 0;
  #marked = 0;
  #marks: Mark[] = [];
  #allowed: number = limits.minAllowanceBytes;
  /** Credit of this socket's streams above their initial windows, given to senders and not used yet. */
  #extra = 0;
  /** Grants wait although the peer may be fast enough: their bytes are on a long way from the other end. */
  #limited = false;
  /** After a wake nobody knows what was sent before: nothing is granted until a new mark came back. */
  #unknown: boolean;

  constructor(afterWake: boolean) {
    this.#unknown = afterWake;
  }

  /** Sent and not proven to be read: what the runtime may hold for this socket. */
  get unprovenBytes(): number {
    return this.#sent - this.#proven;
  }

  get allowedBytes(): number {
    return this.#allowed;
  }

  /** Counts bytes given to the socket. True when a mark is due behind them. */
  send(bytes: number): boolean {
    this.#sent += bytes;
    return this.#sent - this.#marked >= limits.markEveryBytes;
  }

  /** True when only a new mark can tell what the peer has read. */
  get wantsMark(): boolean {
    return this.#unknown && this.#marks.length === 0;
  }

  /** Remembers a mark that is sent now. `bytes`: its eight random bytes. */
  mark(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, 8);
    this.#marks.push({ high: view.getUint32(0), low: view.getUint32(4), sent: this.#sent, proven: this.#proven });
    this.#marked = this.#sent;
  }

  /** A mark came back. False when we do not know it: made up, or from before a wake. */
  marked(view: DataView, at: number): boolean {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const index = this.#marks.findIndex((mark) => mark.high === high && mark.low === low);
    const mark = this.#marks[index];
    if (!mark) return false;
    this.#marks.splice(0, index + 1);
    this.#unknown = false;
    this.#proven = mark.sent;
    // From the sending of the mark to its return is one round trip.
    this.#allowed = Math.min(limits.maxAllowanceBytes, this.#earned(mark.sent - mark.proven));
    this.#limited = false;
    return true;
  }

  /** What a peer may have unproven that proved `perRoundTrip`. Kept, and more, only by one that keeps up. */
  #earned(perRoundTrip: number): number {
    const proven = Math.max(limits.minAllowanceBytes, 2 * perRoundTrip);
    if (this.unprovenBytes > this.#allowed / 2) return proven;
    if (this.#limited && this.unprovenBytes <= this.#allowed / 4) return Math.max(proven, 2 * this.#allowed);
    // A grant is of whole bytes: a part of one would count here and never reach the sender.
    return Math.max(proven, Math.floor(this.#allowed * decay));
  }

  /**
   * How much of `held` may be granted to the sender of a stream that has `unused` credit left. The initial window of a
   * stream is its own; what goes beyond it is shared by all streams of the socket.
   */
  grantable(held: number, unused: number): number {
    if (this.#unknown) return 0;
    const room = this.#allowed - this.unprovenBytes;
    if (room <= 0) return 0;
    const own = Math.max(0, limits.initialWindowBytes - unused);
    const grant = Math.min(held, own + Math.max(0, room - this.#extra));
    this.#limited ||= grant < held;
    return grant;
  }

  /** The unused credit of a stream changed. */
  creditChanged(before: number, after: number): void {
    this.#extra += Math.max(0, after - limits.initialWindowBytes) - Math.max(0, before - limits.initialWindowBytes);
  }
}
