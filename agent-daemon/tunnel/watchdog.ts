/**
 * Watches one loop by its beats: a loop without a beat for two minutes is cut, and one that does not beat after that ends
 * the process, because a daemon that looks alive and does nothing is the worst of failures.
 */
import type { Clock, Log, Timers } from '../../schema/ports.ts';

const everyMs = 30_000;
const hungMs = 120_000;

export class Watchdog {
  #beatAtMs: number;
  #cutAtMs: number | undefined;
  #cancel: () => void = () => {};
  readonly #ports: { clock: Clock; timers: Timers; log: Log };
  readonly #cut: () => void;
  readonly #hung: () => void;

  /** @param cut ends what the loop waits for; @param hung ends the process */
  constructor(ports: { clock: Clock; timers: Timers; log: Log }, cut: () => void, hung: () => void) {
    this.#ports = ports;
    this.#cut = cut;
    this.#hung = hung;
    this.#beatAtMs = ports.clock.bootMs();
    this.#watch();
  }

  beat(): void {
    this.#beatAtMs = this.#ports.clock.bootMs();
    this.#cutAtMs = undefined;
  }

  stop(): void {
    this.#cancel();
  }

  #watch(): void {
    this.#cancel = this.#ports.timers.after(everyMs, () => {
      this.#look();
      this.#watch();
    });
  }

  #look(): void {
    const nowMs = this.#ports.clock.bootMs();
    if (this.#cutAtMs === undefined && nowMs - this.#beatAtMs >= hungMs) {
      this.#ports.log.error('the tunnel loop hangs and is cut', { silentMs: nowMs - this.#beatAtMs });
      this.#cutAtMs = nowMs;
      this.#cut();
    } else if (this.#cutAtMs !== undefined && nowMs - this.#cutAtMs >= hungMs) {
      this.#ports.log.error('the tunnel loop hangs for good: the agent ends itself');
      this.#hung();
    }
  }
}
