/**
 * Tells others what a ledger's turns left in its outbox: D1, the event bus, admission. Each sink has its own cursor and
 * pace; rows go in order, at least once. What fails is tried again with a growing pause, and by the ledger's alarm.
 */
import type { Cursors, OutboxRow } from '../../../schema/ledger/book.ts';
import type { Log, Timers } from '../../../schema/ports.ts';
import type { LedgerTimers } from './timers.ts';
import { describeError } from '../../platform/log.ts';

export type Sink = keyof Cursors;

export interface OutboxPorts {
  undelivered(sink: Sink, limit: number): OutboxRow[];
  /** Sinks have everything up to these rows. */
  delivered(cursors: Partial<Cursors>): void;
  /**
   * Rejects when it is unknown whether the sink has the rows. A sink that has only the first of them returns the `seq` of
   * the last that it has; the rest is tried again. Must be idempotent.
   */
  deliver: Readonly<Record<Sink, (rows: readonly OutboxRow[]) => Promise<number | undefined>>>;
  after: Timers['after'];
  timers: LedgerTimers;
  log: Log;
}

const rowsPerDelivery = 100;
/** Cursors of sinks that finish within this are written as one row. */
const gatherMs = 20;

interface Pace {
  busy: boolean;
  failures: number;
  /** Takes back the try that waits, of which there is one at most: whatever tries before takes its place. */
  cancel: () => void;
}

const fresh = (): Pace => ({ busy: false, failures: 0, cancel: () => undefined });

export class OutboxPump {
  readonly #ports: OutboxPorts;
  readonly #paces: Record<Sink, Pace> = {
    readModel: fresh(),
    events: fresh(),
    admission: fresh(),
  };
  #done: Partial<Cursors> = {};
  #gathering: Promise<void> | undefined;

  constructor(ports: OutboxPorts) {
    this.#ports = ports;
  }

  /** Delivers what there is; resolves when every sink is up to date or waits for another try. */
  async kick(): Promise<void> {
    await Promise.all((Object.keys(this.#paces) as Sink[]).map((sink) => this.#run(sink)));
  }

  async #run(sink: Sink): Promise<void> {
    const pace = this.#paces[sink];
    if (pace.busy) return;
    pace.busy = true;
    pace.cancel();
    try {
      for (;;) {
        const rows = this.#ports.undelivered(sink, rowsPerDelivery);
        const last = rows.at(-1);
        if (!last) break;
        const upto = await this.#ports.deliver[sink](rows);
        if (upto !== undefined) await this.#note(sink, upto);
        if (upto !== last.seq) throw new Error('not all rows were taken');
        pace.failures = 0;
      }
    } catch (error) {
      pace.failures += 1;
      this.#ports.log.warn('a sink of the outbox failed', {
        sink,
        failures: pace.failures,
        error: describeError(error).cause,
      });
      const { outboxFirstMs, outboxCapMs } = this.#ports.timers;
      const pauseMs = Math.min(outboxCapMs, outboxFirstMs * 2 ** (pace.failures - 1));
      pace.cancel = this.#ports.after(pauseMs, () => void this.#run(sink));
    } finally {
      pace.busy = false;
    }
  }

  /** Notes a delivery; resolves when the cursor is written. */
  #note(sink: Sink, seq: number): Promise<void> {
    this.#done[sink] = seq;
    this.#gathering ??= new Promise((resolve, reject) => {
      this.#ports.after(gatherMs, () => {
        this.#gathering = undefined;
        const done = this.#done;
        this.#done = {};
        try {
          this.#ports.delivered(done);
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
    return this.#gathering;
  }
}
