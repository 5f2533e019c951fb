/**
 * What one Jupyter kernel is told: records of several writers, each kept before it is taken, and given to the kernel's bridge
 * once, over the death of the agent too. One of the writers is the agent itself, for runs.
 */
import { Refusal } from '../../schema/errors.ts';
import type { Timers } from '../../schema/ports.ts';
import { runsWriter } from '../../schema/protocol/channels.ts';
import type { Disk } from '../disk.ts';
import type { Bell } from '../bell.ts';
import { InputJournal, type RecordBytes } from './input-journal.ts';
import { toRequestRecord } from './jupyter-requests.ts';

const retryMs = 1_000;

/** A writer that belongs to one stream. */
export interface HeldWriter {
  /** Aborts when another stream of it came. */
  signal: AbortSignal;
  /** Takes a record: resolves when it is kept, with the end of it. It is given to the kernel once, whatever dies. @throws Refusal */
  say: (record: RecordBytes) => Promise<number>;
  done: () => void;
}

/** What the agent itself says, at its offset of that (`jupyter-requests.ts`). */
export interface Frame {
  at: number;
  text: string;
}

/** The kernel. */
export interface InputOwner {
  timers: Timers;
  disk: Disk;
  bell: Bell;
  /** The start that takes input; undefined while none does. */
  taking(): number | undefined;
  /** Writes to the standard input of the kernel's bridge. */
  write(offset: number, bytes: Uint8Array): Promise<void>;
  failed(error: unknown): void;
}

export class JupyterInput {
  readonly #path: string;
  readonly #owner: InputOwner;
  readonly #journal: InputJournal;
  /** The start that is being given its input. */
  #givingTo: number | undefined;
  #isRetrying = false;
  /** Where writers are: `never` where the session was over before it was read. */
  #known: 'not-yet' | 'known' | 'never' = 'not-yet';
  /** What is said by the agent itself, one after the other. */
  #saying: Promise<void> = Promise.resolve();
  readonly #writers = new Map<string, { taken: AbortController; appending: Promise<void> }>();

  constructor(path: string, owner: InputOwner) {
    this.#path = path;
    this.#owner = owner;
    this.#journal = new InputJournal(path, owner.disk);
  }

  /** Takes up what is kept for this start. */
  async open(starts: number): Promise<void> {
    await this.#journal.open(starts);
    this.#known = 'known';
    this.#owner.bell.ring();
  }

  /** Nothing will be read any more. */
  over(): void {
    if (this.#known === 'not-yet') this.#known = 'never';
    this.#owner.bell.ring();
  }

  /**
   * Resolves when it is known where writers are, which an agent that has just begun has to read first, or `signal` aborts.
   * @throws Refusal `session_ended` when it never will be
   */
  async whenKnown(signal: AbortSignal): Promise<void> {
    await this.#owner.bell.whileSo(() => this.#known === 'not-yet', signal);
    if (this.#known === 'never') throw new Refusal('session_ended', 'The session has ended. Start a new one.');
  }

  /** Another start: nothing that the former had not read is given to it. */
  restart(starts: number): Promise<void> {
    return this.#journal.restart(starts);
  }

  close(): Promise<void> {
    return this.#journal.close();
  }

  remove(): Promise<void> {
    return this.#journal.remove();
  }

  get disk(): Disk {
    return this.#owner.disk;
  }

  /** Where a record of a writer may be put together. */
  stagingPath(writer: string): string {
    return `${this.#path}.${writer}`;
  }

  /** From where a writer goes on. */
  offsetOf(writer: string): number {
    return this.#journal.endOf(writer);
  }

  /** Makes `writer` that of the caller alone: from then on its place does not move by others. */
  async hold(writer: string): Promise<HeldWriter> {
    const before = this.#writers.get(writer);
    const taken = new AbortController();
    const mine = { taken, appending: before?.appending ?? Promise.resolve() };
    this.#writers.set(writer, mine);
    before?.taken.abort();
    // What the former keeps just now is kept before anybody is told where this writer is.
    await mine.appending.catch(() => undefined);
    return {
      signal: taken.signal,
      say: async (record) => {
        if (taken.signal.aborted) throw new Refusal('kernel_writer_replaced');
        mine.appending = this.#journal.append(writer, record);
        await mine.appending;
        this.give();
        return this.offsetOf(writer);
      },
      done: () => {
        if (this.#writers.get(writer) === mine) this.#writers.delete(writer);
      },
    };
  }

  /**
   * Says something of the agent's own, behind what it said before: `save` keeps what it is and where it begins, so that
   * another agent can say it again. Resolves when that is kept. Of a start that ended meanwhile nothing is said.
   */
  say(text: string, save: (frame: Frame) => Promise<void>): Promise<void> {
    const starts = this.#owner.taking();
    const kept = Promise.withResolvers<void>();
    this.#saying = this.#saying.then(async () => {
      if (starts === undefined || this.#owner.taking() !== starts) return kept.resolve();
      const frame = { at: this.offsetOf(runsWriter), text };
      await save(frame);
      kept.resolve();
      await this.#sayOnce(frame, starts);
    });
    this.#saying.catch(kept.reject);
    this.#saying = this.#saying.catch((error: unknown) => this.#owner.failed(error));
    return kept.promise;
  }

  /** What an earlier agent was about to say, unless that was said. */
  sayAgain(frame: Frame): void {
    const starts = this.#owner.taking();
    if (starts !== undefined) this.#saying = this.#saying.then(() => this.#sayOnce(frame, starts));
  }

  async #sayOnce({ at, text }: Frame, starts: number): Promise<void> {
    const bytes = toRequestRecord(text);
    while (this.#owner.taking() === starts && this.offsetOf(runsWriter) <= at) {
      try {
        await this.#journal.append(runsWriter, { sizeBytes: bytes.byteLength, bytes });
      } catch (error) {
        this.#owner.failed(error);
        await new Promise<void>((resolve) => void this.#owner.timers.after(retryMs, resolve));
      }
    }
    this.give();
  }

  /** Resolves when there is room for more input, or `signal` aborts. */
  whenRoom(signal: AbortSignal): Promise<void> {
    return this.#owner.bell.whileSo(() => !this.#journal.hasRoom, signal);
  }

  /** Gives this start what waits for it, if nobody does. */
  give(): void {
    const { bell, timers } = this.#owner;
    const starts = this.#owner.taking();
    if (starts === undefined || this.#givingTo === starts) return;
    this.#givingTo = starts;
    const write = async (offset: number, bytes: Uint8Array) => {
      // One of before may hang for ever: its process is gone.
      if (this.#owner.taking() !== starts) throw new Error('another start');
      await this.#owner.write(offset, bytes);
      bell.ring();
    };
    const end = (delayMs: number) => {
      if (this.#givingTo !== starts) return;
      this.#givingTo = undefined;
      bell.ring();
      if (this.#journal.waitingBytes === 0) return;
      if (delayMs === 0) return this.give();
      if (this.#isRetrying) return;
      this.#isRetrying = true;
      timers.after(delayMs, () => {
        this.#isRetrying = false;
        this.give();
      });
    };
    this.#journal.give(write).then(
      () => end(0),
      (error: unknown) => {
        this.#owner.failed(error);
        end(retryMs);
      },
    );
  }
}
