/** The file of one placement while it is worked on: changes in order, each durable, and each event recorded once. */
import type { AgentEvent } from '../../schema/protocol/events.ts';
import type { SessionHost } from './host.ts';
import type { PlacementFile } from './placement.ts';

export class PlacementRecord {
  readonly #host: Pick<SessionHost, 'store' | 'services' | 'clock' | 'log'>;
  #now: PlacementFile;
  #writing: Promise<void> | undefined;
  /** The write that comes after the one under way: it has every change made until it begins. */
  #next: Promise<void> | undefined;
  /** Events on their way into the journal, by kind. */
  readonly #recording = new Map<string, Promise<void>>();

  constructor(host: Pick<SessionHost, 'store' | 'services' | 'clock' | 'log'>, placement: PlacementFile) {
    this.#host = host;
    this.#now = placement;
  }

  get now(): PlacementFile {
    return this.#now;
  }

  /** Resolves when the change, and all before it, are on the disk. */
  save(changes: Partial<PlacementFile>): Promise<void> {
    this.#now = { ...this.#now, ...changes };
    this.#next ??= this.#writeNext();
    return this.#next;
  }

  /**
   * Resolves when the event is in the journal, unless it was before. That it is there is noted in this file behind it:
   * a crash between the two brings the event a second time.
   */
  record(body: AgentEvent['body']): Promise<void> {
    const { kind } = body;
    if (this.#now.recorded.includes(kind)) return Promise.resolve();
    const recording = this.#recording.get(kind) ?? this.#recordNow(body).finally(() => this.#recording.delete(kind));
    this.#recording.set(kind, recording);
    return recording;
  }

  /** The note comes when the event is on the disk: whatever else saves this file meanwhile would bring it there first. */
  async #recordNow(body: AgentEvent['body']): Promise<void> {
    const { sessionId, generation } = this.#now;
    await this.#host.services.recordEvent({ sessionId, generation, atMs: this.#host.clock.nowMs(), body });
    this.save({ recorded: [...this.#now.recorded, body.kind] }).catch((error: unknown) => {
      this.#host.log.warn('the file of a placement could not be written', { sessionId, error: String(error) });
    });
  }

  /** Whatever is recorded from here on is an event again. */
  forget(): Promise<void> {
    return this.save({ recorded: [] });
  }

  /** Resolves when nothing is being written. */
  async settled(): Promise<void> {
    await Promise.allSettled([this.#writing, this.#next]);
  }

  async #writeNext(): Promise<void> {
    await this.#writing?.catch(() => undefined);
    this.#next = undefined;
    this.#writing = this.#host.store.save(this.#now);
    await this.#writing;
  }
}
