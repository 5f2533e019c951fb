/** Between an outbox of rows and the publisher of events: which rows are settled, and when to try the others again. */
import type { CausewayEvent } from '../../schema/api/event.ts';
import type { Log, Timers } from '../../schema/ports.ts';
import { describeError } from '../platform/log.ts';
import type { EventPublisher } from './publish.ts';

export interface EventRow {
  seq: number;
  events: readonly CausewayEvent[];
}

/**
 * Publishes the events of some rows, oldest first; `behind`: how many rows wait after them. Returns the `seq` of the last
 * row of which everything is settled, undefined when none is. Never throws.
 */
export async function publishRows(
  publisher: EventPublisher,
  rows: readonly EventRow[],
  behind: number,
): Promise<number | undefined> {
  let left = await publisher.publish(
    rows.flatMap(({ events }) => events),
    behind,
  );
  let settled: number | undefined;
  for (const { seq, events } of rows) {
    left -= events.length;
    if (left < 0) break;
    settled = seq;
  }
  return settled;
}

export interface EventSinkPorts {
  publisher: EventPublisher;
  /** Rows that are not settled, oldest first. */
  undelivered(limit: number): EventRow[];
  /** `seq` of the newest row. */
  lastSeq(): number;
  /** Everything up to this row is settled. */
  delivered(uptoSeq: number): void;
  after: Timers['after'];
  log: Log;
}

const rowsPerRound = 100;
const firstPauseMs = 1_000;
const pauseCapMs = 60_000;

/** Empties an outbox that has no other sink. One round at a time; a failed one is repeated with a growing pause. */
export class EventSink {
  readonly #ports: EventSinkPorts;
  #isBusy = false;
  #failures = 0;
  /** Takes back the round that waits, of which there is one at most. */
  #cancel: () => void = () => undefined;

  constructor(ports: EventSinkPorts) {
    this.#ports = ports;
  }

  /** Publishes what there is; resolves when nothing is left, or what is left waits for another try. Never throws. */
  async kick(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    this.#cancel();
    try {
      for (;;) {
        const rows = this.#ports.undelivered(rowsPerRound);
        const last = rows.at(-1);
        if (!last) break;
        const settled = await publishRows(this.#ports.publisher, rows, this.#ports.lastSeq() - last.seq);
        if (settled !== undefined) this.#ports.delivered(settled);
        if (settled === last.seq) this.#failures = 0;
        else {
          this.#pause();
          break;
        }
      }
    } catch (error) {
      // Published, and not written down: it is published again.
      this.#ports.log.error('the outbox failed', { error: describeError(error).cause });
      this.#pause();
    } finally {
      this.#isBusy = false;
    }
  }

  #pause(): void {
    const pauseMs = Math.min(pauseCapMs, firstPauseMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#cancel = this.#ports.after(pauseMs, () => void this.kick());
  }
}
