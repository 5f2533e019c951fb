/**
 * The start and run leases (SPEC rule M6): counted from when the last answered ping was sent, on a socket whose attach the
 * ledger accepted, on CLOCK_BOOTTIME. Whoever holds no lease waits; nothing here renews itself.
 */
import type { Clock } from '../../schema/ports.ts';
import { limits } from '../../schema/protocol/limits.ts';
import type { Leases } from '../dispatch.ts';

export class PingLeases implements Leases {
  readonly #clock: Clock;
  #answeredPingSentAt: number | undefined;
  readonly #tasks = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A ping sent at `sentAtBootMs` was answered. */
  renew(sentAtBootMs: number): void {
    this.#answeredPingSentAt = Math.max(sentAtBootMs, this.#answeredPingSentAt ?? sentAtBootMs);
    for (const task of this.#tasks) task();
  }

  startHeld(): boolean {
    return this.runRemainingMs(limits.startLeaseMs) > 0;
  }

  whenStartHeld(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!signal.aborted && !this.startHeld()) return;
        forget();
        signal.removeEventListener('abort', look);
        if (signal.aborted) reject(signal.reason as Error);
        else resolve();
      };
      const forget = this.onRenew(look);
      signal.addEventListener('abort', look);
      look();
    });
  }

  runRemainingMs(leaseMs: number): number {
    if (this.#answeredPingSentAt === undefined) return 0;
    return Math.max(0, this.#answeredPingSentAt + leaseMs - this.#clock.bootMs());
  }

  onRenew(task: () => void): () => void {
    this.#tasks.add(task);
    return () => this.#tasks.delete(task);
  }
}
